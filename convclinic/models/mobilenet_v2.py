"""MobileNetV2: inverted residual blocks, whose convolutions between images are depthwise and therefore cheap.

Layers    conv 3x3/2 32, norm, activation; seventeen blocks: a 1x1 that widens six times (the first block does
          not), a depthwise 3x3, a 1x1 that narrows without an activation, and the input added where the shape
          allows; 16, 24 (2 blocks), 32 (3), 64 (4), 96 (3), 160 (3) and 320 maps, the side halved where 24,
          32, 64 and 160 begin; conv 1x1 1280; global average pool; dropout; linear. Places for noise: each
          branch that is added, maps before each halving
Shapes    (b, c, h, w), h and w at least 32, to logits (b, k); 224 x 224 is what it was made for
Params    3,504,872 with three input channels and 1000 classes
Norm      batch norm; a chosen one takes its places
Source    Sandler et al., MobileNetV2: inverted residuals and linear bottlenecks, 2018, arXiv:1801.04381,
          table 2. The paper's activation is ReLU6, which a pretrained `backbone` has; here the recipe
          chooses. Parameters have torchvision's names, so its weights load
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
    check_dropout,
    check_size,
    check_width,
    conv_norm,
)

LEAST = 32
STEM, LAST = 32, 1280
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""(how many times wider inside, maps, blocks, stride of the first)."""


def _maps(maps: int, width: float) -> int:
    """A multiple of eight near `maps` times `width`, never a tenth less: the paper's reference code.

    >>> _maps(32, 1.0), _maps(24, 0.35)
    (32, 8)
    """
    rounded = max(8, int(maps * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * maps * width else rounded


def unit(
    c_in: int, c_out: int, kernel: int, layers: Layers, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, norm, activation."""
    conv, norm = conv_norm(
        c_in, c_out * layers.pieces, kernel, layers.norm or nn.BatchNorm2d, stride=stride, groups=groups
    )
    return nn.Sequential(conv, norm, layers.activation(c_out))


class InvertedResidual(nn.Module):
    """Widen, look around in each map by itself, narrow."""

    def __init__(self, c_in: int, c_out: int, widen: int, stride: int, layers: Layers) -> None:
        super().__init__()
        inner = c_in * widen
        parts = [] if widen == 1 else [unit(c_in, inner, 1, layers)]
        # with an activation of several pieces each map makes as many, so the groups stay maps of the input
        parts.append(unit(inner, inner, 3, layers, stride=stride, groups=inner))
        self.conv = nn.Sequential(*parts, *conv_norm(inner, c_out, 1, layers.norm or nn.BatchNorm2d))
        self.place = BranchPlace() if stride == 1 and c_in == c_out else None

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        return self.conv(x) if self.place is None else x + self.place(self.conv(x))


class MobileNetV2Module(nn.Module):
    """See the card above."""

    def __init__(self, channels: int, n_classes: int, width: float, dropout: float, layers: Layers) -> None:
        super().__init__()
        c_in, last = _maps(STEM, width), _maps(LAST, max(1.0, width))
        blocks: list[nn.Module] = [unit(channels, c_in, 3, layers, stride=2)]
        halved: list[str] = []  # positions of blocks that halve the side
        for widen, maps, number, stride in STAGES:
            if stride == 2:
                halved.append(str(len(blocks)))
            for i in range(number):
                c_out = _maps(maps, width)
                blocks.append(InvertedResidual(c_in, c_out, widen, stride if i == 0 else 1, layers))
                c_in = c_out
        blocks.append(unit(c_in, last, 1, layers))
        self.features = nn.Sequential(*blocks)
        self.places = nn.ModuleDict({position: MapsPlace() for position in halved})
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, n_classes))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        check_size(x, LEAST, "mobilenet_v2")
        for position, block in self.features.named_children():
            x = block(self.places[position](x) if position in self.places else x)
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))


@dataclass(frozen=True)
class MobileNetV2:
    slot: ClassVar[str] = "net"
    least: ClassVar[int] = LEAST
    width: float = 1.0
    dropout: float = 0.2

    def __post_init__(self) -> None:
        check_width(self.width)
        check_dropout(self.dropout)

    def build(self, channels: int, n_classes: int, layers: Layers) -> nn.Module:
        return MobileNetV2Module(channels, n_classes, self.width, self.dropout, layers)
