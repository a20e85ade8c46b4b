"""Recipes that differ in one choice, each trained with several seeds for the same number of steps.

`study.json` holds the wish that a study answers and the recipe that was planned for it, and the engine's
folders what every net came to: a study that was stopped goes on with the same recipe, however busy the
machine is then.
"""

from __future__ import annotations

import dataclasses
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from scipy.stats import t as student

from convclinic import loop
from convclinic.data.dataset import Dataset, reopen
from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.ground.files import read_json, write_json
from convclinic.ground.units import duration
from convclinic.model import batches, forward
from convclinic.planning.planner import affordable_head, mean_step
from convclinic.planning.speed import measure
from convclinic.recipe import Recipe
from convclinic.study import engine
from convclinic.study.engine import Plain, Task

FORMAT = 4
FILE, NETS = "study.json", "nets"
FEWEST_STEPS = 50
MEASURE_SECONDS = 2.0  # a contender, at most
MARGIN = 0.05  # of the budget is left for what cannot be foreseen
EVALUATIONS = 20  # of a net whose schedule reacts to them
CHUNK = 1000  # images read at once

Split: TypeAlias = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Contender:
    """One of the recipes compared. Its seed, steps and evaluations are the study's, not its own."""

    label: str
    recipe: Recipe


@dataclass(frozen=True)
class Score:
    """Images of each class, in the order of the classes, and how many of them were recognised."""

    right: tuple[int, ...]
    of: tuple[int, ...]

    @property
    def accuracy(self) -> float:
        return sum(self.right) / max(1, sum(self.of))

    @property
    def recalls(self) -> tuple[float | None, ...]:
        """Of each class, in [0, 1]; None for one without images."""
        return tuple(r / n if n else None for r, n in zip(self.right, self.of, strict=True))

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes that occur.

        >>> Score((90, 1, 0), (100, 2, 0)).balanced_accuracy
        0.7
        """
        present = [recall for recall in self.recalls if recall is not None]
        return statistics.fmean(present) if present else 0.0


@dataclass(frozen=True)
class Outcome:
    """One trained net: what it scores in the views of its recipe, the loss of its last steps on training
    batches, and seconds in all."""

    label: str
    seed: int
    validation: Score
    test: Score
    training_loss: float
    seconds: float


@dataclass(frozen=True)
class Mean:
    """Of n values, one a seed: their mean, standard deviation and Student's 95 % interval of the mean; None
    where one value allows none."""

    n: int
    mean: float
    spread: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Kept:
    """A study as its folder holds it: the recipe all contenders come from, and the steps of every net."""

    recipe: Recipe
    steps: int


def mean_of(values: Sequence[float]) -> Mean:
    """Mean, spread and interval.

    >>> found = mean_of([0.1, 0.2, 0.3])
    >>> found.n, round(found.mean, 3), round(found.spread, 3), round(found.low, 3), round(found.high, 3)
    (3, 0.2, 0.1, -0.048, 0.448)
    """
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Mean(n, mean)
    spread = statistics.stdev(values)
    half = float(student.ppf(0.975, n - 1)) * spread / n**0.5
    return Mean(n, mean, spread, mean - half, mean + half)


def choose(labels: Sequence[str], known: Sequence[str], what: str) -> tuple[str, ...]:
    """The `known` labels that are asked for (their first word suffices), in their order; all where none is.

    Raises ConvclinicError for one that is not known.
    """
    for label in labels:
        if not any(_means(label, one) for one in known):
            raise ConvclinicError(f"no {what} '{label}' in the comparison", fix=nearest(label, known))
    return tuple(one for one in known if not labels or any(_means(label, one) for label in labels))


def _means(asked: str, label: str) -> bool:
    return asked.lower() in (label.lower(), label.lower().split()[0])


def steps_within(
    contenders: Sequence[Contender],
    data: Dataset,
    device: torch.device,
    n_seeds: int,
    seconds: float,
    workers: int = 1,
) -> int:
    """How many steps every net can have, so that all of them take `seconds`, so many at once.

    Raises ConvclinicError when that would be too few to tell anything.
    """
    begin = time.perf_counter()
    per_step, closing = 0.0, 0.0
    share = min(MEASURE_SECONDS, 0.02 * seconds / len(contenders))
    for one in contenders:
        speed = measure(one.recipe, data, device, share)
        per_step += mean_step(one.recipe, speed)
        closing += speed.start + speed.evaluate_image * (data.profile.n_test + data.profile.n_validation)
        closing += affordable_head(one.recipe, data.profile, speed, seconds)[1]
    left = (seconds * (1 - MARGIN) - (time.perf_counter() - begin)) * workers - n_seeds * closing
    steps = int(left / (n_seeds * per_step))
    if steps < FEWEST_STEPS:
        need = (n_seeds * (FEWEST_STEPS * per_step + closing)) / workers / (1 - MARGIN)
        raise ConvclinicError(
            f"{duration(seconds)} allow each of the {n_seeds * len(contenders)} nets {max(0, steps)} steps",
            fix=f"give {duration(need * 1.1)}, fewer --seeds or --only some, or a smaller net",
        )
    return steps


def find(folder: Path, wish: dict[str, Any]) -> Kept | None:
    """What `folder` holds of the study of this `wish` (plain data), None where it holds none.

    Raises ConvclinicError when it is another study.
    """
    path = folder / FILE
    if not path.exists():
        return None
    kept = read_json(path)
    if kept.get("format") != FORMAT or kept["wish"] != wish:
        raise ConvclinicError(f"{folder} holds a study of other settings", fix="give another --out")
    return Kept(Recipe.from_dict(kept["recipe"]), kept["steps"])


def keep(folder: Path, wish: dict[str, Any], kept: Kept) -> None:
    """Write the study into `folder`."""
    plain = {
        "format": FORMAT,
        "wish": wish,
        "recipe": kept.recipe.to_dict(),
        "steps": kept.steps,
    }
    write_json(folder / FILE, plain)


def _outcome(row: dict[str, Any]) -> Outcome:
    def score(part: str) -> Score:
        return Score(tuple(row[part]["right"]), tuple(row[part]["of"]))

    values: dict[str, Any] = {**row, "validation": score("validation"), "test": score("test")}
    return Outcome(**values)


def compare(
    contenders: Sequence[Contender],
    divided: Callable[[int], Dataset],
    device: torch.device,
    n_seeds: int,
    steps: int,
    folder: Path,
    workers: int = 1,
    cluster: str | None = None,
) -> Iterator[tuple[Contender, int, Outcome | str]]:
    """Train what `folder` lacks; yields contender, seed and outcome, or in words what went wrong.

    folder holds the data, which `divided(seed)` divides for a seed. workers, cluster: see `engine.run`.
    """
    # seed by seed, so that a study stopped early is balanced
    wanted: dict[str, tuple[Contender, int]] = {}
    tasks: list[Task] = []
    for seed in range(n_seeds):
        parts = divided(seed).splits.tolist()
        for one in contenders:
            payload = {
                "label": one.label,
                "recipe": one.recipe.to_dict(),
                "seed": seed,
                "steps": steps,
                "parts": parts,
                "device": device.type,
            }
            tasks.append(Task(f"{slug(one.label)}-{seed}", payload))
            wanted[tasks[-1].name] = one, seed
    for done in engine.run(tasks, f"{__name__}:work", folder / NETS, workers=workers, cluster=cluster):
        one, seed = wanted[done.task.name]
        yield one, seed, done.error if done.result is None else _outcome(done.result)


def slug(label: str) -> str:
    """The label as part of a file's name.

    >>> slug("leaky (a = 5.5)")
    'leaky-a-5.5'
    """
    return re.sub(r"[^a-z0-9._]+", "-", label.lower()).strip("-")


def work(payload: Plain, folder: Path) -> Plain:
    """One net of a study: what the engine's workers do. folder: its own, two levels below the study's."""
    data = opened(folder.resolve().parents[1])
    data = dataclasses.replace(data, splits=np.array(payload["parts"], np.int8))
    one = Contender(payload["label"], Recipe.from_dict(payload["recipe"]))
    outcome = train(one, data, torch.device(payload["device"]), payload["seed"], payload["steps"])
    return dataclasses.asdict(outcome)


@lru_cache(maxsize=1)
def opened(folder: Path) -> Dataset:
    return reopen(folder)


def train(one: Contender, data: Dataset, device: torch.device, seed: int, steps: int) -> Outcome:
    """One net, from its first step to its scores: those of its last weights, so that no contender gains by
    how its best ones would be chosen."""
    begin = time.perf_counter()
    reacts = any(hasattr(trick, "observe") for trick in one.recipe.schedule)
    every = max(1, steps // EVALUATIONS) if reacts else steps
    run = dataclasses.replace(one.recipe.run, steps=steps, evaluate_every=every, patience=0)
    recipe = dataclasses.replace(one.recipe, seed=seed, run=run)
    state = loop.start(recipe, data, device)
    losses = [record.loss for record in loop.fit(recipe, data, state)]

    def score(split: Split) -> Score:
        positions = data.indices(split)
        answers = [
            forward(state.judged, recipe, state.fitted, part, device, views=True).argmax(1)
            for begin in range(0, len(positions), CHUNK)
            for part in batches(data.images(positions[begin : begin + CHUNK]))
        ]
        truth, k = data.labels[positions], len(data.classes)
        hit = torch.cat(answers).numpy() == truth
        right, of = np.bincount(truth[hit], minlength=k), np.bincount(truth, minlength=k)
        return Score(tuple(right.tolist()), tuple(of.tolist()))

    last = statistics.fmean(losses[-max(1, steps // 20) :])
    scores = score("validation"), score("test")
    return Outcome(one.label, seed, *scores, last, time.perf_counter() - begin)


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Lines of equally many cells as text, one column under the other.

    >>> print(columns([("net", "error"), ("a", "0.1")]))
    net  error
    a    0.1
    """
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
