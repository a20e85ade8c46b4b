"""Exponential: the learning rate loses the same share of itself at every step.

Formula   factor(t) = final ^ t
Shapes    progress t in [0, 1] -> factor in [final, 1]
Strength  final in (0, 1], the factor at the end; 1 is off; 0.01 is usual
Helps     long runs whose LR should pass through every order of magnitude for the same time
Hurts     short runs: the LR is low for half of them
Clashes   plateau (both lower the LR, and their factors are multiplied)
Source    Johnson, Li and Karpathy, CS231n, Neural Networks Part 3, 2015: a0 exp(-k t), where k = -ln(final)
          with t the share of training; torch.optim.lr_scheduler.ExponentialLR's gamma is final ^ (1 / steps)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from convclinic.ground.errors import ConvclinicError


def exponential(progress: float, final: float) -> float:
    """The formula.

    >>> exponential(0.0, 0.25), exponential(0.5, 0.25), exponential(1.0, 0.25)
    (1.0, 0.5, 0.25)
    """
    return final**progress


@dataclass(frozen=True)
class Exponential:
    slot: ClassVar[str] = "schedule"
    OFF: ClassVar[dict[str, object]] = {"final": 1.0}
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"final": (1e-5, 1.0)}
    final: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.final <= 1:
            raise ConvclinicError(
                f"exponential's final must lie in (0, 1], not {self.final}", fix="0.01 is usual, 1 is off"
            )

    def factor(self, progress: float) -> float:
        return exponential(progress, self.final)
