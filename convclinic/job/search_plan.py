"""What all trials of a search have in common: the data, the recipe in the middle, the space, the length."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from optuna.study import Study

from convclinic.data.dataset import Dataset, assemble, reopen
from convclinic.data.sources import open_source
from convclinic.data.survey import survey
from convclinic.ground import rng, units
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import write_json
from convclinic.job import folder as place
from convclinic.job.display import Display
from convclinic.job.folder import SEARCH
from convclinic.job.groundwork import fine_tuned, planned, taken_in
from convclinic.job.planning import Wish
from convclinic.job.search_trial import BALANCED
from convclinic.planning import planner
from convclinic.planning.speed import measure
from convclinic.recipe import Recipe
from convclinic.slots import name_of
from convclinic.study import engine, spaces
from convclinic.study import search as store
from convclinic.study.spaces import Parameter, Values

MEAN_SHARE = 0.5  # of a whole training is what a trial takes on average where the hopeless are given up
EVALUATIONS, EVALUATION_SHARE, FEWEST_EVALUATIONS = 16, 0.15, 4
FEWEST_STEPS = 30
SPEED_SHARE = 0.01  # of the budget goes to timing the planned recipe
PATIENCE_SECONDS = 120.0  # for another machine that has begun the search to plan it
JUDGING = 3.0  # times what evaluating the test images takes goes into a run folder of the best


@dataclass(frozen=True)
class Sought:
    """What a search is to be: its wish, what makes it the same one (`asked`), and its bounds."""

    wish: Wish
    space: str | Path | dict[str, Any] | None
    asked: dict[str, Any]
    trials: int
    workers: int
    top: int

    @property
    def left(self) -> float:
        return self.wish.left() or 0.0


def prepare(
    sought: Sought, study: Study, new: bool, target: Path, display: Display
) -> tuple[dict[str, Any], Dataset]:
    """The search's plan and data: of before, of another machine, or new."""
    if not new and not (target / SEARCH).exists():
        _awaited(study, display)
    known = store.plan(study)
    if (target / SEARCH).exists():
        if known is None:
            raise ConvclinicError(
                f"the storage does not hold the search of {target} any more", fix="give another --out"
            )
        return known, reopen(target)
    torch.set_num_threads(engine.threads_each(sought.workers))  # what the workers will have
    with place.provisional(target):
        if known is None:
            known, data = _planned(sought, study, target, display)
        else:
            data = _same_data(sought.wish, known, target, display)
        write_json(target / SEARCH, {"asked": sought.asked})
    return known, data


def _awaited(study: Study, display: Display) -> None:
    """Wait for whoever began this search in the storage; where nobody plans it, we do."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while store.plan(study) is None and time.monotonic() < ends:
        display.update(0, 1, "another machine is planning this search")
        time.sleep(1.0)


def _planned(sought: Sought, study: Study, target: Path, display: Display) -> tuple[dict[str, Any], Dataset]:
    """Take the data in, plan the recipe in the middle and how long each trial lasts."""
    wish, asked = sought.wish, sought.asked
    source, whole = open_source(wish.data), MEAN_SHARE if asked["prune"] else 1.0
    rounds = sought.trials * whole / sought.workers
    each = sought.left / rounds
    options: dict[str, Any] = {"settings": wish.settings, "display": display, "seed": wish.seed}
    if wish.weights is not None or wish.backbone is not None:
        start = {"weights": wish.weights, "backbone": wish.backbone}
        base, data = fine_tuned(source, target, wish.device, each, data=wish.data, **start, **options)
    else:
        shape = None if wish.recipe is None else wish.recipe.data
        net = None if wish.recipe is None else name_of(wish.recipe.net)
        facts = taken_in(source, target, wish.device, each, net=net, shape=shape, **options)
        data = facts.data
        base = (
            planned(facts, None, wish.settings, wish.seed, balanced=True)
            if wish.recipe is None
            else wish.recipe.override(wish.settings)
        )
    display.stage("plan")
    parameters = _space(sought.space, base, data)
    combinations = spaces.grid(parameters) if asked["sampler"] == "grid" else None
    if combinations is not None:
        rounds = min(rounds, len(combinations) * whole / sought.workers)
    lengths = _lengths(sought, base, data, rounds)
    known: dict[str, Any] = {
        "recipe": base.to_dict(),
        "space": spaces.to_plain(parameters),
        "sampler": asked["sampler"],
        "seed": wish.seed,
        "prune": asked["prune"],
        "clinic": asked["clinic"],
        "measure": BALANCED if base.balance else "accuracy",
        "combinations": None if combinations is None else len(combinations),
        "fingerprint": _fingerprint(data),
        **lengths,
    }
    first = [spaces.planned_values(parameters, base)] if combinations is None else combinations
    store.begin(study, known, [values for values in _shuffled(first, wish.seed) if values])
    display.update(
        1, 1, f"{len(parameters)} parameters, {known['images'] / len(data.indices('train')):.1f} epochs each"
    )
    return store.plan(study) or known, data


def _shuffled(values: Sequence[Values], seed: int) -> list[Values]:
    """In an order by chance, so that a grid that is stopped has seen some of everything."""
    order = torch.randperm(len(values), generator=rng.generator(seed, "grid")).tolist()
    return [values[k] for k in order]


def _space(space: str | Path | dict[str, Any] | None, base: Recipe, data: Dataset) -> tuple[Parameter, ...]:
    if isinstance(space, str | Path):
        return spaces.load(Path(space), base)
    return spaces.parse(spaces.usual(base, data.profile.n_train) if space is None else space, base)


def _lengths(sought: Sought, base: Recipe, data: Dataset, rounds: float) -> dict[str, Any]:
    """How many images and validations each trial has, and seconds: of a whole one, of testing one.

    rounds: whole trainings one after the other that the time must hold. Raises ConvclinicError where they
    would be too short.
    """
    wish, top = sought.wish, sought.top
    budget = wish.budget or 0.0
    speed = measure(base, data, wish.device, SPEED_SHARE * budget)
    base, solving = planner.affordable_head(base, data.profile, speed, budget)
    step, once = planner.mean_step(base, speed), data.profile.n_validation * speed.evaluate_image
    images = data.profile.n_validation + data.profile.n_test
    closing = planner.MARGIN * budget / 2 + JUDGING * images * speed.views_image
    each = (sought.left - top * closing) / rounds
    evaluations = int(min(EVALUATIONS, max(FEWEST_EVALUATIONS, EVALUATION_SHARE * each / max(once, 1e-9))))
    fixed = speed.start + solving + evaluations * once
    steps = base.run.steps if wish.fixed_steps else int((each - fixed) / step)
    if steps < FEWEST_STEPS and not wish.fixed_steps:
        need = rounds * (fixed + FEWEST_STEPS * step) + top * closing + budget - sought.left
        raise ConvclinicError(
            f"{units.duration(budget)} allow each trial {max(0, steps)} steps of training",
            fix=f"give {units.duration(need)}, or fewer --trials",
        )
    batch = min(base.run.batch_size, data.profile.n_train)
    return {
        "images": steps * batch,
        "evaluations": evaluations,
        "seconds": fixed + steps * step,
        "closing": closing,
    }


def _fingerprint(data: Dataset) -> str:
    """Of names, labels and parts: machines that share a search must have the same."""
    digest = hashlib.blake2b(digest_size=8)
    for part in ("\n".join(data.names).encode(), data.labels.tobytes(), data.splits.tobytes()):
        digest.update(part)
    return digest.hexdigest()


def _same_data(wish: Wish, known: dict[str, Any], target: Path, display: Display) -> Dataset:
    """The data as the machine that planned has them. Raises ConvclinicError where they differ."""
    display.stage("check-up")
    source, shape = open_source(wish.data), Recipe.from_dict(known["recipe"]).data
    size = (shape.height, shape.width, shape.channels)
    data = assemble(source, survey(source, seed=wish.seed), size, target, seed=wish.seed)
    if _fingerprint(data) != known["fingerprint"]:
        raise ConvclinicError(
            f"{wish.data} does not hold the images that this search was begun with",
            fix="copy them as they are, names included, or give another --storage",
        )
    return data
