"""Compact: a residual net for photos that trains from scratch in minutes.

Layers    4 x 4 stem conv with stride 4 (norm, activation); stages of [3x3 conv (stride 2 from the second
          stage on), norm, activation, then a residual branch of two 3x3 convs, each with norm and
          activation]; global average pool; dropout; linear. Places for noise: each branch, maps after each
          stage, dropout
Shapes    (b, c, h, w), h and w at least 2^(stages + 1), 32 by default, to logits (b, k); any aspect ratio
Params    about 2.0 million at widths (32, 64, 128, 256) with three input channels
Norm      batch norm; the residual branch ends in a norm whose scale starts at zero, so that each stage starts
          as its first convolution alone (Goyal et al. 2017, arXiv:1706.02677)
Source    He et al., Deep residual learning, 2015, arXiv:1512.03385; the strided stem after Liu et al., A
          ConvNet for the 2020s, 2022, arXiv:2201.03545
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.typed import at_least
from convclinic.kinds import Layers
from convclinic.models._layers import (
    BranchPlace,
    MapsPlace,
    check_dropout,
    check_size,
    conv_norm,
    start_closed,
    widened,
)


def least_side(widths: tuple[int, ...]) -> int:
    """Of this side one pixel is left after the last stage."""
    return 2 ** (len(widths) + 1)


class Stage(nn.Module):
    """One convolution, then one residual branch at the new width."""

    def __init__(self, c_in: int, c_out: int, stride: int, layers: Layers) -> None:
        super().__init__()
        norm, wide = layers.norm or nn.BatchNorm2d, c_out * layers.pieces
        self.pieces = layers.pieces
        self.enter = nn.Sequential(*conv_norm(c_in, wide, 3, norm, stride=stride), layers.activation(c_out))
        first = conv_norm(c_out, wide, 3, norm)
        second, last = conv_norm(c_out, wide, 3, norm)
        start_closed(last)
        self.branch = nn.Sequential(*first, layers.activation(c_out), second, last)
        self.branch_place = BranchPlace()
        self.act = layers.activation(c_out)
        self.maps_place = MapsPlace()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        x = self.enter(x)
        x = widened(x, self.pieces) + self.branch_place(self.branch(x))
        return self.maps_place(self.act(x))


class CompactNet(nn.Module):
    """See the card above."""

    def __init__(
        self, channels: int, n_classes: int, widths: tuple[int, ...], dropout: float, layers: Layers
    ) -> None:
        super().__init__()
        self.least = least_side(widths)
        norm = layers.norm or nn.BatchNorm2d
        self.stem = nn.Sequential(
            *conv_norm(channels, widths[0] * layers.pieces, 4, norm, stride=4, padding=0),
            layers.activation(widths[0]),
        )
        ends = (widths[0], *widths)
        self.stages = nn.Sequential(
            *(
                Stage(a, b, 1 if i == 0 else 2, layers)
                for i, (a, b) in enumerate(zip(ends, widths, strict=False))
            )
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], n_classes)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        check_size(x, self.least, "compact")
        x = self.stages(self.stem(x))
        return self.head(self.dropout(F.adaptive_avg_pool2d(x, 1).flatten(1)))


@dataclass(frozen=True)
class Compact:
    slot: ClassVar[str] = "net"
    widths: tuple[int, ...] = (32, 64, 128, 256)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        if not self.widths:
            raise ConvclinicError("net.widths is empty", fix="give at least one, like [64, 256, 256]")
        for width in self.widths:
            at_least("net.widths", width, 1)

    @property
    def least(self) -> int:
        """The smallest side of an image it takes."""
        return least_side(self.widths)

    def build(self, channels: int, n_classes: int, layers: Layers) -> nn.Module:
        return CompactNet(channels, n_classes, self.widths, self.dropout, layers)
