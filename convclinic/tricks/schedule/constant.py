"""Constant: the learning rate stays what it is.

Formula   factor(t) = 1
Shapes    progress t in [0, 1] -> factor 1
Strength  none: this is what the other schedules are when they are off
Helps     finding a first LR, sanity checks, averaging of weights; plateau alone does the rest
Hurts     the final score: without decay the weights keep jumping around the minimum
Clashes   nothing
Source    Robbins and Monro, A Stochastic Approximation Method, 1951, for why a decay is needed
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Constant:
    slot: ClassVar[str] = "schedule"

    def factor(self, progress: float) -> float:
        return 1.0
