"""convclinic check: the data check-up alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import typer

from convclinic.cli.options import Data, Json, Out, Quiet, Seed, print_json


def run(data: Data, out: Out = None, seed: Seed = 0, quiet: Quiet = False, as_json: Json = False) -> None:
    """Look for broken, duplicate, mislabelled and leaking images. Nothing of yours is changed."""
    from convclinic.data.dataset import inspect
    from convclinic.data.sources import open_source
    from convclinic.data.survey import survey
    from convclinic.ground.files import write_json
    from convclinic.job.display import Lines, Silent

    with Silent() if quiet or as_json else Lines() as display:
        display.stage("check-up")
        source = open_source(data)

        def progress(done: int, total: int) -> None:
            display.update(done, total, f"{done} images")

        seen = survey(source, seed=seed)
        findings, profile = inspect(source, survey=seen, seed=seed, progress=progress)
    result = {
        "data": str(data),
        "findings": [finding.to_dict() for finding in findings],
        "profile": dataclasses.asdict(profile),
    }
    if out is not None:
        write_json(Path(out), result)
    if as_json:
        print_json(result)
        return
    typer.echo(
        f"{len(source.names)} images in {len(source.classes)} classes: {', '.join(source.classes[:12])}"
    )
    if not findings:
        typer.echo("nothing found")
    for finding in findings:
        typer.echo(
            f"{finding.severity:>8}  {finding.summary}" + (f" - {finding.action}" if finding.action else "")
        )
        for example in finding.examples[:3]:
            typer.echo(f"          {example}")
