"""convclinic ensemble: several runs joined to one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convclinic.cli.options import Device, Json, Out, Quiet, Workers, print_json


def run(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders of the same data and split; or one with snapshots, or a cross-validation's."
        ),
    ],
    members: Annotated[
        int,
        typer.Option(min=0, help="Train as many in all: the first run's recipe and data, other seeds."),
    ] = 0,
    method: Annotated[
        str,
        typer.Option(
            help="auto (the best on validation), mean, greedy, soup (weights averaged), single, fusion (a "
            "classifier on all features), or stack (one on all answers; trains each recipe once a fold)."
        ),
    ] = "auto",
    folds: Annotated[int, typer.Option(min=2, help="How many parts stack trains on by turns.")] = 5,
    out: Out = None,
    workers: Workers = 0,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Join several models to one that predict, evaluate and report take like any other.

    Everything is chosen on validation images; the test images are read once, for what was chosen.
    """
    from convclinic.job.ensembling import ensemble

    done = ensemble(
        runs,
        members=members,
        method=method,
        folds=folds,
        out=out,
        workers=workers,
        device=device,
        quiet=quiet or as_json,
    )
    if as_json:
        print_json({"run": str(done.run.path), **done.facts})
    elif quiet:
        typer.echo(done.table())
