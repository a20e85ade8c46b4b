"""convclinic study: many runs that answer one question."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from convclinic.cli.options import Budget, Device, Json, Out, Quiet, Settings, print_json

STUDIES = ("activations",)


def run(
    question: Annotated[str, typer.Argument(help="activations: which non-linearity is best here?")],
    data: Annotated[Path, typer.Option(help="Folder of class folders, CSV, idx or npz arrays, tar or zip.")],
    net: Annotated[str, typer.Option(help="The net that they are compared in.")] = "nin",
    seeds: Annotated[int, typer.Option(min=1, help="How often each is trained.")] = 3,
    budget: Budget = "1h",
    only: Annotated[list[str] | None, typer.Option(help="Compare this one; repeatable.")] = None,
    out: Out = None,
    settings: Settings = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train one net with each of nine activations, several seeds each, and print their test errors.

    The budget is for all runs together. What is finished is kept in --out, and the same command goes on.
    """
    from convclinic.ground.errors import ConvclinicError, nearest
    from convclinic.job.studying import study_activations
    from convclinic.study.activations import table

    if question not in STUDIES:
        raise ConvclinicError(f"no study '{question}'", fix=nearest(question, STUDIES))
    result = study_activations(
        data,
        net=net,
        seeds=seeds,
        budget=budget,
        only=only or (),
        out=out,
        settings=settings or (),
        device=device,
        quiet=quiet or as_json,
    )
    if as_json:
        rows = [dataclasses.asdict(row) for row in result.rows]
        print_json(
            {"folder": str(result.folder), "steps": result.steps, "epochs": result.epochs, "rows": rows}
        )
        return
    typer.echo(f"\n{table(result.rows)}\n")
    typer.echo(f"each net: {result.steps} steps, {result.epochs:.1f} epochs; kept in {result.folder}")
