"""ReLU: pass what is positive, block the rest.

Formula   f(x) = max(x, 0)
Shapes    any, kept
Strength  none; there is no value that means off
Helps     the default of convolutional nets: cheap, no saturation on the positive side
Hurts     at a high learning rate, where units can die: negative on every image, so without gradient
Clashes   nothing
Source    Nair and Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, 2010. Gain:
          E f(z)^2 = 1/2 for z ~ N(0, 1), so sqrt(2) (He et al., 2015, arXiv:1502.01852)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn


def relu(x: Tensor) -> Tensor:
    return x.clamp_min(0)


@dataclass(frozen=True)
class ReLU:
    slot: ClassVar[str] = "activate"
    gain: ClassVar[float] = math.sqrt(2)

    def build(self, channels: int) -> nn.Module:
        return nn.ReLU()
