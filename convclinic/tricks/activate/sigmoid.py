"""Sigmoid: squash each input into (0, 1), as the first nets did.

Formula   f(x) = 1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2
Shapes    any, kept
Strength  none; there is no value that means off
Helps     comparisons with old nets; gates and outputs that must be shares
Hurts     deep nets: at most a quarter of the gradient passes, hardly any where the input is large (units
          saturate), and what comes out is never centred
Clashes   he (its sqrt(2) is for the ReLU family); initialise with the gain below
Source    Rumelhart et al., Learning Representations by Back-Propagating Errors, 1986; why not: LeCun et al.,
          Efficient BackProp, 1998, section 4.4. Gain: E f(z)^2 = 0.293379 for z ~ N(0, 1), by quadrature
          (there is no closed form), so 1 / sqrt(0.293379) = 1.84623 keeps the second moment, as He et al.
          (2015) derive sqrt(2) for ReLU; torch.nn.init.calculate_gain says 1
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn


def sigmoid(x: Tensor) -> Tensor:
    # by tanh, since exp(-x) overflows, and its gradient becomes NaN
    return (1 + torch.tanh(x / 2)) / 2


@dataclass(frozen=True)
class Sigmoid:
    slot: ClassVar[str] = "activate"
    gain: ClassVar[float] = 1 / math.sqrt(0.29337903585809)

    def build(self, channels: int) -> nn.Module:
        return nn.Sigmoid()
