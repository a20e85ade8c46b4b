"""How long a step takes with a trick and without it: both are trained in turn, a few steps at a time, so that
a machine which slows down or speeds up meanwhile does it to both."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from convclinic import loop
from convclinic.data.dataset import Dataset
from convclinic.recipe import Recipe
from convclinic.study import engine
from convclinic.study.comparing import Mean, mean_of, opened, slug
from convclinic.study.engine import Plain, Task

FOLDER = "steps"
ROUNDS = 5
SECONDS = 0.25  # that each of the two is trained in a round, at most
FEWEST, MOST = 2, 20  # steps in a round
WARM = 3  # steps before the first round


def step_times(
    pairs: Sequence[tuple[str, Recipe, Recipe]], device: torch.device, folder: Path, seconds: float
) -> Iterator[tuple[str, Mean | None]]:
    """For each (name, recipe, another): the name, and the time of a step of the one over that of the other,
    mean and interval over rounds; None where they cannot be trained. One pair at a time, on this machine and
    all its cores. folder is the study's; what is kept there is not timed again, whatever the seconds.
    """
    tasks = [
        Task(
            slug(name),
            {"name": name, "recipes": [one.to_dict(), other.to_dict()], "device": device.type},
            session={"seconds": min(SECONDS, seconds)},
        )
        for name, one, other in pairs
    ]
    for done in engine.run(tasks, f"{__name__}:work", folder / FOLDER):
        yield done.task.payload["name"], None if done.result is None else mean_of(done.result["ratios"])


def work(payload: Plain, folder: Path) -> Plain:
    """One pair, as the engine asks for it. folder: its own, two levels below the study's."""
    data, device = opened(folder.resolve().parents[1]), torch.device(payload["device"])
    one, other = (Recipe.from_dict(plain) for plain in payload["recipes"])
    return {"ratios": ratios(one, other, data, device, payload["seconds"])}


def ratios(one: Recipe, other: Recipe, data: Dataset, device: torch.device, seconds: float) -> list[float]:
    """One a round."""
    warm = [next(_rounds(recipe, data, device, WARM)) for recipe in (one, other)]
    steps = max(FEWEST, min(MOST, int(seconds / max(warm))))
    both = [_rounds(recipe, data, device, steps) for recipe in (one, other)]
    return [next(both[0]) / next(both[1]) for _ in range(ROUNDS)]


def _rounds(recipe: Recipe, data: Dataset, device: torch.device, steps: int) -> Iterator[float]:
    """Seconds of a step in each round. The training's last step, which is validated, is never made."""
    total = ROUNDS * steps + 1
    run = dataclasses.replace(recipe.run, steps=total, evaluate_every=total, patience=0)
    recipe = dataclasses.replace(recipe, run=run)
    records = loop.fit(recipe, data, loop.start(recipe, data, device))
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(steps):
            next(records)
        yield (time.perf_counter() - begin) / steps
