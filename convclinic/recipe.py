"""A recipe: every decision of a training run in one frozen, serialisable object.

The slots stand in the order in which the loop uses them, and what is written is the order of execution.
A recipe reads and writes as JSON or YAML, and its hash is part of the run's identity.

>>> recipe = Recipe(seed=3)
>>> Recipe.from_dict(recipe.to_dict()) == recipe
True
>>> recipe.override(["optimise.lr=0.1", "augment=flip", "augment.flip.p=0.3"]).augment[0].p
0.3
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from convclinic.ground.discovery import adapters
from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.ground.typed import build, convert, replace_option
from convclinic.kinds import Finding
from convclinic.models.fast import Fast
from convclinic.tricks.activate.gelu import GELU
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.combine.none import Single
from convclinic.tricks.initialise.he import He
from convclinic.tricks.optimise.sgd import SGD
from convclinic.tricks.prepare.standardise import Standardise
from convclinic.tricks.schedule.one_cycle import OneCycle

FORMAT = 1


@dataclass(frozen=True)
class Input:
    """What the store holds: height and width in pixels, channels 1 or 3."""

    slot: ClassVar[str] = "data"
    height: int = 32
    width: int = 32
    channels: int = 3


@dataclass(frozen=True)
class Run:
    """How long and how the loop runs.

    steps is the number of updates; sizes is progressive resizing of training images: (from this share of
    training on, height, width), empty for the store's own size throughout (validation always sees that
    one); evaluate_every counts steps; patience counts evaluations without a better validation accuracy
    before the loop stops, 0 for never; rescheduled records where the schedule was bent, to keep to a budget
    or to extend a finished run: (from this step on, progress there, new number of steps).
    """

    slot: ClassVar[str] = "run"
    steps: int = 1000
    batch_size: int = 128
    precision: str = "float32"
    sizes: tuple[tuple[float, int, int], ...] = ()
    evaluate_every: int = 100
    patience: int = 0
    rescheduled: tuple[tuple[int, float, int], ...] = ()


@dataclass(frozen=True)
class Slot:
    """Where a slot's choices are found, and whether it holds a sequence of them or may be empty."""

    package: str
    many: bool = False
    optional: bool = False


SLOTS: dict[str, Slot] = {
    "net": Slot("convclinic.models"),
    "activate": Slot("convclinic.tricks.activate"),
    "prepare": Slot("convclinic.tricks.prepare", many=True),
    "initialise": Slot("convclinic.tricks.initialise", many=True),
    "augment": Slot("convclinic.tricks.augment", many=True),
    "mix": Slot("convclinic.tricks.mix", many=True),
    "regularise": Slot("convclinic.tricks.regularise", many=True),
    "optimise": Slot("convclinic.tricks.optimise"),
    "schedule": Slot("convclinic.tricks.schedule"),
    "average": Slot("convclinic.tricks.average", optional=True),
    "combine": Slot("convclinic.tricks.combine"),
}
FIXED: dict[str, type[Any]] = {"data": Input, "run": Run}


@dataclass(frozen=True)
class Recipe:
    """One training run, decided. Defaults are a plain baseline; the planner makes better ones."""

    seed: int = 0
    data: Input = Input()
    net: Any = Fast()
    activate: Any = GELU()
    prepare: tuple[Any, ...] = (Standardise(),)
    initialise: tuple[Any, ...] = (He(),)
    augment: tuple[Any, ...] = (Flip(),)
    mix: tuple[Any, ...] = ()
    regularise: tuple[Any, ...] = ()
    optimise: Any = SGD()
    schedule: Any = OneCycle()
    average: Any = None
    combine: Any = Single()
    run: Run = Run()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready data; each choice is a mapping with its `name`."""
        plain: dict[str, Any] = {"format": FORMAT}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                plain[field.name] = [_named(item) for item in value]
            elif field.name in SLOTS:
                plain[field.name] = None if value is None else _named(value)
            else:
                plain[field.name] = dataclasses.asdict(value) if field.name in FIXED else value
        return json.loads(json.dumps(plain))

    @staticmethod
    def from_dict(plain: dict[str, Any]) -> Recipe:
        """Read what `to_dict` wrote; slots left out keep their defaults.

        Raises ConvclinicError for an unknown slot, trick or option (with the nearest right name), for a
        value of the wrong type, and for a format newer than this program knows.
        """
        version = plain.get("format", FORMAT)
        if not isinstance(version, int) or version > FORMAT:
            raise ConvclinicError(
                f"the recipe has format {version}; this convclinic reads up to {FORMAT}",
                fix="upgrade convclinic",
            )
        values: dict[str, Any] = {}
        for name, value in plain.items():
            if name == "format":
                continue
            values[name] = _read_slot(name, value)
        return Recipe(**values)

    def hash(self) -> str:
        """Twelve hexadecimal digits that name this recipe."""
        canonical = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.blake2b(canonical.encode(), digest_size=6).hexdigest()

    def override(self, settings: Sequence[str]) -> Recipe:
        """The recipe with `slot=name`, `slot.option=value` or `slot.trick.option=value` applied in turn."""
        recipe = self
        for setting in settings:
            key, equals, text = setting.partition("=")
            if not equals:
                raise ConvclinicError(f"--set {setting}: no '='", fix="write it like --set optimise.lr=0.1")
            path = key.strip().split(".")
            if path[0] not in _names():
                raise ConvclinicError(f"no slot '{path[0]}'", fix=nearest(path[0], _names()))
            value = _override(getattr(recipe, path[0]), path[0], path[1:], text.strip())
            recipe = dataclasses.replace(recipe, **{path[0]: value})
        return recipe

    def check(self) -> list[Finding]:
        """Clashes and misuse that show before training; empty when there are none."""
        findings: list[Finding] = []
        names = [_name_of(trick) for trick in self.augment]
        if "flip" in names and "alternating_flip" in names:
            findings.append(
                Finding(
                    cause="tricks_clash",
                    severity="warning",
                    where="augment",
                    summary="flip and alternating_flip undo each other's pattern",
                    remedies=("augment without one of the two",),
                )
            )
        if self.run.patience and self.schedule.factor(1.0) < 0.1:
            findings.append(
                Finding(
                    cause="early_stopping_before_the_lr_falls",
                    severity="warning",
                    where="run.patience",
                    summary="the schedule ends at a small LR, where most of the gain comes",
                    remedies=("run.patience=0",),
                )
            )
        return findings

    def progress(self, step: int) -> float:
        """Share of training done when `step` updates are finished, in [0, 1]: what the schedule sees."""
        since, done, total = 0, 0.0, self.run.steps
        for at, progress, new_total in self.run.rescheduled:
            if step >= at:
                since, done, total = at, progress, new_total
        return min(1.0, done + (1.0 - done) * (step - since) / max(1, total - since))

    @property
    def total_steps(self) -> int:
        return self.run.rescheduled[-1][2] if self.run.rescheduled else self.run.steps


def load(path: Path) -> Recipe:
    """Read a recipe from JSON or YAML; a run folder's `recipe.json` works too."""
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConvclinicError(f"no recipe file {path}") from error
    except OSError as error:
        raise ConvclinicError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConvclinicError(f"{path} is neither JSON nor YAML: {error}") from error
    if isinstance(plain, dict) and isinstance(plain.get("recipe"), dict):
        plain = plain["recipe"]
    if not isinstance(plain, dict):
        raise ConvclinicError(f"{path} holds no recipe", fix="`convclinic plan FOLDER` writes one")
    return Recipe.from_dict(plain)


def _names() -> list[str]:
    return [field.name for field in dataclasses.fields(Recipe)]


def _name_of(choice: object) -> str:
    return type(choice).__module__.rpartition(".")[2]


def _named(choice: Any) -> dict[str, Any]:
    return {"name": _name_of(choice), **dataclasses.asdict(choice)}


def _read_slot(name: str, value: Any) -> Any:
    if name == "seed":
        return convert(value, int, "seed")
    if name in FIXED:
        return build(FIXED[name], _mapping(value, name), name)
    if name not in SLOTS:
        raise ConvclinicError(f"no slot '{name}' in a recipe", fix=nearest(name, _names()))
    slot = SLOTS[name]
    if slot.many:
        if not isinstance(value, list | tuple):
            raise ConvclinicError(f"{name} must be a list of tricks, not {value!r}")
        return tuple(_read_choice(name, item) for item in value)
    if value is None and slot.optional:
        return None
    return _read_choice(name, value)


def _read_choice(slot: str, value: Any) -> Any:
    options = {"name": value} if isinstance(value, str) else dict(_mapping(value, slot))
    name = options.pop("name", None)
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


def _override(current: Any, slot: str, path: list[str], text: str) -> Any:
    value = yaml.safe_load(text)
    if slot not in SLOTS:
        if slot == "seed" and not path:
            return convert(value, int, "seed")
        if len(path) != 1:
            raise ConvclinicError(f"--set {slot}: name one option", fix=f"like --set {slot}.option=value")
        return replace_option(current, path[0], value, slot)
    if not path:
        return _choose(slot, text)
    if not SLOTS[slot].many:
        if current is None:
            raise ConvclinicError(f"{slot} is empty", fix=f"choose one first with --set {slot}=NAME")
        return replace_option(current, path[-1], value, f"{slot}.{_name_of(current)}")
    if len(path) == 1:  # slot.option: fine while exactly one trick in the slot has that option
        owners = [_name_of(trick) for trick in current if hasattr(trick, path[0])]
        if len(owners) != 1:
            raise ConvclinicError(
                f"--set {slot}.{path[0]}: which trick?", fix=f"write {slot}.TRICK.{path[0]}=value"
            )
        path = [owners[0], path[0]]
    if path[0] not in [_name_of(trick) for trick in current]:
        current = (*current, _find(slot, path[0])())
    return tuple(
        replace_option(trick, path[1], value, f"{slot}.{path[0]}") if _name_of(trick) == path[0] else trick
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
