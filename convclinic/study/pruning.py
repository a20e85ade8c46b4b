"""When a search gives a training up: its curve beside those that were trained to their end.

Every training of a search has as many epochs and the same schedule, so that curves are compared at equal
shares of training. From there on a net's error (1 - score) falls to some part of what it was. The smallest
such part among the finished trainings is the best that can be hoped for; a training that would need more than
that to become the best is given up. Nothing is given up before a few are finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FULL = 3  # trainings that are finished before any is given up
EARLIEST = 0.1  # share of a training before which no curve is judged


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
class Hope:
    """error: now; needed: the best error so far; least: the smallest part of its error at this share that a
    finished training ended with."""

    error: float
    needed: float
    least: float

    @property
    def lost(self) -> bool:
        return self.error * self.least > self.needed

    def words(self) -> str:
        return (
            f"from here no training brought its error below {self.least:.0%} of what it was, and this one "
            f"needs {self.needed / self.error:.0%}"
        )


def hope(curve: Curve, finished: Sequence[Curve]) -> Hope | None:
    """What can be hoped for a training with this curve beside finished ones; None while it is not known."""
    share = curve.shares[-1]
    if len(finished) < FULL or share < EARLIEST:
        return None
    parts = [(1 - one.best) / max(1e-9, 1 - one.at(share)) for one in finished]
    return Hope(1 - curve.best, min(1 - one.best for one in finished), min(parts))
