"""convclinic clinic: every cause that the clinic can name, or the card of one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from convclinic.cli.options import Json, print_json
from convclinic.ground.errors import ConvclinicError, nearest


def catalogue() -> dict[str, dict[str, Any]]:
    """Every cause by name: its name, what it is in a sentence, its symptoms and its card."""
    from convclinic.clinic.judging import causes

    return {
        name: {
            "name": name,
            "summary": " ".join(cause.card.partition("\n\n")[0].split()),
            "explains": list(cause.explains),
            "card": cause.card,
        }
        for name, cause in sorted(causes().items())
    }


def listing(entries: dict[str, dict[str, Any]]) -> str:
    """One line each."""
    width = max(map(len, entries))
    return "\n".join(f"{name:<{width}}  {entry['summary']}" for name, entry in entries.items())


def page(entry: dict[str, Any]) -> str:
    """The card, and the causes that are told as symptoms of this one where both are found."""
    lines = [entry["name"], "", entry["card"]]
    if entry["explains"]:
        lines += ["", f"Explains  {', '.join(entry['explains'])}"]
    return "\n".join(lines)


def run(
    cause: Annotated[
        str | None, typer.Argument(help="A cause, such as lr_too_high; without it, all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List every cause of bad training that the clinic can name, or print the card of one."""
    entries = catalogue()
    if cause is None:
        if as_json:
            print_json(list(entries.values()))
        else:
            typer.echo(listing(entries))
            typer.echo("\n`convclinic clinic CAUSE` prints the card of one")
        return
    if cause not in entries:
        near = nearest(cause, entries)
        told = near if near.startswith("did you mean") else "`convclinic clinic` lists them"
        raise ConvclinicError(f"no cause called '{cause}'", fix=told)
    if as_json:
        print_json(entries[cause])
    else:
        typer.echo(page(entries[cause]))
