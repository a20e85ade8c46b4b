"""convclinic report: the HTML page again."""

from __future__ import annotations

import typer

from convclinic.cli.options import Json, Out, Quiet, RunFolder, print_json


def run(folder: RunFolder, out: Out = None, quiet: Quiet = False, as_json: Json = False) -> None:
    """Write the run's report.html again, from what lies in its folder."""
    from convclinic.ground.files import write_bytes
    from convclinic.job.folder import existing
    from convclinic.report.page import write_report

    page = write_report(existing(folder))
    if out is not None:
        write_bytes(out, page.read_bytes())
        page = out
    if as_json:
        print_json({"report": str(page)})
    elif not quiet:
        typer.echo(str(page))
