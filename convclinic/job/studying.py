"""`convclinic study`: the data and the machine looked at, then many runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convclinic.data.dataset import assemble
from convclinic.data.sources import open_source
from convclinic.data.survey import survey
from convclinic.ground import units
from convclinic.ground.files import read_json
from convclinic.job import folder as place
from convclinic.job.display import Lines, Silent
from convclinic.planning import hardware, planner
from convclinic.planning.speed import forward_operations
from convclinic.recipe import Recipe
from convclinic.slots import Input, read_slot
from convclinic.study import activations as study
from convclinic.study.activations import FILE, Row


@dataclass(frozen=True)
class Studied:
    """The table, how long each net was trained, and where it is kept."""

    rows: list[Row]
    steps: int
    epochs: float
    folder: Path


def study_activations(
    data: str | Path,
    *,
    net: str = "nin",
    seeds: int = 3,
    budget: str | float | None = "1h",
    only: Sequence[str] = (),
    out: str | Path | None = None,
    settings: Sequence[str] = (),
    device: str | None = None,
    quiet: bool = False,
) -> Studied:
    """Compare activations in `net` on `data`: see convclinic.study.activations.

    budget: for all runs together, seconds or text such as "1h". only: labels of those to compare, all when
    empty. out: where outcomes are kept; None for `NAME-activations` here. settings: changes of the recipe.
    """
    started = time.monotonic()
    seconds = units.seconds(budget or "1h")
    compared = study.choose(only)
    where, source = hardware.choose_device(device), open_source(Path(data))
    folder = Path(out) if out is not None else Path(f"{Path(data).resolve().name.split('.')[0]}-activations")
    folder.mkdir(parents=True, exist_ok=True)
    with place.locked(folder), Silent() if quiet else Lines() as display:
        display.stage("look")
        seen, machine = survey(source, seed=0), hardware.measure(where)
        chosen, each = read_slot("net", net), seconds / (seeds * len(compared))

        def cost(height: int, width: int) -> float:
            return forward_operations(Recipe(net=chosen, data=Input(height, width, 3)), 10, height, width)

        shape = planner.choose_input(seen, each, cost, machine.rate)
        recipe = study.base_recipe(shape, chosen, machine.precision, settings)
        size = (recipe.data.height, recipe.data.width, recipe.data.channels)
        display.stage("check-up")

        def progress(done: int, total: int) -> None:
            display.update(done, total, f"{done} images")

        dataset = assemble(source, seen, size, folder, seed=0, progress=progress)
        display.stage("train")

        def steps() -> int:
            left = seconds - (time.monotonic() - started)
            return study.steps_within(recipe, dataset, where, compared, seeds, left)

        outcomes = []
        for outcome, done, total in study.compare(recipe, dataset, where, compared, seeds, folder, steps):
            outcomes.append(outcome)
            words = f"{outcome.label}, seed {outcome.seed}: test error {outcome.test_error:.4f}"
            display.update(done, total, words)
            display.say(f"  {words}")
    taken = int(read_json(folder / FILE)["steps"])
    return Studied(
        study.summary(compared, outcomes), taken, epochs(recipe, taken, dataset.profile.n_train), folder
    )


def epochs(recipe: Recipe, steps: int, n_train: int) -> float:
    return steps * min(recipe.run.batch_size, n_train) / n_train
