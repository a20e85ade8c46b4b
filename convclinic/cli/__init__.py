"""The command line: one file per verb. torch is imported inside the verb, so `--help` is instant."""

from __future__ import annotations

import time

STARTED = time.monotonic()  # a budget counts from here: loading torch takes seconds too

import importlib  # noqa: E402
import io  # noqa: E402
import sys  # noqa: E402

import typer  # noqa: E402

from convclinic.ground.errors import ConvclinicError  # noqa: E402

VERBS = (
    "fit",
    "check",
    "plan",
    "resume",
    "evaluate",
    "predict",
    "report",
    "diagnose",
    "clinic",
    "crossval",
    "search",
    "ensemble",
    "study",
    "evidence",
    "features",
    "tricks",
    "demo",
)


def build() -> typer.Typer:
    """The application, with every verb's `run` function under the verb's name."""
    app = typer.Typer(
        name="convclinic",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: loading rich would take longer than printing it
        help="Train convolutional image classifiers the way the best practitioners do, and say why.",
    )
    app.callback()(_root)
    for verb in VERBS:
        app.command(verb)(importlib.import_module(f"convclinic.cli.{verb}").run)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from convclinic import __version__

        typer.echo(f"convclinic {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Train convolutional image classifiers the way the best practitioners do, and say why."""


def main() -> None:
    """Entry point. A ConvclinicError becomes two lines and status 2; Ctrl-C status 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        build()()
    except ConvclinicError as error:
        stopped = type(error).__name__ == "Interrupted"
        typer.echo(error.message if stopped else f"error: {error.message}", err=True)
        if error.fix:
            typer.echo(f"  {'' if stopped else 'try: '}{error.fix}", err=True)
        sys.exit(130 if stopped else 2)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)  # the reader, such as `head`, has seen enough
    except OSError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
