"""EMA: a second set of weights follows the trained ones slowly, and is the one that is used.

Formula   a <- a + (1 - d) (w - a),   d = min(decay, (1 + step) / (10 + step))
Shapes    two dictionaries of tensors with the same names and shapes: parameters and buffers. Integer
          ones, such as batch norm's counter, are copied
Strength  decay per step, in [0, 1); 0 is off (the average is the trained net); the memory is about
          1 / (1 - decay) steps: 0.999 is usual, 0.99 in runs of a few hundred steps
Helps     noisy training: large LR, small batches; validation in the middle of a run
Hurts     runs much shorter than the memory
Clashes   schedules that end at 0 (they average already, so there is less left to gain)
Source    Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992; the warm-up, which
          keeps the untrained start from weighing on the average, is that of TensorFlow's
          ExponentialMovingAverage, 2015
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import State
from convclinic.tricks.average._move import move


def decay_at(step: int, decay: float) -> float:
    """The decay after `step` finished updates.

    >>> decay_at(0, 0.999), decay_at(80, 0.999), decay_at(10**6, 0.999)
    (0.1, 0.9, 0.999)
    """
    return min(decay, (1 + step) / (10 + step))


@dataclass(frozen=True)
class EMA:
    slot: ClassVar[str] = "average"
    OFF: ClassVar[dict[str, object]] = {"decay": 0.0}
    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ConvclinicError(
                f"ema's decay must lie in [0, 1), not {self.decay}", fix="0.99 to 0.9999 is usual, 0 is off"
            )

    @torch.no_grad()
    def update(self, averaged: State, current: State, step: int) -> None:
        """Move `averaged` towards `current` after `step` finished updates, in place."""
        move(averaged, current, 1 - decay_at(step, self.decay))
