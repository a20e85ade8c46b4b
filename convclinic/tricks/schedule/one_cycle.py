"""One cycle: the learning rate rises to its peak on a straight line, then falls on another.

Formula   factor(t) = start + (1 - start) t / warmup                    for t < warmup
                      1 + (end - 1) (t - warmup) / (1 - warmup)         from there on
Shapes    progress t in [0, 1] -> factor in [min(start, end), 1], 1 at t = warmup
Strength  start and end in [0, 1], both 1 is off; warmup, the share of training before the peak, in [0, 1];
          0 is linear decay, and end = 0 is linear decay after a warm-up
Helps     high peak LRs, large batches, deep nets at the start: the first steps are the most dangerous ones
Hurts     very short runs, when much of them is warm-up
Clashes   plateau (both lower the LR, and their factors are multiplied); warm_up (it has a rise of its own)
Source    Smith, A Disciplined Approach to Neural Network Hyper-Parameters, 2018, arXiv:1803.09820 (momentum
          is not cycled here); the defaults 0.23, 0.2 and 0.07 are Jordan's, 2024, arXiv:2404.00498
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from convclinic.ground.errors import ConvclinicError


def one_cycle(progress: float, warmup: float, start: float, end: float) -> float:
    """The formula.

    >>> [one_cycle(t, warmup=0.25, start=0.5, end=0.0) for t in (0.0, 0.125, 0.25, 1.0)]
    [0.5, 0.75, 1.0, 0.0]
    """
    if progress < warmup:
        share = progress / warmup
        return start * (1 - share) + share
    # at warmup = 1 the peak is the last step
    share = (progress - warmup) / (1 - warmup) if warmup < 1 else 0.0
    return (1 - share) + end * share


@dataclass(frozen=True)
class OneCycle:
    slot: ClassVar[str] = "schedule"
    OFF: ClassVar[dict[str, object]] = {"start": 1.0, "end": 1.0}
    warmup: float = 0.23
    start: float = 0.2
    end: float = 0.07

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ConvclinicError(
                    f"one_cycle's {name} must lie in [0, 1], not {value}",
                    fix="warmup, start and end are shares",
                )

    def factor(self, progress: float) -> float:
        return one_cycle(progress, self.warmup, self.start, self.end)
