"""Tanh: a sigmoid stretched to (-1, 1), so that what comes out is centred.

Formula   f(x) = (exp(x) - exp(-x)) / (exp(x) + exp(-x)) = 2 / (1 + exp(-2 x)) - 1
Shapes    any, kept
Strength  none; there is no value that means off
Helps     LeNet and other nets of its time; small nets on centred input
Hurts     deep nets: where the input is large, units saturate and hardly any gradient passes
Clashes   he (its sqrt(2) is for the ReLU family); initialise with the gain below
Source    LeCun et al., Efficient BackProp, 1998, section 4.4, the plain form and not their
          1.7159 tanh(2 x / 3). Gain: E f(z)^2 = 0.394294 for z ~ N(0, 1), by quadrature (there is no closed
          form), so 1 / sqrt(0.394294) = 1.59254 keeps the second moment, as He et al. (2015) derive sqrt(2)
          for ReLU; torch.nn.init.calculate_gain says 5 / 3
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn


def tanh(x: Tensor) -> Tensor:
    return 2 * torch.sigmoid(2 * x) - 1


@dataclass(frozen=True)
class Tanh:
    slot: ClassVar[str] = "activate"
    gain: ClassVar[float] = 1 / math.sqrt(0.39429449039784)

    def build(self, channels: int) -> nn.Module:
        return nn.Tanh()
