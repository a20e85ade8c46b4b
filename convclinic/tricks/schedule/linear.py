"""Linear: the learning rate falls on a straight line.

Formula   factor(t) = 1 - (1 - end) t
Shapes    progress t in [0, 1] -> factor in [end, 1]
Strength  end in [0, 1]; 1 is off; 0 is usual
Helps     short budgets: among the best and without a knob to set
Hurts     runs that are to be extended later: a factor of 0 is the end
Clashes   plateau (both lower the LR, and their factors are multiplied)
Source    Jordan, 94% on CIFAR-10 in 3.29 seconds, 2024, arXiv:2404.00498; Defazio et al., When, Why
          and How Much? Adaptive Learning Rate Scheduling by Refinement, 2023, arXiv:2310.07831
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from convclinic.ground.errors import ConvclinicError


def linear(progress: float, end: float) -> float:
    """The formula.

    >>> linear(0.0, 0.0), linear(0.25, 0.0), linear(1.0, 0.0)
    (1.0, 0.75, 0.0)
    """
    return (1 - progress) + end * progress


@dataclass(frozen=True)
class Linear:
    slot: ClassVar[str] = "schedule"
    OFF: ClassVar[dict[str, object]] = {"end": 1.0}
    end: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.end <= 1:
            raise ConvclinicError(
                f"linear's end must lie in [0, 1], not {self.end}", fix="0 is usual, 1 is off"
            )

    def factor(self, progress: float) -> float:
        return linear(progress, self.end)
