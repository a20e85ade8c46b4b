"""AlexNet: the net that won ImageNet in 2012: large filters first, two halves, two wide linear layers.

Layers    conv 11x11/4 96, response norm, pool; conv 5x5 256 in two groups, response norm, pool; conv 3x3 384;
          conv 3x3 384 in two groups; conv 3x3 256 in two groups, pool; adaptive average to 6 x 6; linear
          4096, dropout; linear 4096, dropout; linear. An activation after each but the last; pools are
          overlapping, 3x3/2, and take the largest. Places for noise: maps after each pool, both dropouts
Shapes    (b, c, h, w), h and w at least 63, to logits (b, k); 224 x 224 is what it was made for, where the
          adaptive average changes nothing. It is not in the paper and lets other sizes through
Params    60,965,224 with three input channels and 1000 classes
Norm      local response norm after the first two activations; a chosen one instead stands before the
          activation of every convolution
Source    Krizhevsky et al., ImageNet classification with deep convolutional neural networks, 2012. Its 224
          gives its 55 x 55 maps only with two pixels of padding, which are here. The groups are those of its
          two GPUs. torchvision's net of this name is another: Krizhevsky, 2014, arXiv:1404.5997. `width`
          times the maps and `head` for the wide layers are not in the paper
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from convclinic.ground.typed import at_least
from convclinic.kinds import Layers
from convclinic.models._layers import (
    MapsPlace,
    check_dropout,
    check_size,
    check_width,
    conv_unit,
    linear_unit,
    scaled,
)
from convclinic.models._local_response import LocalResponse

LEAST, GRID = 63, 6


class AlexNetModule(nn.Module):
    """See the card above."""

    def __init__(
        self, channels: int, n_classes: int, width: float, head: int, dropout: float, layers: Layers
    ) -> None:
        super().__init__()
        a, b, c = (scaled(maps, width) for maps in (96, 256, 384))
        own = LocalResponse if layers.norm is None else nn.Identity
        self.conv1 = conv_unit(channels, a, 11, layers, stride=4, padding=2)
        self.norm1 = own()
        self.place1 = MapsPlace()
        self.conv2 = conv_unit(a, b, 5, layers, groups=2)
        self.norm2 = own()
        self.place2 = MapsPlace()
        self.conv3 = conv_unit(b, c, 3, layers)
        self.conv4 = conv_unit(c, c, 3, layers, groups=2)
        self.conv5 = conv_unit(c, b, 3, layers, groups=2)
        self.place5 = MapsPlace()
        self.fc6 = linear_unit(b * GRID**2, head, layers)
        self.dropout6 = nn.Dropout(dropout)
        self.fc7 = linear_unit(head, head, layers)
        self.dropout7 = nn.Dropout(dropout)
        self.fc8 = nn.Linear(head, n_classes)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        check_size(x, LEAST, "alexnet")
        x = self.place1(F.max_pool2d(self.norm1(self.conv1(x)), 3, 2))
        x = self.place2(F.max_pool2d(self.norm2(self.conv2(x)), 3, 2))
        x = self.place5(F.max_pool2d(self.conv5(self.conv4(self.conv3(x))), 3, 2))
        x = F.adaptive_avg_pool2d(x, GRID).flatten(1)
        x = self.dropout7(self.fc7(self.dropout6(self.fc6(x))))
        return self.fc8(x)


@dataclass(frozen=True)
class AlexNet:
    slot: ClassVar[str] = "net"
    least: ClassVar[int] = LEAST
    width: float = 1.0
    head: int = 4096
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_width(self.width)
        at_least("net.head", self.head, 1)
        check_dropout(self.dropout)

    def build(self, channels: int, n_classes: int, layers: Layers) -> nn.Module:
        return AlexNetModule(channels, n_classes, self.width, self.head, self.dropout, layers)
