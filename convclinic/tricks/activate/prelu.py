"""PReLU: a leaky ReLU that learns how much of the negative side passes, channel by channel.

Formula   f(x) = x if x > 0 else slope_c * x,   slope_c learned, one for each channel c
Shapes    x (b, c, ...), kept; slopes (c,)
Strength  start, the first value of every slope, in [0, 1]; 0.25 is the source's. There is no value that
          means off: whatever it starts from, it learns
Helps     nets without normalisation; large sets
Hurts     small sets, where the slopes are fitted too closely (Xu et al., 2015)
Clashes   weight decay on the slopes, which pulls them towards ReLU: the optimisers and penalties here leave
          out what has less than two axes, and so the slopes, unless told otherwise
Source    He et al., Delving Deep into Rectifiers, 2015, arXiv:1502.01852, section 2.1, the channel-wise form.
          Gain: E f(z)^2 = (1 + slope^2) / 2 for z ~ N(0, 1), so sqrt(2 / (1 + start^2)) (there, equation 15)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError


def prelu(x: Float[Tensor, "b c ..."], slope: Float[Tensor, " c"]) -> Float[Tensor, "b c ..."]:
    return torch.where(x > 0, x, slope.view(-1, *[1] * (x.ndim - 2)) * x)


@dataclass(frozen=True)
class PReLU:
    slot: ClassVar[str] = "activate"
    start: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.start <= 1:
            raise ConvclinicError(
                f"prelu's start must lie in [0, 1], not {self.start}", fix="0.25 is the source's"
            )

    @property
    def gain(self) -> float:
        """That of the net at its start."""
        return math.sqrt(2 / (1 + self.start**2))

    def build(self, channels: int) -> nn.Module:
        return nn.PReLU(channels, init=self.start)
