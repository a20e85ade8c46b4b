"""Plateau: the learning rate is divided whenever validation has stopped getting better.

Formula   better: metric > best + threshold;   after `patience` evaluations in a row that were not:
          scale <- max(least, scale / divide_by)
Shapes    a Watch (scale, best, waited) and a metric, higher is better -> the next Watch
Strength  divide_by >= 1, 1 is off, 2 or 5 is usual; patience >= 1 evaluations; threshold >= 0 in units of the
          metric; least in [0, 1], the share of the LR that is always left
Helps     runs whose length is not known beforehand; unknown data
Hurts     short runs, which never stall; small validation sets, whose noise looks like a plateau
Clashes   schedules that fall (factors are multiplied); early stopping with a patience no longer than this one
Source    Wei, Must Know Tips/Tricks in Deep Neural Networks, 2015, after Sutskever, A Brief Overview of Deep
          Learning, 2015: when progress on the validation set stops, divide the LR by 2 (or by 5) and go on.
          torch.optim.lr_scheduler.ReduceLROnPlateau divides one evaluation later than its patience says
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Watch


def plateau(
    watch: Watch, metric: float, divide_by: float, patience: int, threshold: float, least: float
) -> Watch:
    """The formula. A metric that is not a number is no improvement.

    >>> watch = Watch()
    >>> for accuracy in (0.5, 0.6, 0.6, 0.55):
    ...     watch = plateau(watch, accuracy, divide_by=2, patience=2, threshold=0.0, least=0.01)
    >>> watch
    Watch(scale=0.5, best=0.6, waited=0)
    """
    if metric > watch.best + threshold:
        return Watch(watch.scale, metric, 0)
    waited = watch.waited + 1
    if waited < patience:
        return Watch(watch.scale, watch.best, waited)
    return Watch(max(least, watch.scale / divide_by), watch.best, 0)


@dataclass(frozen=True)
class Plateau:
    slot: ClassVar[str] = "schedule"
    OFF: ClassVar[dict[str, object]] = {"divide_by": 1.0}
    divide_by: float = 2.0
    patience: int = 3
    threshold: float = 0.0
    least: float = 0.001

    def __post_init__(self) -> None:
        if not 1 <= self.divide_by < math.inf:
            raise ConvclinicError(
                f"plateau's divide_by must be 1 or more, not {self.divide_by}",
                fix="it divides: 2 or 5 is usual, 1 is off",
            )
        if self.patience < 1:
            raise ConvclinicError(
                f"plateau's patience must be 1 or more, not {self.patience}", fix="it counts evaluations"
            )
        if not 0 <= self.threshold < math.inf:
            raise ConvclinicError(f"plateau's threshold must be 0 or more, not {self.threshold}")
        if not 0 <= self.least <= 1:
            raise ConvclinicError(f"plateau's least must lie in [0, 1], not {self.least}")

    def factor(self, progress: float) -> float:
        """Progress alone changes nothing."""
        return 1.0

    def observe(self, watch: Watch, metric: float) -> Watch:
        """What is remembered after an evaluation; the LR is multiplied by its scale."""
        return plateau(watch, metric, self.divide_by, self.patience, self.threshold, self.least)
