"""convclinic search: recipes tried around the planned one, the best ready to use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from convclinic.cli.options import (
    BackboneName,
    Budget,
    Cluster,
    Data,
    Device,
    Json,
    Out,
    Quiet,
    RecipeFile,
    SeedOrNone,
    Settings,
    WeightsFile,
    Workers,
    print_json,
)


def run(
    data: Data,
    space: Annotated[
        Path | None,
        typer.Option(help="YAML file of what to choose from; without it a usual space around the recipe."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="How many at most.")] = 40,
    budget: Budget = "1h",
    sampler: Annotated[
        str, typer.Option(help="tpe (Optuna's: learns from the trials), random, or grid (all combinations).")
    ] = "tpe",
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="CONVCLINIC_STORAGE",
            help="Database that several machines share: postgresql://USER:PASSWORD@HOST/DATABASE. "
            "Extra [postgres].",
        ),
    ] = None,
    top: Annotated[
        int, typer.Option(min=0, help="Make run folders of so many of the best, to use or join.")
    ] = 1,
    prune: Annotated[
        bool, typer.Option("--prune/--no-prune", help="Give hopeless trials up before their end.")
    ] = True,
    clinic: Annotated[
        str, typer.Option(help="watch (its verdict on the curves ends trials that cannot succeed) or off.")
    ] = "watch",
    out: Out = None,
    seed: SeedOrNone = None,
    recipe: RecipeFile = None,
    settings: Settings = None,
    weights: WeightsFile = None,
    backbone: BackboneName = None,
    workers: Workers = 0,
    cluster: Cluster = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Try recipes around the planned one, or --recipe, and keep the best by validation.

    All trials train for as many epochs; those whose curve or the clinic says that they cannot become the best
    are given up. The same command with --out goes on after a stop, and with more --trials further.
    """
    from convclinic.job.searching import search

    done = search(
        data,
        space=space,
        trials=trials,
        budget=budget,
        sampler=cast("Literal['tpe', 'random', 'grid']", sampler),
        storage=storage,
        out=out,
        seed=seed,
        recipe=recipe,
        settings=settings or (),
        weights=weights,
        backbone=backbone,
        top=top,
        prune=prune,
        clinic=clinic,
        workers=workers,
        cluster=cluster,
        device=device,
        quiet=quiet or as_json,
    )
    if as_json:
        print_json(done.to_dict())
    elif quiet:
        typer.echo(done.table())
