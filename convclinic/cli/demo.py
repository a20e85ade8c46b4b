"""convclinic demo: the main job on real handwritten digits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convclinic.cli import STARTED
from convclinic.cli.options import Device, Json, Quiet, Seed, print_json


def run(
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/digits-N.")] = None,
    budget: Annotated[str, typer.Option(help="Time from start to report.")] = "90s",
    seed: Seed = 0,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write scikit-learn's 1,797 handwritten digits as PNG files into class folders, and `fit` them."""
    from convclinic.job.demo import write_digits
    from convclinic.job.fitting import fit

    photos = write_digits(Path("runs") / "digits")
    done = fit(
        photos, budget=budget, out=out, seed=seed, device=device, quiet=quiet or as_json, started=STARTED
    )
    if as_json:
        print_json({"run": str(done.path), **done.metrics})
    elif not quiet:
        typer.echo(f"\nopen {done.path / 'report.html'}\ntry  convclinic predict {done.path} {photos / '3'}")
