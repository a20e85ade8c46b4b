"""The LR range test: raise the LR step by step, watch the loss, keep nothing (Smith 2015, arXiv:1506.01186).

It runs on a state of its own, so the model that is trained afterwards is untouched bit for bit; it stops at
the first loss that is not finite or far above the best, and says how sure it is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from convclinic.data.dataset import Dataset
from convclinic.loop import fit, start
from convclinic.recipe import Recipe
from convclinic.slots import name_of

SPAN = 30.0  # the sweep covers the recipe's LR divided and multiplied by this
BLOWN = 1.5  # a smoothed loss this many times the best has blown up


@dataclass(frozen=True)
class Sweep:
    """A schedule for measuring, not for training: the LR rises exponentially from 1/span to span."""

    span: float

    def factor(self, progress: float) -> float:
        """
        >>> Sweep(10.0).factor(0.0), Sweep(10.0).factor(0.5), Sweep(10.0).factor(1.0)
        (0.1, 1.0, 10.0)
        """
        return self.span ** (2 * progress - 1)


@dataclass(frozen=True)
class RangeResult:
    """Factors are relative to the recipe's LR. `steepest` is where the loss fell fastest; `limit` where it
    turned for good, or None if it never did; `confidence` in [0, 1] is the share of the starting loss that
    the sweep removed against its noise."""

    steps: int
    steepest: float
    limit: float | None
    confidence: float


def range_test(
    recipe: Recipe, data: Dataset, device: torch.device, steps: int, batch_size: int
) -> RangeResult:
    """Sweep the LR from `1/SPAN` to `SPAN` times the recipe's over `steps` updates of `batch_size` images."""
    run = dataclasses.replace(
        recipe.run,
        steps=steps + 1,
        batch_size=batch_size,
        evaluate_every=steps + 2,
        patience=0,
        rescheduled=(),
    )
    # what lets stages learn one after the other would make the sweep one of several nets
    transfer = tuple(trick for trick in recipe.transfer if name_of(trick) not in ("head_first", "gradual"))
    sweep = dataclasses.replace(recipe, run=run, schedule=(Sweep(SPAN),), average=None, transfer=transfer)
    factors: list[float] = []
    losses: list[float] = []
    for record in fit(sweep, data, start(sweep, data, device)):
        factors.append(sweep.lr_factor(sweep.progress(record.step - 1)))
        losses.append(record.loss)
        if not math.isfinite(record.loss) or record.loss > 4 * min(losses) or record.step == steps:
            break  # before the loop's own last step, which would be evaluated: nobody needs that here
    return read(factors, losses)


def read(factors: Sequence[float], losses: Sequence[float]) -> RangeResult:
    """Judge a sweep. Pure, so that it can be tested on made curves."""
    smooth = _smooth([loss for loss in losses if math.isfinite(loss)])
    if len(smooth) < 5:
        return RangeResult(len(losses), factors[0], factors[len(smooth) - 1] if smooth else factors[0], 0.0)
    best = min(range(len(smooth)), key=smooth.__getitem__)
    slopes = [smooth[i + 1] - smooth[i - 1] for i in range(1, max(2, best))]
    steepest = 1 + min(range(len(slopes)), key=slopes.__getitem__)
    blown = [i for i in range(best, len(smooth)) if smooth[i] > BLOWN * smooth[best]]
    limit = factors[blown[0]] if blown else (factors[len(smooth)] if len(smooth) < len(losses) else None)
    fall = smooth[0] - smooth[best]
    inner = range(1, max(2, best))  # a point's distance from its neighbours' mean: noise, not trend
    noise = sum(abs(losses[i] - (losses[i - 1] + losses[i + 1]) / 2) for i in inner) / len(inner)
    confidence = min(1.0, fall / (fall + 3 * noise)) if fall > 1e-3 * abs(smooth[0]) else 0.0
    return RangeResult(len(losses), factors[steepest], limit, confidence)


def _smooth(losses: Sequence[float], memory: float = 0.8) -> list[float]:
    """Exponential mean with the start's bias removed."""
    mean, out = 0.0, list[float]()
    for i, loss in enumerate(losses, 1):
        mean = memory * mean + (1 - memory) * loss
        out.append(mean / (1 - memory**i))
    return out
