"""The slots of a recipe: what may stand in each, read from plain data and changed by `--set`."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

from convclinic.ground.discovery import adapters
from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.ground.typed import at_least, build, convert, replace_option

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Input:
    """What the store holds: height and width in pixels, channels 1 or 3."""

    slot: ClassVar[str] = "data"
    height: int = 32
    width: int = 32
    channels: int = 3

    def __post_init__(self) -> None:
        at_least("data.height", self.height, 1)
        at_least("data.width", self.width, 1)
        if self.channels not in (1, 3):
            raise ConvclinicError(f"data.channels must be 1 or 3, not {self.channels}")


@dataclass(frozen=True)
class Run:
    """How long and how the loop runs.

    steps is the number of updates; sizes is progressive resizing of training images: (from this share of
    training on, height, width), empty for the store's own size throughout (validation always sees that
    one); evaluate_every counts steps; patience counts evaluations without a better validation accuracy
    before the loop stops, 0 for never; rescheduled records where the schedule was bent, to keep to a budget
    or to extend a finished run: (from this step on, progress there, new number of steps); snapshots is how
    many sets of the judged weights are kept on the way, at even distances, the last at the end.
    """

    slot: ClassVar[str] = "run"
    steps: int = 1000
    batch_size: int = 128
    precision: str = "float32"
    sizes: tuple[tuple[float, int, int], ...] = ()
    evaluate_every: int = 100
    patience: int = 0
    rescheduled: tuple[tuple[int, float, int], ...] = ()
    snapshots: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 1), ("evaluate_every", 1)):
            at_least(f"run.{name}", getattr(self, name), least)
        for name in ("patience", "snapshots"):
            at_least(f"run.{name}", getattr(self, name), 0)
        if self.precision not in PRECISIONS:
            raise ConvclinicError(f"no precision '{self.precision}'", fix=nearest(self.precision, PRECISIONS))
        for since, height, width in self.sizes:
            if not 0 <= since < 1 or min(height, width) < 1:
                raise ConvclinicError(
                    f"run.sizes holds ({since}, {height}, {width})",
                    fix="write (share of training in [0, 1), height, width)",
                )


@dataclass(frozen=True)
class Slot:
    """Where a slot's choices are found, and whether it holds a sequence of them or may be empty."""

    package: str
    many: bool = False
    optional: bool = False


SLOTS: dict[str, Slot] = {
    "net": Slot("convclinic.models"),
    "normalise": Slot("convclinic.tricks.normalise"),
    "activate": Slot("convclinic.tricks.activate"),
    "prepare": Slot("convclinic.tricks.prepare", many=True),
    "initialise": Slot("convclinic.tricks.initialise", many=True),
    "transfer": Slot("convclinic.tricks.transfer", many=True),
    "balance": Slot("convclinic.tricks.balance", many=True),
    "augment": Slot("convclinic.tricks.augment", many=True),
    "mix": Slot("convclinic.tricks.mix", many=True),
    "regularise": Slot("convclinic.tricks.regularise", many=True),
    "optimise": Slot("convclinic.tricks.optimise"),
    "schedule": Slot("convclinic.tricks.schedule", many=True),
    "average": Slot("convclinic.tricks.average", optional=True),
    "combine": Slot("convclinic.tricks.combine"),
}
FIXED: dict[str, type[Any]] = {"data": Input, "run": Run}
SLOT_NAMES = ("seed", *FIXED, *SLOTS)


def name_of(choice: object) -> str:
    """The name of a trick or net: that of its file."""
    return type(choice).__module__.rpartition(".")[2]


def named(choice: Any) -> dict[str, Any]:
    """A choice as plain data, with its name."""
    return {"name": name_of(choice), **dataclasses.asdict(choice)}


def read_slot(name: str, value: Any) -> Any:
    """What a slot holds, from plain data. Raises ConvclinicError that names the nearest right word."""
    if name == "seed":
        return convert(value, int, "seed")
    if name in FIXED:
        return build(FIXED[name], _mapping(value, name), name)
    if name not in SLOTS:
        raise ConvclinicError(f"no slot '{name}' in a recipe", fix=nearest(str(name), SLOT_NAMES))
    slot = SLOTS[name]
    if slot.many:
        if isinstance(value, str | dict):  # one trick alone
            value = [value]
        if not isinstance(value, list | tuple):
            raise ConvclinicError(f"{name} must be a list of tricks, not {value!r}")
        return tuple(_read_choice(name, item) for item in value)
    if value is None and slot.optional:
        return None
    return _read_choice(name, value)


def _read_choice(slot: str, value: Any) -> Any:
    options = {"name": value} if isinstance(value, str) else dict(_mapping(value, slot))
    if "name" not in options:
        raise ConvclinicError(f"{slot} says no name", fix=f"write it like {{name: ..., ...}}, not {value!r}")
    name = options.pop("name")
    return build(_find(slot, str(name)), options, f"{slot}.{name}")


def _find(slot: str, name: str) -> type[Any]:
    known = adapters(SLOTS[slot].package)
    if name not in known:
        raise ConvclinicError(f"no {slot} called '{name}'", fix=nearest(name, known))
    return known[name]


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConvclinicError(f"{where} must be a mapping of options, not {value!r}")
    return typing.cast("dict[str, Any]", value)


def check_names(settings: Sequence[str]) -> None:
    """Raise ConvclinicError for a setting without '=' or with an unknown slot, before any work is done."""
    for setting in settings:
        key, equals, _ = setting.partition("=")
        if not equals:
            raise ConvclinicError(f"--set {setting}: no '='", fix="write it like --set optimise.lr=0.1")
        slot = key.strip().split(".")[0]
        if slot not in SLOT_NAMES:
            raise ConvclinicError(f"no slot '{slot}'", fix=nearest(slot, SLOT_NAMES))


def override(current: Any, slot: str, path: list[str], text: str) -> Any:
    """What a slot holds after `--set slot[.trick][.option]=text`."""
    setting = ".".join([slot, *path])
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConvclinicError(f"--set {setting}={text}: the value is not readable", fix="quote it") from error
    if slot == "seed" and not path:
        return convert(value, int, "seed")
    if slot not in SLOTS:
        if slot == "seed":
            raise ConvclinicError(f"--set {setting}: seed has no options", fix="like --set seed=3")
        if len(path) != 1:
            raise ConvclinicError(f"--set {slot}: name one option", fix=f"like --set {slot}.option=value")
        return replace_option(current, path[0], value, slot)
    if not path:
        return _choose(slot, text)
    if len(path) > 2:
        raise ConvclinicError(f"--set {setting}: too many dots", fix=f"like --set {slot}.TRICK.option=value")
    if SLOTS[slot].many:
        return _override_one_of(current, slot, path, value)
    if current is None:
        raise ConvclinicError(f"{slot} is empty", fix=f"choose one first with --set {slot}=NAME")
    if len(path) == 2 and path[0] != name_of(current):
        raise ConvclinicError(
            f"{slot} is {name_of(current)}, not {path[0]}", fix=f"choose it first with --set {slot}={path[0]}"
        )
    return replace_option(current, path[-1], value, f"{slot}.{name_of(current)}")


def _override_one_of(current: tuple[Any, ...], slot: str, path: list[str], value: Any) -> tuple[Any, ...]:
    """Change an option of one trick of several; a trick that is not there yet is added."""
    if len(path) == 1:  # slot.option: fine while exactly one trick in the slot has that option
        owners = [name_of(trick) for trick in current if path[0] in vars(trick)]
        if len(owners) != 1:
            raise ConvclinicError(
                f"--set {slot}.{path[0]}: which trick?", fix=f"write {slot}.TRICK.{path[0]}=value"
            )
        path = [owners[0], path[0]]
    if path[0] not in [name_of(trick) for trick in current]:
        current = (*current, _find(slot, path[0])())
    return tuple(
        replace_option(trick, path[1], value, f"{slot}.{path[0]}") if name_of(trick) == path[0] else trick
        for trick in current
    )


def _choose(slot: str, text: str) -> Any:
    names = [name.strip() for name in text.split(",") if name.strip()]
    nothing = names in ([], ["none"])
    if SLOTS[slot].many:
        return () if nothing else tuple(_find(slot, name)() for name in names)
    if nothing and SLOTS[slot].optional:
        return None
    return _find(slot, text)()
