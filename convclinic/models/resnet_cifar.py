"""ResNet for small images: three stages of residual blocks whose shortcuts have no parameters.

Layers    conv 3x3 16, norm, activation; three stages of (depth - 2) / 6 blocks with 16, 32 and 64 maps, the
          last two halving the side; global average pool; dropout (0, as in the paper); linear. A block adds
          to its input [conv 3x3, norm, activation, conv 3x3, norm], then the activation. Places for noise:
          each branch, maps after each stage, dropout
Shapes    (b, c, h, w), h and w at least 8, to logits (b, k); 32 x 32 is what it was made for
Params    269,722 for depth 20, 464,154 for 32, 658,586 for 44, 853,018 for 56, 1,727,962 for 110, with three
          input channels and ten classes; the paper's table 6: 0.27, 0.46, 0.66, 0.85 and 1.7 million
Norm      batch norm; a chosen one takes its places
Source    He et al., Deep residual learning for image recognition, 2015, arXiv:1512.03385, section 4.2,
          shortcuts of option A: every second pixel, and maps of zeros for those that are new. Half of them
          stand before the old ones and half after, where the paper does not say; so do Idelbayev's public
          weights (github.com/akamaster/pytorch_resnet_cifar10), whose names the parameters have. `width`
          times the maps is not in the paper
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from convclinic.kinds import Layers
from convclinic.models._layers import (
    BranchPlace,
    MapsPlace,
    check_depth,
    check_dropout,
    check_size,
    check_width,
    conv_norm,
    scaled,
    widened,
)

LEAST = 8
DEPTHS = (20, 32, 44, 56, 110)


def shortcut(x: Float[Tensor, "b c h w"], maps: int, stride: int) -> Float[Tensor, "b maps h2 w2"]:
    """Every `stride`-th pixel, and zeros for the maps that are new.

    >>> import torch
    >>> shortcut(torch.ones(1, 2, 3, 3), 4, 2)[0, :, 0, 0].tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    extra = maps - x.shape[1]
    if stride == 1 and extra == 0:
        return x
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, extra // 2, extra - extra // 2))


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters."""

    def __init__(self, c_in: int, c_out: int, stride: int, layers: Layers) -> None:
        super().__init__()
        norm, wide = layers.norm or nn.BatchNorm2d, c_out * layers.pieces
        self.maps, self.stride, self.pieces = c_out, stride, layers.pieces
        self.conv1, self.bn1 = conv_norm(c_in, wide, 3, norm, stride=stride)
        self.act1 = layers.activation(c_out)
        self.conv2, self.bn2 = conv_norm(c_out, wide, 3, norm)
        self.place = BranchPlace()
        self.act2 = layers.activation(c_out)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        branch = self.place(self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x))))))
        return self.act2(branch + widened(shortcut(x, self.maps, self.stride), self.pieces))


def stage(c_in: int, c_out: int, blocks: int, stride: int, layers: Layers) -> nn.Sequential:
    first = Block(c_in, c_out, stride, layers)
    return nn.Sequential(first, *(Block(c_out, c_out, 1, layers) for _ in range(blocks - 1)))


class ResNetCifarModule(nn.Module):
    """See the card above."""

    def __init__(
        self, channels: int, n_classes: int, depth: int, width: float, dropout: float, layers: Layers
    ) -> None:
        super().__init__()
        a, b, c = (scaled(maps, width) for maps in (16, 32, 64))
        blocks = (depth - 2) // 6
        self.conv1, self.bn1 = conv_norm(channels, a * layers.pieces, 3, layers.norm or nn.BatchNorm2d)
        self.act = layers.activation(a)
        self.layer1 = stage(a, a, blocks, 1, layers)
        self.place1 = MapsPlace()
        self.layer2 = stage(a, b, blocks, 2, layers)
        self.place2 = MapsPlace()
        self.layer3 = stage(b, c, blocks, 2, layers)
        self.place3 = MapsPlace()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(c, n_classes)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        check_size(x, LEAST, "resnet_cifar")
        x = self.act(self.bn1(self.conv1(x)))
        x = self.place1(self.layer1(x))
        x = self.place2(self.layer2(x))
        x = self.place3(self.layer3(x))
        return self.linear(self.dropout(F.adaptive_avg_pool2d(x, 1).flatten(1)))


@dataclass(frozen=True)
class ResNetCifar:
    slot: ClassVar[str] = "net"
    least: ClassVar[int] = LEAST
    depth: int = 20
    width: float = 1.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_depth(self.depth, DEPTHS)
        check_width(self.width)
        check_dropout(self.dropout)

    def build(self, channels: int, n_classes: int, layers: Layers) -> nn.Module:
        return ResNetCifarModule(channels, n_classes, self.depth, self.width, self.dropout, layers)
