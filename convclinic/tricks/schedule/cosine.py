"""Cosine: the learning rate falls along half a cosine, slowly at both ends.

Formula   factor(t) = end + (1 - end) (1 + cos(pi t)) / 2
Shapes    progress t in [0, 1] -> factor in [end, 1]
Strength  end in [0, 1]; 1 is off; 0 is usual
Helps     the usual choice for medium and long runs
Hurts     runs that stop early or are extended: the fall is timed for the planned length
Clashes   plateau (both lower the LR, and their factors are multiplied)
Source    Loshchilov and Hutter, SGDR, 2017 (2016), arXiv:1608.03983, equation 5, one period, no restart
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from convclinic.ground.errors import ConvclinicError


def cosine(progress: float, end: float) -> float:
    """The formula.

    >>> cosine(0.0, 0.0), round(cosine(0.5, 0.0), 12), cosine(1.0, 0.0)
    (1.0, 0.5, 0.0)
    """
    return end + (1 - end) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Cosine:
    slot: ClassVar[str] = "schedule"
    OFF: ClassVar[dict[str, object]] = {"end": 1.0}
    end: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.end <= 1:
            raise ConvclinicError(
                f"cosine's end must lie in [0, 1], not {self.end}", fix="0 is usual, 1 is off"
            )

    def factor(self, progress: float) -> float:
        return cosine(progress, self.end)
