"""SiLU (swish): each input times its own sigmoid; a smooth ReLU with a dip below zero.

Formula   f(x) = x / (1 + exp(-x))
Shapes    any, kept
Strength  none; there is no value that means off
Helps     deep nets with normalisation, such as EfficientNet
Hurts     speed a little, on the CPU above all
Clashes   nothing
Source    Elfwing et al., Sigmoid-Weighted Linear Units, 2017, arXiv:1702.03118; Ramachandran et al.,
          Searching for Activation Functions, 2017, arXiv:1710.05941. Gain: E f(z)^2 = 0.3557755 for
          z ~ N(0, 1), by quadrature (there is no closed form), so 1 / sqrt(0.3557755) = 1.6765325 keeps
          the second moment, as He et al. (2015) derive sqrt(2) for ReLU
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn


def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


@dataclass(frozen=True)
class SiLU:
    slot: ClassVar[str] = "activate"
    gain: ClassVar[float] = 1 / math.sqrt(0.35577551981735)

    def build(self, channels: int) -> nn.Module:
        return nn.SiLU()
