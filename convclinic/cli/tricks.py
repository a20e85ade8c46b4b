"""convclinic tricks: every trick and net by section of the handbook, or the card of one."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from convclinic.cli.options import Json, print_json
from convclinic.ground.errors import ConvclinicError, nearest

# number and title of each section of the handbook, and the slots whose tricks belong to it
SECTIONS: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    (1, "Data augmentation, and fixed views at test time", ("augment", "mix", "combine")),
    (2, "Preprocessing", ("prepare",)),
    (3, "Initialisation", ("initialise",)),
    (4, "During training", ("net", "normalise", "optimise", "schedule", "transfer")),
    (5, "Activations", ("activate",)),
    (6, "Regularisation", ("regularise", "average")),
    (9, "Imbalanced classes", ("balance",)),
)


@dataclass(frozen=True)
class Entry:
    """One trick or net. options: their names and defaults; off: the options that mean off, where some do."""

    slot: str
    name: str
    section: int
    summary: str
    options: dict[str, Any]
    off: dict[str, Any] | None
    card: str


def catalogue() -> list[Entry]:
    """Everything that can stand in a slot, in the order of the handbook, by slot and name."""
    return [entry for number, _, slots in SECTIONS for slot in slots for entry in _entries(slot, number)]


def _entries(slot: str, section: int) -> list[Entry]:
    from convclinic.ground.discovery import adapters, card

    entries: list[Entry] = []
    for name, adapter in adapters(folder(slot)).items():
        text = card(adapter)
        summary = " ".join(text.partition("\n\n")[0].split())
        off: dict[str, Any] | None = getattr(adapter, "OFF", None)
        entries.append(Entry(slot, name, section, summary, asdict(adapter()), off, text))
    return entries


def folder(slot: str) -> str:
    """The package in which a slot's choices are found."""
    from convclinic.slots import SLOTS

    return SLOTS[slot].package if slot in SLOTS else f"convclinic.tricks.{slot}"


def find(entries: list[Entry], wanted: str) -> Entry:
    """The entry called NAME or SLOT.NAME.

    Raises ConvclinicError for an unknown name, with the nearest, and for one that several slots have.
    """
    slot, dot, name = wanted.rpartition(".")
    slots = sorted({entry.slot for entry in entries})
    if dot and slot not in slots:
        raise ConvclinicError(f"no slot '{slot}'", fix=nearest(slot, slots))
    among = [entry for entry in entries if slot in ("", entry.slot)]
    found = [entry for entry in among if entry.name == name]
    if len(found) > 1:
        choices = " or ".join(f"{entry.slot}.{name}" for entry in found)
        raise ConvclinicError(f"'{name}' is the name of {len(found)} tricks", fix=f"write {choices}")
    if not found:
        near = nearest(name, {entry.name for entry in among})
        told = near if near.startswith("did you mean") else "`convclinic tricks` lists them"
        raise ConvclinicError(f"no trick or net called '{wanted}'", fix=told)
    return found[0]


def listing(entries: list[Entry]) -> str:
    """One line each, under the section and the slot."""
    width = max(len(entry.name) for entry in entries)
    lines: list[str] = []
    for number, title, slots in SECTIONS:
        lines += ["", f"{number} {title}"]
        for slot in slots:
            here = [entry for entry in entries if entry.slot == slot]
            lines += [f"  {slot}"] if here else []
            lines += [f"    {entry.name:<{width}}  {idea(entry)}" for entry in here]
    return "\n".join(lines).lstrip("\n")


def idea(entry: Entry) -> str:
    """The card's first sentence without the title before its colon, which is the name again."""
    title, colon, words = entry.summary.partition(": ")
    return words if colon else title


def page(entry: Entry) -> str:
    """The card, the options with their defaults, and how to choose the trick."""
    lines = [f"{entry.slot}.{entry.name}", "", entry.card, ""]
    if entry.options:
        width = max(map(len, entry.options))
        lines.append("Options and their defaults")
        lines += [f"  {option:<{width}}  {json.dumps(value)}" for option, value in entry.options.items()]
    else:
        lines.append("No options")
    if entry.off:
        settings = ", ".join(f"{option} {json.dumps(value)}" for option, value in entry.off.items())
        lines.append(f"Off at {settings}")
    return "\n".join([*lines, "", *_choosing(entry)])


def _choosing(entry: Entry) -> list[str]:
    from convclinic.slots import SLOTS

    if entry.slot not in SLOTS:
        return []
    lines = [f"Choose it with  --set {entry.slot}={entry.name}"]
    if entry.options:
        option, value = next(iter(entry.options.items()))
        path = f"{entry.slot}.{entry.name}" if SLOTS[entry.slot].many else entry.slot
        lines.append("an option with  --set " + shlex.quote(f"{path}.{option}={json.dumps(value)}"))
    return lines


def run(
    name: Annotated[
        str | None, typer.Argument(help="A trick or net, such as mixup or mix.mixup; without it, all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List every trick and net with one line each, or print the card and the options of one."""
    entries = catalogue()
    if name is None:
        if as_json:
            print_json([asdict(entry) for entry in entries])
        else:
            typer.echo(listing(entries))
            typer.echo("\n`convclinic tricks NAME` prints the card of one")
        return
    entry = find(entries, name)
    if as_json:
        print_json(asdict(entry))
    else:
        typer.echo(page(entry))
