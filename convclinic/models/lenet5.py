"""LeNet-5: the net that read cheques: few maps, each of which sees only some of the maps before it.

Layers    C1 6 maps 5x5; S2 sub-sampling; C3 16 maps 5x5 by the paper's table of connections; S4 sub-sampling;
          C5 120 maps 5x5; F6 84 units; dropout (0, as in the paper); linear. An activation after each of
          the first six. Places for noise: maps after S2 and S4
Shapes    (b, c, h, w), h and w at least 20, the box that the paper's digits fill, to logits (b, k). It was
          made for 32 x 32: smaller images are framed with zeros up to that, as the paper frames its 28 x 28
          digits, and of larger ones S4's maps are averaged to 5 x 5, which the paper does not do
Params    60,000 before the output with one input channel: C1 156, S2 12, C3 1,516, S4 32, C5 48,120, F6
          10,164; 60,850 with ten classes
Norm      none of its own; a chosen one stands before the activations of C1, C3 and C5
Source    LeCun et al., Gradient-based learning applied to document recognition, 1998, section II.B. The
          output there is 84 Euclidean radial basis functions with fixed codes; here it is a linear layer, for
          softmax. The activation there is 1.7159 tanh(2 x / 3); here it is the recipe's. Sub-sampling starts
          as the mean of four, where the paper draws its coefficients at random
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from convclinic.kinds import Layers
from convclinic.models._layers import (
    MapsPlace,
    check_dropout,
    check_size,
    conv_unit,
    linear_unit,
    needs_bias,
    widened,
)

LEAST, MADE_FOR = 20, 32
# Table I of the paper, column by column: which maps of S2 each map of C3 sees
TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)


def framed(x: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b c h2 w2"]:
    """Smaller images in the middle of `side` x `side` zeros; others as they are.

    >>> framed(torch.ones(1, 1, 1, 2), 4)[0, 0].tolist()[1]
    [0.0, 1.0, 1.0, 0.0]
    """
    high, wide = (max(0, side - length) for length in x.shape[2:])
    return F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))


class TableConv(nn.Module):
    """A convolution whose maps see the maps that a table gives them: one small convolution for each."""

    def __init__(self, table: Sequence[tuple[int, ...]], kernel: int, pieces: int, bias: bool) -> None:
        super().__init__()
        self.table = table
        self.maps = nn.ModuleList(nn.Conv2d(len(seen), pieces, kernel, bias=bias) for seen in table)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        each = x.split(1, 1)
        parts = zip(self.maps, self.table, strict=True)
        return torch.cat([conv(torch.cat([each[i] for i in seen], 1)) for conv, seen in parts], 1)


class Subsample(nn.Module):
    """The sum over each 2x2 patch, times a learned coefficient, plus a learned bias: one pair a map."""

    def __init__(self, maps: int, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        # 1/4, or that on average: pieces that started as one would stay one
        start = (2 * torch.arange(pieces) + 1) / (4 * pieces)
        self.weight = nn.Parameter(start.repeat(maps))
        self.bias = nn.Parameter(torch.zeros(maps * pieces))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        summed = widened(4 * F.avg_pool2d(x, 2), self.pieces)
        return summed * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


class LeNet5Module(nn.Module):
    """See the card above."""

    def __init__(self, channels: int, n_classes: int, dropout: float, layers: Layers) -> None:
        super().__init__()
        pieces = layers.pieces
        norm = (layers.norm or nn.Identity)(16 * pieces)
        self.c1 = conv_unit(channels, 6, 5, layers, padding=0)
        self.s2 = nn.Sequential(Subsample(6, pieces), layers.activation(6), MapsPlace())
        self.c3 = nn.Sequential(TableConv(TABLE, 5, pieces, needs_bias(norm)), norm, layers.activation(16))
        self.s4 = nn.Sequential(Subsample(16, pieces), layers.activation(16), MapsPlace())
        self.c5 = conv_unit(16, 120, 5, layers, padding=0)
        self.f6 = linear_unit(120, 84, layers)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(84, n_classes)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        check_size(x, LEAST, "lenet5")
        x = self.s2(self.c1(framed(x, MADE_FOR)))
        x = self.s4(self.c3(x))
        x = self.c5(F.adaptive_avg_pool2d(x, 5)).flatten(1)
        return self.output(self.dropout(self.f6(x)))


@dataclass(frozen=True)
class LeNet5:
    slot: ClassVar[str] = "net"
    least: ClassVar[int] = LEAST
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.dropout)

    def build(self, channels: int, n_classes: int, layers: Layers) -> nn.Module:
        return LeNet5Module(channels, n_classes, self.dropout, layers)
