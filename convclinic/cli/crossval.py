"""convclinic crossval: every image tested once, by a net that has not seen it."""

from __future__ import annotations

from typing import Annotated

import typer

from convclinic.cli.options import (
    Budget,
    ClinicMode,
    Cluster,
    Data,
    Device,
    Json,
    Out,
    Quiet,
    RecipeFile,
    SeedOrNone,
    Settings,
    Workers,
    print_json,
)


def run(
    data: Data,
    folds: Annotated[int, typer.Option(help="How many parts; each is tested once.")] = 5,
    budget: Budget = None,
    out: Out = None,
    seed: SeedOrNone = None,
    recipe: RecipeFile = None,
    settings: Settings = None,
    workers: Workers = 0,
    cluster: Cluster = None,
    device: Device = None,
    clinic: ClinicMode = "watch",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a net for each of several folds, and say what they reach on images they have not seen.

    Classes keep their shares, copies and groups stay together, and the folds' nets are kept. The same command
    goes on after a stop.
    """
    from convclinic.job.crossvalidating import crossval

    done = crossval(
        data,
        n_folds=folds,
        budget=budget,
        out=out,
        seed=seed,
        recipe=recipe,
        settings=settings or (),
        device=device,
        workers=workers,
        cluster=cluster,
        clinic=clinic,
        quiet=quiet or as_json,
    )
    if as_json:
        print_json(done.to_dict())
    elif quiet:
        typer.echo(done.table())
