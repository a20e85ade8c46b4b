"""Step: the learning rate drops by a factor at set points of training.

Formula   factor(t) = gamma ^ (number of milestones <= t)
Shapes    progress t in [0, 1] -> factor in (0, 1]
Strength  gamma in (0, 1]; 1 is off, and so are no milestones; 0.1 at 1/2 and 3/4 is usual
Helps     comparing with older papers; seeing in the curves what a drop does
Hurts     short budgets: the best score comes only after the last drop
Clashes   plateau (both lower the LR, and their factors are multiplied)
Source    He et al., Deep Residual Learning, 2016 (2015), arXiv:1512.03385, section 4.2: a tenth at 32k and
          48k of 64k iterations
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from convclinic.ground.errors import ConvclinicError


def step(progress: float, milestones: tuple[float, ...], gamma: float) -> float:
    """The formula.

    >>> [step(t, (0.5, 0.75), 0.5) for t in (0.0, 0.5, 0.7, 0.8)]
    [1.0, 0.5, 0.5, 0.25]
    """
    return gamma ** sum(milestone <= progress for milestone in milestones)


@dataclass(frozen=True)
class Step:
    slot: ClassVar[str] = "schedule"
    OFF: ClassVar[dict[str, object]] = {"gamma": 1.0}
    gamma: float = 0.1
    milestones: tuple[float, ...] = (0.5, 0.75)

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ConvclinicError(
                f"step's gamma must lie in (0, 1], not {self.gamma}", fix="0.1 is usual, 1 is off"
            )
        if not all(0 <= milestone <= 1 for milestone in self.milestones):
            raise ConvclinicError(
                f"step's milestones are shares of training in [0, 1], not {self.milestones}",
                fix="divide the epoch of each drop by the number of epochs, as in 0.5,0.75",
            )

    def factor(self, progress: float) -> float:
        return step(progress, self.milestones, self.gamma)
