"""RReLU: a leaky ReLU whose slope is drawn anew for every element, so that no unit can rely on it.

Formula   f(x) = x if x >= 0 else x / a;   a ~ U(low, high) for each element in training, and in testing
          a = (low + high) / 2
Shapes    any, kept
Strength  1 <= low <= high; both 1 is off (the identity), low = high is a leaky ReLU; 3 and 8 are the
          source's, so that the slope in testing is 2 / 11
Helps     small sets: best of its family on CIFAR-10 and CIFAR-100 there
Hurts     speed: one random number for each element of each map
Clashes   torch.nn.RReLU by name alone: it is another function, which draws the slope itself from
          U(1 / 8, 1 / 3) and tests with the mean of the bounds, 11 / 48
Source    Xu et al., Empirical Evaluation of Rectified Activations, 2015, arXiv:1505.00853, section 2.4. Its
          formula multiplies by a in [0, 1), but U(3, 8) and the x / ((l + u) / 2) of testing can only mean a
          divisor. 2 / 11 is not the mean slope of training, which is ln(8 / 3) / 5 = 0.196. Gain: in training
          E f(z)^2 = (1 + E 1 / a^2) / 2 = (1 + 1 / (low high)) / 2 for z ~ N(0, 1), so
          sqrt(2 / (1 + 1 / (low high))), as He et al. (2015) derive sqrt(2) for ReLU
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from convclinic.ground.errors import ConvclinicError


def rrelu(x: Float[Tensor, "*shape"], divisor: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The formula in training."""
    return x / torch.where(x < 0, divisor, 1)


class RReLULayer(nn.Module):
    """Draws in training, and in testing does not.

    A module is called with its input alone, so the draws come from torch's global generator, as dropout's do;
    the loop scopes that one by name for each step, which makes them replayable. They are drawn where the maps
    lie, since moving a number for each element would take longer than the rest of the layer: CPU and GPU
    therefore draw different ones.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return rrelu(x, torch.empty_like(x).uniform_(self.low, self.high))
        return F.leaky_relu(x, 2 / (self.low + self.high))

    def extra_repr(self) -> str:
        return f"low={self.low}, high={self.high}"


@dataclass(frozen=True)
class RReLU:
    slot: ClassVar[str] = "activate"
    OFF: ClassVar[dict[str, object]] = {"low": 1.0, "high": 1.0}
    low: float = 3.0
    high: float = 8.0

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high < math.inf:
            raise ConvclinicError(
                f"rrelu's low and high must be 1 <= low <= high, not {self.low} and {self.high}",
                fix="they divide, they do not multiply: 3 and 8 are usual",
            )

    @property
    def gain(self) -> float:
        """That of training, where the weights it is for are used first."""
        return math.sqrt(2 / (1 + 1 / (self.low * self.high)))

    def build(self, channels: int) -> nn.Module:
        return RReLULayer(self.low, self.high)
