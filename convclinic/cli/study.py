"""convclinic study: many runs that answer one question."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convclinic.cli.options import (
    BackboneName,
    Budget,
    Device,
    Json,
    Out,
    Quiet,
    Settings,
    WeightsFile,
    print_json,
)

if TYPE_CHECKING:
    from convclinic.job.studying import Request, Studied

STUDIES = ("activations", "balance")


def run(
    question: Annotated[
        str,
        typer.Argument(
            help="activations: which non-linearity is best here? balance: which policy for rare classes?"
        ),
    ],
    data: Annotated[Path, typer.Option(help="Folder of class folders, CSV, idx or npz arrays, tar or zip.")],
    net: Annotated[
        str | None,
        typer.Option(
            help="The net that they are compared in: nin for activations, the one that fit would plan for "
            "balance."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How often each is trained.")] = 3,
    budget: Budget = "1h",
    only: Annotated[list[str] | None, typer.Option(help="Compare this one; repeatable.")] = None,
    out: Out = None,
    settings: Settings = None,
    weights: WeightsFile = None,
    backbone: BackboneName = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train one net with each of nine activations, or with each of seven policies for rare classes, several
    seeds each, and print how they compare.

    The budget is for all runs together. What is finished is kept in --out, and the same command goes on.
    """
    from convclinic.ground.errors import ConvclinicError, nearest
    from convclinic.job.studying import Request

    if question not in STUDIES:
        raise ConvclinicError(f"no study '{question}'", fix=nearest(question, STUDIES))
    request = Request(
        data,
        net,
        seeds,
        budget,
        only or (),
        out,
        settings or (),
        device,
        quiet=quiet or as_json,
        weights=weights,
        backbone=backbone,
    )
    _activations(request, as_json) if question == "activations" else _balance(request, as_json)


def _activations(request: Request, as_json: bool) -> None:
    from convclinic.job.studying import study_activations
    from convclinic.study.activations import summary, table

    studied = study_activations(request)
    rows = summary(studied.outcomes)
    _show(studied, as_json, {"rows": [dataclasses.asdict(row) for row in rows]}, table(rows))


def _balance(request: Request, as_json: bool) -> None:
    from convclinic.job.studying import study_balance
    from convclinic.study.balance import summary, table, verdict

    studied = study_balance(request)
    rows = summary(studied.outcomes, list(studied.counts))
    found = verdict(studied.outcomes, rows)
    plain = {
        "class_counts": studied.counts,
        "validation": [dataclasses.asdict(row) for row in rows],
        "verdict": dataclasses.asdict(found),
    }
    _show(studied, as_json, plain, table(rows, found, studied.counts))


def _show(studied: Studied, as_json: bool, plain: dict[str, Any], text: str) -> None:
    if as_json:
        print_json({"folder": str(studied.folder), "steps": studied.steps, "epochs": studied.epochs, **plain})
        return
    typer.echo(f"\n{text}\n")
    typer.echo(f"each net: {studied.steps} steps, {studied.epochs:.1f} epochs; kept in {studied.folder}")
