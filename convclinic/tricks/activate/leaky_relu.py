"""Leaky ReLU: negative inputs pass too, but flattened.

Formula   f(x) = x if x > 0 else slope * x
Shapes    any, kept
Strength  slope in [0, 1]; 1 is off (the identity), 0 is ReLU; 0.01 is the original, and the "very leaky"
          1 / 5.5 = 0.1818 did better in the comparison of Xu et al.
Helps     where ReLUs die; small sets
Hurts     nothing known
Clashes   nothing
Source    Maas et al., Rectifier Nonlinearities Improve Neural Network Acoustic Models, 2013; Xu et al., 2015,
          arXiv:1505.00853, who write x / a with a = 100 and 5.5. Gain: E f(z)^2 = (1 + slope^2) / 2 for
          z ~ N(0, 1), so sqrt(2 / (1 + slope^2)) (He et al., 2015, arXiv:1502.01852)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError


def leaky_relu(x: Tensor, slope: float) -> Tensor:
    return torch.where(x > 0, x, slope * x)


@dataclass(frozen=True)
class LeakyReLU:
    slot: ClassVar[str] = "activate"
    OFF: ClassVar[dict[str, object]] = {"slope": 1.0}
    slope: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.slope <= 1:
            raise ConvclinicError(
                f"leaky_relu's slope must lie in [0, 1], not {self.slope}", fix="0.01, or 0.18 for very leaky"
            )

    @property
    def gain(self) -> float:
        return math.sqrt(2 / (1 + self.slope**2))

    def build(self, channels: int) -> nn.Module:
        return nn.LeakyReLU(self.slope)
