"""Warm-up: the learning rate rises on a straight line to its full height, and stays there.

Formula   factor(t) = start + (1 - start) t / share   for t < share, and 1 from there on
Shapes    progress t in [0, 1] -> factor in [start, 1]
Strength  start in [0, 1], 1 is off; share of training in [0, 1], 0 is off; 0.1 over 0.05 is usual
Helps     in front of any other schedule, since factors are multiplied: warm_up and step, warm_up and cosine;
          high LRs, large batches, adaptive optimisers whose averages are still empty
Hurts     very short runs, when much of them is warm-up; start = 0 wastes the first step
Clashes   one_cycle (it has a rise of its own)
Source    Goyal et al., Accurate, Large Minibatch SGD, 2017, arXiv:1706.02677, section 2.2: from the LR of a
          batch of 256 to that of the whole, so start = 256 / batch size, over 5 of 90 epochs. The other
          schedule runs meanwhile: what it falls by within `share` is not made up for
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from convclinic.ground.errors import ConvclinicError


def warm_up(progress: float, share: float, start: float) -> float:
    """The formula.

    >>> [warm_up(t, share=0.5, start=0.5) for t in (0.0, 0.25, 0.5, 1.0)]
    [0.5, 0.75, 1.0, 1.0]
    """
    if progress >= share:
        return 1.0
    risen = progress / share
    return start * (1 - risen) + risen


@dataclass(frozen=True)
class WarmUp:
    slot: ClassVar[str] = "schedule"
    OFF: ClassVar[dict[str, object]] = {"start": 1.0}
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"share": (0.0, 0.5)}
    share: float = 0.05
    start: float = 0.1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ConvclinicError(
                    f"warm_up's {name} must lie in [0, 1], not {value}",
                    fix="share is that of training, start that of the LR",
                )

    def factor(self, progress: float) -> float:
        return warm_up(progress, self.share, self.start)
