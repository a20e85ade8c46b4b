"""convclinic diagnose: what recorded curves of any training tool say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convclinic.cli.options import Json, print_json

if TYPE_CHECKING:
    from convclinic.clinic.figures import Figure
    from convclinic.clinic.signals import Signals
    from convclinic.kinds import Finding

FROM_CURVES = 0.8  # of the confidence of one who was there: the net, its gradients and the data are not seen
LEAST = 0.5  # confidence of a warning


def run(
    path: Annotated[
        Path,
        typer.Argument(help="CSV, JSON or JSON lines of metrics, a TensorBoard folder, or a run folder."),
    ],
    classes: Annotated[int | None, typer.Option(min=2, help="How many classes there are.")] = None,
    validation: Annotated[
        int | None, typer.Option(min=1, help="How many validation images there are.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read the three figures of a recorded run, and name what is wrong with it and what to do."""
    from convclinic.clinic.curves import read
    from convclinic.clinic.figures import read as read_figures
    from convclinic.clinic.judging import judge

    signals = read(path, classes, validation)
    figures = read_figures(signals)
    findings = [less_certain(finding) for finding in judge(signals)]
    if as_json:
        print_json(_plain(path, signals, figures, findings))
        return
    typer.echo(f"{path}: {_many(len(signals.epochs), 'epoch')}, {_many(len(signals.steps), 'step')}")
    for figure in figures:
        advice = f" - {figure.advice}" if figure.advice else ""
        typer.echo(f"{figure.figure}  {figure.name}: {figure.shape}{advice}")
    if not findings:
        typer.echo("nothing found")
    for finding in findings:
        typer.echo(
            f"{finding.severity:>8}  {finding.cause} ({finding.confidence:.0%} sure): {finding.summary}"
        )
        for item in finding.evidence:
            value = item.value if isinstance(item.value, str) else f"{item.value:.4g}"
            typer.echo(f"          {item.signal}: {value}, expected {item.expected}")
        for remedy in finding.remedies:
            typer.echo(f"          try: {remedy}")
    typer.echo(f"not seen: {'; '.join(signals.unseen)}")


def less_certain(finding: Finding) -> Finding:
    """The finding as one that rests on curves alone; a warning that is then too unsure is worth knowing."""
    confidence = round(FROM_CURVES * finding.confidence, 2)
    unsure = finding.severity == "warning" and confidence < LEAST
    severity = "info" if unsure else finding.severity
    return dataclasses.replace(finding, confidence=confidence, severity=severity)


def _many(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _plain(
    path: Path, signals: Signals, figures: tuple[Figure, ...], findings: list[Finding]
) -> dict[str, Any]:
    return {
        "path": str(path),
        "epochs": len(signals.epochs),
        "steps": len(signals.steps),
        "figures": [
            {**vars(figure), "evidence": [item._asdict() for item in figure.evidence]} for figure in figures
        ],
        "findings": [finding.to_dict() for finding in findings],
        "unseen": list(signals.unseen),
    }
