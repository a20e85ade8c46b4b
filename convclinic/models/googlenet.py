"""GoogLeNet: nine inception modules, which look at the same maps with four sizes of filter side by side.

Layers    conv 7x7/2 64, pool, response norm, conv 1x1 64, conv 3x3 192, response norm, pool; inception 3a,
          3b, pool; 4a to 4e, pool; 5a, 5b; global average pool; dropout; linear. An inception module puts
          side by side a conv 1x1, a 3x3 and a 5x5 behind a 1x1 that narrows, and a 1x1 behind a 3x3 max pool.
          An activation after each convolution; pools are 3x3/2, take the largest and keep what is left over
          at the edge. Places for noise: maps after each of the three stages of modules, dropout
Shapes    (b, c, h, w), h and w at least 32, to logits (b, k); 224 x 224 is what it was made for
Params    6,998,552 with three input channels and 1000 classes
Norm      local response norm twice, where the paper's figure 3 has it and with AlexNet's constants, as the
          paper gives none; a chosen one instead stands before every activation
Source    Szegedy et al., Going deeper with convolutions, 2014, arXiv:1409.4842, table 1. The two auxiliary
          classifiers are left out: they serve training alone, would make the net give three answers, and
          helped little (Szegedy et al., 2015, arXiv:1512.00567, section 4). torchvision's net of this name
          has batch norm and 3x3 for 5x5. `width` times the maps is not in the paper
"""

from __future__ import annotations

from collections import OrderedDict
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
    check_width,
    conv_unit,
    scaled,
)
from convclinic.models._local_response import LocalResponse

LEAST = 32
Row = tuple[int, int, int, int, int, int]
# the paper's table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection
STAGE3: tuple[Row, ...] = ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64))
STAGE4: tuple[Row, ...] = (
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
)
STAGE5: tuple[Row, ...] = ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128))


class Inception(nn.Module):
    """Four branches over the same maps, their maps side by side."""

    def __init__(self, c_in: int, row: Row, width: float, layers: Layers) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pooled = (scaled(maps, width) for maps in row)
        self.maps = one + three + five + pooled
        self.one = conv_unit(c_in, one, 1, layers)
        self.three = nn.Sequential(conv_unit(c_in, reduce3, 1, layers), conv_unit(reduce3, three, 3, layers))
        self.five = nn.Sequential(conv_unit(c_in, reduce5, 1, layers), conv_unit(reduce5, five, 5, layers))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_unit(c_in, pooled, 1, layers))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pooled(x)], 1)


def pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def modules(c_in: int, rows: tuple[Row, ...], width: float, layers: Layers) -> list[Inception]:
    """One inception module for each row, one after another."""
    made: list[Inception] = []
    for row in rows:
        made.append(Inception(c_in, row, width, layers))
        c_in = made[-1].maps
    return made


class GoogLeNetModule(nn.Module):
    """See the card above."""

    def __init__(self, channels: int, n_classes: int, width: float, dropout: float, layers: Layers) -> None:
        super().__init__()
        a, b = scaled(64, width), scaled(192, width)
        own = LocalResponse if layers.norm is None else nn.Identity
        self.stem = nn.Sequential(
            OrderedDict(
                conv1=conv_unit(channels, a, 7, layers, stride=2),
                pool1=pool(),
                norm1=own(),
                reduce2=conv_unit(a, a, 1, layers),
                conv2=conv_unit(a, b, 3, layers),
                norm2=own(),
                pool2=pool(),
            )
        )
        third = modules(b, STAGE3, width, layers)
        fourth = modules(third[-1].maps, STAGE4, width, layers)
        fifth = modules(fourth[-1].maps, STAGE5, width, layers)
        self.stage3 = nn.Sequential(*third, MapsPlace(), pool())
        self.stage4 = nn.Sequential(*fourth, MapsPlace(), pool())
        self.stage5 = nn.Sequential(*fifth, MapsPlace())
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(fifth[-1].maps, n_classes)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        check_size(x, LEAST, "googlenet")
        x = self.stage5(self.stage4(self.stage3(self.stem(x))))
        return self.head(self.dropout(F.adaptive_avg_pool2d(x, 1).flatten(1)))


@dataclass(frozen=True)
class GoogLeNet:
    slot: ClassVar[str] = "net"
    least: ClassVar[int] = LEAST
    width: float = 1.0
    dropout: float = 0.4

    def __post_init__(self) -> None:
        check_width(self.width)
        check_dropout(self.dropout)

    def build(self, channels: int, n_classes: int, layers: Layers) -> nn.Module:
        return GoogLeNetModule(channels, n_classes, self.width, self.dropout, layers)
