"""NIN, network in network: a small perceptron slides over the maps, as 1x1 convolutions after a larger one.

Layers    [conv 5x5 192, conv 1x1 160, conv 1x1 96], max pool, dropout; [conv 5x5 192, two of conv 1x1 192],
          average pool, dropout; [conv 3x3 192, conv 1x1 192, conv 1x1 k]; global average pool. Pools are
          3x3/2 and keep what is left over at the edge. An activation after each convolution, the last one
          too: so it is in the paper's formula and in its public definition. `activate_last` false leaves the
          logits as they are, which sigmoid and tanh need to be sure of anything. Places for noise: maps
          after each of the three blocks, both dropouts
Shapes    (b, c, h, w), h and w at least 8, to logits (b, k); 32 x 32 is what it was made for
Params    966,986 with three input channels and ten classes
Norm      none of its own; a chosen one stands before each activation but that of the logits
Source    Lin et al., Network in network, 2013, arXiv:1312.4400, which gives no widths: these are those of its
          authors' public definition for CIFAR, and of Xu et al., who compared activations with it (2015,
          arXiv:1505.00853, table 2). `width` times the maps is not in the paper
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from convclinic.kinds import Layers
from convclinic.models._layers import (
    MapsPlace,
    check_dropout,
    check_size,
    check_width,
    conv_unit,
    scaled,
)

LEAST = 8


class NINModule(nn.Module):
    """See the card above."""

    def __init__(
        self, channels: int, n_classes: int, width: float, dropout: float, activate_last: bool, layers: Layers
    ) -> None:
        super().__init__()
        a, b, c = (scaled(maps, width) for maps in (192, 160, 96))
        self.block1 = nn.Sequential(
            conv_unit(channels, a, 5, layers),
            conv_unit(a, b, 1, layers),
            conv_unit(b, c, 1, layers),
            MapsPlace(),
        )
        self.dropout1 = nn.Dropout(dropout)
        self.block2 = nn.Sequential(
            conv_unit(c, a, 5, layers),
            conv_unit(a, a, 1, layers),
            conv_unit(a, a, 1, layers),
            MapsPlace(),
        )
        self.dropout2 = nn.Dropout(dropout)
        self.block3 = nn.Sequential(conv_unit(a, a, 3, layers), conv_unit(a, a, 1, layers), MapsPlace())
        self.logits = nn.Conv2d(a, n_classes * (layers.pieces if activate_last else 1), 1)
        self.act = layers.activation(n_classes) if activate_last else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        check_size(x, LEAST, "nin")
        x = self.dropout1(F.max_pool2d(self.block1(x), 3, 2, ceil_mode=True))
        x = self.dropout2(F.avg_pool2d(self.block2(x), 3, 2, ceil_mode=True))
        x = self.act(self.logits(self.block3(x)))
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


@dataclass(frozen=True)
class NIN:
    slot: ClassVar[str] = "net"
    least: ClassVar[int] = LEAST
    width: float = 1.0
    dropout: float = 0.5
    activate_last: bool = True

    def __post_init__(self) -> None:
        check_width(self.width)
        check_dropout(self.dropout)

    def build(self, channels: int, n_classes: int, layers: Layers) -> nn.Module:
        return NINModule(channels, n_classes, self.width, self.dropout, self.activate_last, layers)
