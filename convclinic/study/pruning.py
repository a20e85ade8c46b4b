"""When a search gives a training up: its curve beside those that were trained to their end.

Every training of a search has as many epochs, so that curves are compared at equal shares of training. One
that scores below the median of the finished ones at the same share, by more than chance explains on so few
validation images, is given up; nothing is, before a few are finished. Only what came to its end is compared
with, so the mark rises as the search gets better, and no training is judged by others that were given up in
haste.

Source: the median stopping rule of Golovin et al., Google Vizier: A Service for Black-Box Optimization, 2017.
The margin is ours: chance alone puts half of the trainings that are as good as the finished ones below their
median at any one validation. That three finished trainings suffice, and other rules: docs/log.md
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FULL = 3  # trainings that are finished before any is given up
EARLIEST = 0.1  # share of a training before which no curve is judged
ERRORS = 2.0  # standard errors of the median that a score must be below it


@dataclass(frozen=True)
class Curve:
    """Scores in [0, 1] at rising shares of training, in (0, 1]."""

    shares: tuple[float, ...]
    scores: tuple[float, ...]

    @property
    def best(self) -> float:
        return max(self.scores)

    def at(self, share: float) -> float:
        """The best score up to `share`, between two validations in a straight line."""
        return float(np.interp(share, self.shares, np.maximum.accumulate(self.scores)))


@dataclass(frozen=True)
class Standing:
    """Where a curve stands at a share of training: its best score so far, and the median of `n` finished
    ones, with the standard error that it has as an accuracy on the validation images."""

    share: float
    score: float
    median: float
    n: int
    error: float

    @property
    def behind(self) -> bool:
        return self.score < self.median - ERRORS * self.error

    def words(self) -> str:
        return (
            f"after {self.share:.0%} of training it scores {self.score:.1%}, the median of {self.n} finished "
            f"ones {self.median:.1%} ± {self.error:.1%}"
        )


def standing(curve: Curve, finished: Sequence[Curve], images: int) -> Standing | None:
    """The curve beside finished ones, whose scores were taken on so many images; None while too little is
    known."""
    share = curve.shares[-1]
    if len(finished) < FULL or share < EARLIEST:
        return None
    median = statistics.median(one.at(share) for one in finished)
    error = math.sqrt(median * (1 - median) / images)
    return Standing(share, curve.best, median, len(finished), error)
