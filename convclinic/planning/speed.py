"""How fast this machine really trains this recipe on these data: real steps of the real loop, timed."""

from __future__ import annotations

import dataclasses
import statistics
import time
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from convclinic.data.dataset import Dataset
from convclinic.loop import State, fit, size_at, start
from convclinic.model import bare_net, batches, forward
from convclinic.recipe import Recipe

FOREVER = 10**9
ALMOST_DONE = 0.999  # of training
FEW_IMAGES, MANY_IMAGES = 64, 1024  # of which evaluation is timed
SLOW = 4.0  # times as long as they should take: then fewer steps are timed


@dataclass(frozen=True)
class Speed:
    """Seconds a training step by (height, width); seconds to evaluate one image in one view and in all the
    recipe's views; seconds that starting took (fitting the preprocessing, building the net; a head is not
    solved for)."""

    step: dict[tuple[int, int], float]
    evaluate_image: float
    views_image: float
    start: float


def forward_operations(recipe: Recipe, n_classes: int, height: int, width: int) -> float:
    """Operations (2 per product) of one image's forward pass, counted on shapes alone."""
    with torch.device("meta"):
        net = bare_net(recipe, n_classes).eval()
        counter = FlopCounterMode(display=False)
        with counter:
            net(torch.zeros(1, recipe.data.channels, height, width))
    return float(counter.get_total_flops())


def training_sizes(recipe: Recipe) -> list[tuple[int, int]]:
    """The image sizes that training passes through, in order."""
    sizes = {size_at(recipe, since): None for since in [0.0, *(s[0] for s in recipe.run.sizes)]}
    return list(sizes)


def measure(recipe: Recipe, data: Dataset, device: torch.device, seconds: float) -> Speed:
    """Time real steps at every size for about `seconds` in all (at least three steps a size after one that
    does not count, or one where they are very slow), and real evaluation. The state is thrown away: training
    starts afresh."""
    transfer = tuple(
        trick for trick in recipe.transfer if trick.kind != "head"
    )  # it would be solved for twice
    recipe = dataclasses.replace(recipe, transfer=transfer)
    begin = time.perf_counter()
    state = start(recipe, data, device)
    started = time.perf_counter() - begin
    sizes = training_sizes(recipe)
    step = {size: _time_steps(recipe, data, state, size, seconds * 0.8 / len(sizes)) for size in sizes}
    single, views = (
        _time_forward(recipe, data, state, seconds * 0.1, with_views) for with_views in (False, True)
    )
    return Speed(step, single, views, started)


def _time_steps(recipe: Recipe, data: Dataset, state: State, size: tuple[int, int], seconds: float) -> float:
    run = dataclasses.replace(
        recipe.run,
        steps=FOREVER,
        sizes=((0.0, *size),),
        evaluate_every=FOREVER,
        patience=0,
        # stages that learn only later cost most then
        rescheduled=((0, ALMOST_DONE, FOREVER),) if recipe.transfer else (),
    )
    times: list[float] = []
    last_time, last_step = time.perf_counter(), state.step
    first = last_time
    for record in fit(dataclasses.replace(recipe, run=run), data, state):
        if record.step != state.step:
            continue  # records come in blocks on an accelerator
        now = time.perf_counter()
        times.append((now - last_time) / (record.step - last_step))
        last_time, last_step = now, record.step
        enough = 4 if now - first < SLOW * seconds else 2
        if len(times) >= enough and now - first >= seconds:
            break
    return statistics.median(times[1:])


def _time_forward(recipe: Recipe, data: Dataset, state: State, seconds: float, views: bool) -> float:
    """Seconds an image: of as many images as fit the time, once a few have warmed the net up."""

    def timed(n: int) -> float:
        images = next(batches(data.images(data.indices("train")[:n])))
        begin = time.perf_counter()
        forward(state.judged, recipe, state.fitted, images, state.device, views=views)
        return (time.perf_counter() - begin) / len(images)

    warming = timed(FEW_IMAGES)
    n = min(MANY_IMAGES, int(seconds / warming))
    return min(warming, timed(n)) if n > FEW_IMAGES else warming
