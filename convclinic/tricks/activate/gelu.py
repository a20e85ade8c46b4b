"""GELU: pass each input in proportion to how large it is among normal ones; a smooth ReLU.

Formula   f(x) = x Phi(x),   Phi(x) = (1 + erf(x / sqrt(2))) / 2
Shapes    any, kept
Strength  none; there is no value that means off
Helps     short training of nets with normalisation: no unit is ever without gradient
Hurts     speed a little, on the CPU above all
Clashes   nothing
Source    Hendrycks and Gimpel, Gaussian Error Linear Units, 2016, arXiv:1606.08415, the exact form and
          not the tanh approximation. Gain: E f(z)^2 = 1/3 + 1 / (2 pi sqrt(3)) = 0.42522 for z ~ N(0, 1),
          so 1 / sqrt(0.42522) = 1.53353 keeps the second moment, as He et al. (2015) derive sqrt(2) for ReLU
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


@dataclass(frozen=True)
class GELU:
    slot: ClassVar[str] = "activate"
    gain: ClassVar[float] = 1 / math.sqrt(1 / 3 + 1 / (2 * math.pi * math.sqrt(3)))

    def build(self, channels: int) -> nn.Module:
        return nn.GELU()
