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
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from convclinic.checks import Facts, check
from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Finding
from convclinic.models.fast import Fast
from convclinic.slots import FIXED, SLOTS, Input, Run, check_names, named, override, read_slot
from convclinic.tricks.activate.gelu import GELU
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.combine.none import Single
from convclinic.tricks.initialise.he import He
from convclinic.tricks.normalise.own import Own
from convclinic.tricks.optimise.sgd import SGD
from convclinic.tricks.prepare.standardise import Standardise
from convclinic.tricks.schedule.one_cycle import OneCycle

FORMAT = 1


@dataclass(frozen=True)
class Recipe:
    """One training run, decided. Defaults are a plain baseline; the planner makes better ones."""

    seed: int = 0
    data: Input = Input()
    net: Any = Fast()
    normalise: Any = Own()
    activate: Any = GELU()
    prepare: tuple[Any, ...] = (Standardise(),)
    initialise: tuple[Any, ...] = (He(),)
    transfer: tuple[Any, ...] = ()
    balance: tuple[Any, ...] = ()
    augment: tuple[Any, ...] = (Flip(),)
    mix: tuple[Any, ...] = ()
    regularise: tuple[Any, ...] = ()
    optimise: Any = SGD()
    schedule: tuple[Any, ...] = (OneCycle(),)
    average: Any = None
    combine: Any = Single()
    run: Run = Run()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready data; each choice is a mapping with its `name`."""
        plain: dict[str, Any] = {"format": FORMAT}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                plain[field.name] = [named(item) for item in value]
            elif field.name in SLOTS:
                plain[field.name] = None if value is None else named(value)
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
                f"the recipe has format {version!r}; this convclinic reads up to {FORMAT}",
                fix="upgrade convclinic",
            )
        values: dict[str, Any] = {}
        for name, value in plain.items():
            if name == "format":
                continue
            values[name] = read_slot(name, value)
        return Recipe(**values)

    def hash(self) -> str:
        """Twelve hexadecimal digits that name this recipe."""
        plain = self.to_dict()
        if not self.transfer:  # a slot younger than the others: left empty, it renames no run of before
            del plain["transfer"]
        if not self.run.snapshots:  # an option younger than the others
            del plain["run"]["snapshots"]
        canonical = json.dumps(plain, sort_keys=True)
        return hashlib.blake2b(canonical.encode(), digest_size=6).hexdigest()

    def override(self, settings: Sequence[str]) -> Recipe:
        """The recipe with `slot=name`, `slot.option=value` or `slot.trick.option=value` applied in turn."""
        check_names(settings)
        recipe = self
        for setting in settings:
            key, _, text = setting.partition("=")
            slot, *path = key.strip().split(".")
            value = override(getattr(recipe, slot), slot, path, text.strip())
            recipe = dataclasses.replace(recipe, **{slot: value})
        return recipe

    def check(self, facts: Facts | None = None) -> list[Finding]:
        """Clashes and misuse that show before training; empty when there are none.

        `facts` about the data and the net let more rules be judged.
        """
        return check(self, facts)

    def lr_factor(self, progress: float) -> float:
        """What the LR is multiplied by at `progress` in [0, 1]: the product of all schedules."""
        scales = (trick.scale(self.run.batch_size) for trick in self.schedule if hasattr(trick, "scale"))
        return math.prod(scales) * math.prod(trick.factor(progress) for trick in self.schedule)

    def progress(self, step: int) -> float:
        """Share of training done when `step` updates are finished, in [0, 1]: what the schedule sees."""
        since, done, total = 0, 0.0, self.run.steps
        for at, progress, new_total in self.run.rescheduled:
            if step >= at:
                since, done, total = at, progress, new_total
        return min(1.0, done + (1.0 - done) * (step - since) / max(1, total - since))

    def snapshots_by(self, step: int) -> int:
        """How many of the run's snapshots are due when `step` updates are finished."""
        return int(self.run.snapshots * self.progress(step) + 1e-9)

    @property
    def total_steps(self) -> int:
        return self.run.rescheduled[-1][2] if self.run.rescheduled else self.run.steps


def scaled(optimise: Any, factor: float) -> Any:
    """The optimiser's choice with every LR it has multiplied by `factor`."""
    rates = {name: value * factor for name, value in vars(optimise).items() if name.endswith("lr")}
    return dataclasses.replace(optimise, **rates)


def changed(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with these settings, in which tricks that it has already keep their options."""
    made = recipe.override(settings)
    for slot in (name for name, described in SLOTS.items() if described.many):
        own = {type(trick): trick for trick in getattr(recipe, slot)}
        kept = tuple(own.get(type(trick), trick) for trick in getattr(made, slot))
        made = dataclasses.replace(made, **{slot: kept})
    return made


def refuse_newer(document: dict[str, Any], path: Path) -> None:
    """Raise ConvclinicError when a file says a format that this program does not know."""
    version = document.get("format", FORMAT)
    if not isinstance(version, int) or version > FORMAT:
        raise ConvclinicError(
            f"{path} has format {version!r}; this convclinic reads up to {FORMAT}", fix="upgrade convclinic"
        )


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
        refuse_newer(plain, path)
        plain = plain["recipe"]
    if not isinstance(plain, dict):
        raise ConvclinicError(f"{path} holds no recipe", fix="`convclinic plan FOLDER` writes one")
    return Recipe.from_dict(plain)
