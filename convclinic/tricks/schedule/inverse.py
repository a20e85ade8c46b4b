"""Inverse: the learning rate falls like 1 / t, fast at first and then ever more slowly.

Formula   factor(t) = 1 / (1 + k t)
Shapes    progress t in [0, 1] -> factor in [1 / (1 + k), 1]
Strength  k >= 0; 0 is off; 9 ends at a tenth and 99 at a hundredth
Helps     convex problems, such as a linear classifier on fixed features, for which it is the proven choice
Hurts     deep nets: the LR falls in the first steps, where a high one is worth most
Clashes   plateau (both lower the LR, and their factors are multiplied); adagrad (it falls by itself)
Source    Robbins and Monro, A Stochastic Approximation Method, 1951; in this form Johnson, Li and Karpathy,
          CS231n, Neural Networks Part 3, 2015. Here t is the share of training, not the step or epoch
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from convclinic.ground.errors import ConvclinicError


def inverse(progress: float, k: float) -> float:
    """The formula.

    >>> inverse(0.0, 3.0), inverse(1 / 3, 3.0), inverse(1.0, 3.0)
    (1.0, 0.5, 0.25)
    """
    return 1 / (1 + k * progress)


@dataclass(frozen=True)
class Inverse:
    slot: ClassVar[str] = "schedule"
    OFF: ClassVar[dict[str, object]] = {"k": 0.0}
    k: float = 9.0

    def __post_init__(self) -> None:
        if not 0 <= self.k < math.inf:
            raise ConvclinicError(
                f"inverse's k must lie in [0, infinity), not {self.k}", fix="9 ends at a tenth, 0 is off"
            )

    def factor(self, progress: float) -> float:
        return inverse(progress, self.k)
