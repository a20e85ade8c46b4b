"""Maxout: the largest of several linear maps, so that the shape of the non-linearity is learned.

Formula   f(x)_c = max over p < pieces of x_(c pieces + p): of each `pieces` neighbouring maps the largest
Shapes    (b, c pieces, ...) -> (b, c, ...): the layer before makes `pieces` times as many maps
Strength  pieces >= 1; 1 is off (the identity); 2 is the source's for convolutions
Helps     with dropout, which it was made for; nets without normalisation, since no unit can die
Hurts     size and speed: weights and work of each layer grow `pieces` times
Clashes   comparisons at equal width (compare at equal parameters); nets that are not built for pieces
Source    Goodfellow et al., Maxout Networks, 2013, arXiv:1302.4389, equation 1. Gain: E max(z_1 .. z_k)^2 of
          independent z ~ N(0, 1) is 1 for k = 1 and 2, and 1 + sqrt(3) / (2 pi) = 1.27566 for k = 3; one over
          its root keeps the second moment, as He et al. (2015) derive sqrt(2) for ReLU
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError


def maxout(x: Float[Tensor, "b wide ..."], pieces: int) -> Float[Tensor, "b c ..."]:
    """The formula.

    >>> import torch
    >>> maxout(torch.tensor([[1.0, 3.0, -2.0, -5.0]]), 2).tolist()
    [[3.0, -2.0]]
    """
    # along the last axis: in channels-last order, which nets are trained in, the maps lie side by side there
    pieces_last = x.movedim(1, -1).unflatten(-1, (-1, pieces))
    return pieces_last.max(-1).values.movedim(-1, 1)


def second_moment(pieces: int) -> float:
    """E max(z_1 .. z_k)^2 of k = `pieces` independent normals, from the density k phi(z) Phi(z)^(k - 1).

    The trapezoid rule is exact to rounding for an integrand so smooth that vanishes at both ends.

    >>> round(second_moment(2), 12)
    1.0
    """
    step = 1 / 32
    total = 0.0
    for z in (step * i for i in range(-320, 321)):
        density = math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        below = math.erfc(-z / math.sqrt(2)) / 2
        total += z**2 * pieces * density * below ** (pieces - 1)
    return total * step


class MaxoutLayer(nn.Module):
    """Leaves `channels` maps of `pieces` times as many."""

    def __init__(self, channels: int, pieces: int) -> None:
        super().__init__()
        self.channels, self.pieces = channels, pieces

    def forward(self, x: Float[Tensor, "b wide ..."]) -> Float[Tensor, "b c ..."]:
        if x.shape[1] != self.channels * self.pieces:
            raise ConvclinicError(
                f"maxout of {self.pieces} pieces leaves {self.channels} maps of "
                f"{self.channels * self.pieces}, and was given {x.shape[1]}",
                fix="let the layer before it make `pieces` times as many",
            )
        return maxout(x, self.pieces)

    def extra_repr(self) -> str:
        return f"{self.channels}, pieces={self.pieces}"


@dataclass(frozen=True)
class Maxout:
    """Nets read `pieces`, and make that many times as many maps before each activation."""

    slot: ClassVar[str] = "activate"
    OFF: ClassVar[dict[str, object]] = {"pieces": 1}
    pieces: int = 2

    def __post_init__(self) -> None:
        if self.pieces < 1:
            raise ConvclinicError(
                f"maxout's pieces must be 1 or more, not {self.pieces}", fix="2 is usual, 1 is off"
            )

    @property
    def gain(self) -> float:
        return 1 / math.sqrt(second_moment(self.pieces))

    def build(self, channels: int) -> nn.Module:
        return MaxoutLayer(channels, self.pieces)
