"""convclinic evidence: what each trick brings on these data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convclinic.cli.options import Budget, Cluster, Device, Json, Out, Quiet, Settings, Workers, print_json


def run(
    data: Annotated[Path, typer.Option(help="Folder of class folders, CSV, idx or npz arrays, tar or zip.")],
    tricks: Annotated[
        list[str] | None, typer.Argument(help="Such as cutout or augment.cutout; all where none is given.")
    ] = None,
    net: Annotated[str, typer.Option(help="The net that all are trained in.")] = "compact",
    seeds: Annotated[int, typer.Option(min=1, help="How often each is trained.")] = 3,
    budget: Budget = "1h",
    out: Out = None,
    settings: Settings = None,
    workers: Workers = 0,
    cluster: Cluster = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train the same recipe with and without each trick, paired by seed, and say what each of them brings.

    The budget is for all nets together. What is finished is kept in --out, and the same command goes on.
    """
    from convclinic.job.studying import evidence

    found = evidence(
        data,
        tricks or (),
        net=net,
        seeds=seeds,
        budget=budget,
        out=out,
        settings=settings or (),
        workers=workers,
        cluster=cluster,
        device=device,
        quiet=quiet or as_json,
    )
    if as_json:
        print_json(found.to_dict())
    else:
        typer.echo(f"\n{found.table()}")
