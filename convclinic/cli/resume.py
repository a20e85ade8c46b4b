"""convclinic resume: go on after a crash, a kill or Ctrl-C; or train a finished run for longer."""

from __future__ import annotations

from typing import Annotated

import typer

from convclinic.cli.options import Device, Json, Quiet, RunFolder, print_json


def run(
    folder: RunFolder,
    extend: Annotated[str | None, typer.Option(help="Train a finished run this much longer.")] = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Go on exactly where a run stopped; with --extend, train a finished one for longer."""
    from convclinic.job.fitting import resume

    done = resume(folder, extend=extend, device=device, quiet=quiet or as_json)
    if as_json:
        print_json({"run": str(done.path), **done.metrics})
    elif quiet:
        print(done.path)
