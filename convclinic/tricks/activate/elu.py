"""ELU: a ReLU whose negative side bends smoothly to a floor, so that units average nearer to zero.

Formula   f(x) = x if x > 0 else alpha (exp(x) - 1)
Shapes    any, kept
Strength  alpha >= 0, the depth of the floor; 0 is ReLU, 1 is usual. There is no value that means off
Helps     nets without normalisation, which it replaces in part
Hurts     speed a little, on the CPU above all; little to gain where batch norm centres anyway
Clashes   nothing
Source    Clevert et al., Fast and Accurate Deep Network Learning by Exponential Linear Units, 2016 (2015),
          arXiv:1511.07289. Gain: E f(z)^2 = 1/2 + alpha^2 (e^2 P(-2) - 2 e^(1/2) P(-1) + 1/2) for z ~ N(0, 1)
          with distribution function P, since E[exp(a z); z < 0] = exp(a^2 / 2) P(-a). At alpha = 1 that is
          0.64495, and 1 / sqrt(0.64495) = 1.24520 keeps the second moment, as He et al. (2015) derive sqrt(2)
          for ReLU
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError


def elu(x: Tensor, alpha: float) -> Tensor:
    # the clamp keeps exp from overflowing on the side that is not used, where its gradient would be NaN
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp_max(0)))


def negative_moment() -> float:
    """E[(exp(z) - 1)^2; z < 0] for z ~ N(0, 1).

    >>> round(negative_moment(), 5)
    0.14495
    """

    def below(a: float) -> float:  # E[exp(a z); z < 0]
        return math.exp(a**2 / 2) * math.erfc(a / math.sqrt(2)) / 2

    return below(2) - 2 * below(1) + below(0)


@dataclass(frozen=True)
class ELU:
    slot: ClassVar[str] = "activate"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise ConvclinicError(
                f"elu's alpha must be 0 or more, not {self.alpha}", fix="1 is usual, 0 is ReLU"
            )

    @property
    def gain(self) -> float:
        return 1 / math.sqrt(1 / 2 + self.alpha**2 * negative_moment())

    def build(self, channels: int) -> nn.Module:
        return nn.ELU(self.alpha)
