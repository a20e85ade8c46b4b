"""SWA: the weights of the last part of training are averaged equally, and it is the average that is used.

Formula   n = (step - after) / every + 1,   a <- a + (w - a) / n   every `every` steps from `after` on;
          before that a = w
Shapes    two dictionaries of tensors with the same names and shapes: parameters and buffers. Integer ones,
          such as batch norm's counter, are copied
Strength  after >= 0 steps: three quarters of the run is usual, so 750 for the default 1000 (a share would
          need the number of steps, which is not seen here); beyond the end of the run is off. every >= 1
          steps: the source's is an epoch; 1 costs little and averages nearly the same
Helps     runs that end at a high or cyclic LR: the average lies inside the flat region whose rim they visit
Hurts     runs that are stopped before `after`, for which it does nothing; a start too early, since the first
          weights count as much as the last
Clashes   schedules that end at 0 (they average already, so there is less left to gain); batch norm: its
          stored mean and variance are averaged like weights, though they are not those of a net with the
          averaged weights. The source measures them anew over the training set
          (torch.optim.swa_utils.update_bn), which is not done here
Source    Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, 2018,
          arXiv:1803.05407, algorithm 1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import State
from convclinic.tricks.average._move import move


def share_at(step: int, after: int, every: int) -> float:
    """How much of the way to the current weights the average goes after `step` finished updates.

    >>> [share_at(step, after=3, every=2) for step in (0, 2, 3, 4, 5, 6, 7)]
    [1.0, 1.0, 1.0, 0.0, 0.5, 0.0, 0.3333333333333333]
    """
    if step <= after:
        return 1.0
    n, between = divmod(step - after, every)
    return 0.0 if between else 1 / (n + 1)


@dataclass(frozen=True)
class SWA:
    slot: ClassVar[str] = "average"
    after: int = 750
    every: int = 1

    def __post_init__(self) -> None:
        if self.after < 0:
            raise ConvclinicError(
                f"swa's after must be 0 or more, not {self.after}",
                fix="it counts steps: three quarters of the run is usual",
            )
        if self.every < 1:
            raise ConvclinicError(
                f"swa's every must be 1 or more, not {self.every}",
                fix="it counts steps: 1, or those of an epoch",
            )

    @torch.no_grad()
    def update(self, averaged: State, current: State, step: int) -> None:
        """Move `averaged` towards `current` after `step` finished updates, in place."""
        share = share_at(step, self.after, self.every)
        if share:
            move(averaged, current, share)
