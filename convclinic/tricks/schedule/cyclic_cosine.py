"""Cyclic cosine: the learning rate falls along half a cosine several times, each time from its full height.

Formula   factor(t) = end + (1 - end) (1 + cos(pi u)) / 2,   u = (cycles t) mod 1, and u = 1 at t = 1
Shapes    progress t in [0, 1] -> factor in [end, 1]
Strength  cycles >= 1, 1 is cosine, 5 or 6 is usual; end in [0, 1], 1 is off, 0 is usual
Helps     ensembles from one training: each cycle ends in a minimum of its own. With run.snapshots equal to
          cycles one set of weights is kept at the end of each, and `convclinic ensemble RUN` joins them
Hurts     the last net alone, which has had one cycle only; runs so short that a cycle is a few epochs
Clashes   plateau (both lower the LR, and their factors are multiplied); averages of weights with a long
          memory, which reach back over the restart
Source    Huang et al., Snapshot Ensembles, 2017, arXiv:1704.00109, equation 2, where t counts steps; the
          restarts are those of Loshchilov and Hutter, SGDR, 2017 (2016), arXiv:1608.03983, at equal lengths
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.typed import at_least

ROUNDING = 1e-9  # of a cycle: a step that begins the next one is not taken for the last of this one


def cyclic_cosine(progress: float, cycles: int, end: float) -> float:
    """The formula.

    >>> [round(cyclic_cosine(t, 2, 0.0), 12) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [1.0, 0.5, 1.0, 0.5, 0.0]
    """
    place = cycles * progress
    share = max(0.0, place - min(math.floor(place + ROUNDING), cycles - 1))
    return end + (1 - end) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class CyclicCosine:
    slot: ClassVar[str] = "schedule"
    OFF: ClassVar[dict[str, object]] = {"end": 1.0}
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"cycles": (1, 20)}
    cycles: int = 5
    end: float = 0.0

    def __post_init__(self) -> None:
        at_least("cyclic_cosine's cycles", self.cycles, 1)
        if not 0 <= self.end <= 1:
            raise ConvclinicError(
                f"cyclic_cosine's end must lie in [0, 1], not {self.end}", fix="0 is usual, 1 is off"
            )

    def factor(self, progress: float) -> float:
        return cyclic_cosine(progress, self.cycles, self.end)
