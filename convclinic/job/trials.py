"""One remedy against doing nothing: trained for a share of the run, compared image by image, written down."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from convclinic import loop
from convclinic.clinic.remedies import Remedy
from convclinic.clinic.signals import Floats
from convclinic.data.dataset import Dataset
from convclinic.ground import rng
from convclinic.ground.stats import fit_temperature
from convclinic.history import Record
from convclinic.planning.probing import forget_statistics
from convclinic.recipe import Recipe
from convclinic.slots import name_of

CERTAIN = 2.0  # standard errors by which a remedy must be better than nothing
STATISTICS_IMAGES, STATISTICS_BATCH = 512, 64  # from which batch norm takes its statistics anew
LEAST_GAIN = 0.005  # of the loss without it, by which a remedy must be better
SETTLED = 50  # updates after which its own running statistics are a fair account of the net
LEARNT = 0.9  # times the loss of chance: a state above it is not worth going back to


@dataclass(frozen=True)
class Trial:
    """One remedy against doing nothing: validation losses after equally many steps from `since`.

    at is the run's step when it was tried, changed the recipe's identity under the remedy, until the step at
    which it ended: later for the best two, which went on beside each other. gain is the mean over validation
    images of the loss that it saved, error its standard error; None where a net gave no numbers. cost is what
    was thrown away, as a share of a training: the trial's own steps, or those that a kept remedy went back
    over; the first of several has those of doing nothing too, where they had to be trained.
    """

    cause: str
    edit: str
    changed: str
    at: int
    since: int
    steps: int
    until: int
    nothing: float | None
    remedy: float | None
    gain: float | None
    error: float | None
    cost: float
    kept: bool = False

    @property
    def better(self) -> bool:
        """Than nothing, for sure and by enough. A net that gives numbers is better than one that does not."""
        if self.remedy is None or self.nothing is None:
            return self.remedy is not None
        return (self.gain or 0.0) > max(CERTAIN * (self.error or 0.0), LEAST_GAIN * self.nothing)

    @property
    def words(self) -> str:
        with_it, without = ("no number" if x is None else f"{x:.3f}" for x in (self.remedy, self.nothing))
        return (
            f"treated {self.cause}: {self.edit}, {self.steps} steps from step {self.since}: validation loss "
            f"{with_it}, doing nothing {without}; {'kept' if self.kept else 'reverted'}"
        )


@dataclass
class Arm:
    """Where a trial ended. losses: of each validation image, infinite where the net gives no numbers."""

    recipe: Recipe
    state: loop.State
    records: list[Record]
    losses: Floats


def advance(recipe: Recipe, data: Dataset, state: loop.State, share: float, check: Callable[[], None]) -> Arm:
    """Train `state` for this share of the recipe's steps, or until the loss is no number.

    check is called after every step, and raises where the run is to stop.
    """
    arm = Arm(recipe, state, [], np.empty(0))
    go_on(arm, data, share, check)
    return arm


def go_on(arm: Arm, data: Dataset, share: float, check: Callable[[], None]) -> None:
    """Train where the arm ended, in place, for a further share of its recipe's steps."""
    end = arm.state.step + math.ceil(share * arm.recipe.total_steps - 1e-9)
    for record in loop.fit(arm.recipe, data, arm.state):
        arm.records.append(record)
        check()
        if not math.isfinite(record.loss) or (record.step == arm.state.step and arm.state.step >= end):
            break
    arm.losses = losses(arm.recipe, data, arm.state)


def losses(recipe: Recipe, data: Dataset, state: loop.State) -> Floats:
    """Cross-entropy of each validation image at the temperature that suits them best.

    Without it a net that has just begun to learn, and is too sure of itself, would seem worse than a dead one
    that always says the prior. Of the net itself, with statistics of batch norm taken anew: averages of
    weights and statistics lag behind a change for longer than a trial lasts.
    """
    net = _with_statistics(recipe, data, state)
    logits, labels = loop.split_logits(recipe, data, "validation", net, state.fitted, state.device)
    logits = logits.double()
    if logits.isfinite().all():
        logits /= fit_temperature(labels.numpy(), logits.numpy())
    each = F.cross_entropy(logits, labels, reduction="none").numpy()
    return np.where(np.isfinite(each), each, np.inf)


@torch.no_grad()
def _with_statistics(recipe: Recipe, data: Dataset, state: loop.State) -> nn.Module:
    """The net; early in a run a copy whose batch norm has the mean statistics of some training images."""
    if state.step >= SETTLED or any(name_of(trick) == "frozen_norm" for trick in recipe.transfer):
        return state.net
    copied = copy.deepcopy(state.net)
    if not forget_statistics(copied):
        return state.net
    train = data.indices("train")
    order = torch.randperm(len(train), generator=rng.generator(recipe.seed, "statistics")).numpy()
    chosen = train[order[:STATISTICS_IMAGES]]
    for part in np.array_split(chosen, max(1, len(chosen) // STATISTICS_BATCH)):
        copied(loop.plain(recipe, data, state.fitted, part, state.device))
    return copied


def has_learnt(recipe: Recipe, data: Dataset, state: loop.State) -> bool:
    """Whether the net is better than chance: one that has been killed does not come back."""
    return state.step > 0 and float(losses(recipe, data, state).mean()) < LEARNT * chance(data)


def chance(data: Dataset) -> float:
    """The loss of a net that knows the classes' shares and nothing else: their entropy."""
    counts = np.bincount(data.labels[data.indices("validation")])
    shares = counts[counts > 0] / counts.sum()
    return -float((shares * np.log(shares)).sum())


def compared(cause: str, remedy: Remedy, at: int, since: int, idle: Floats, arm: Arm) -> Trial:
    """The trial that ended in `arm`, against the losses of doing nothing. `at`: the run's step."""
    saved, error = gain(idle, arm.losses)
    told = [float(idle.mean()), float(arm.losses.mean()), saved, error]
    nothing, treated, saved, error = (value if math.isfinite(value) else None for value in told)
    steps = arm.state.step - since
    return Trial(
        cause=cause,
        edit=remedy.edit,
        changed=identity(remedy.recipe),
        at=at,
        since=since,
        steps=steps,
        until=arm.state.step,
        nothing=nothing,
        remedy=treated,
        gain=saved,
        error=error,
        cost=steps / remedy.recipe.total_steps,
    )


def gain(idle: Floats, treated: Floats) -> tuple[float, float]:
    """Mean loss saved by the treatment and its standard error, paired by image."""
    if not np.isfinite(treated).all():
        return -math.inf, 0.0
    if not np.isfinite(idle).all():
        return math.inf, 0.0
    saved = idle - treated
    error = float(saved.std(ddof=1) / math.sqrt(len(saved))) if len(saved) > 1 else math.inf
    return float(saved.mean()), error


def identity(recipe: Recipe) -> str:
    """The recipe's hash without the bends of its schedule: bent, it is no other remedy."""
    return dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, rescheduled=())).hash()


def shortened(recipe: Recipe, length: float) -> Recipe:
    """The recipe for this share of its steps, from fresh weights."""
    if length >= 1.0:
        return recipe
    run = dataclasses.replace(recipe.run, steps=int(length * recipe.total_steps), rescheduled=())
    return dataclasses.replace(recipe, run=run)


def finite(state: loop.State) -> bool:
    """Whether all weights are numbers."""
    return all(bool(torch.isfinite(p.detach()).all()) for p in state.net.parameters())
