"""ResNet for photos: four stages of residual blocks behind a stem that divides the side by four.

Layers    conv 7x7/2 64, norm, activation, 3x3/2 max pool; four stages of blocks with 64, 128, 256 and 512
          maps, the last three halving the side: 2 blocks each for depth 18; 3, 4, 6 and 3 for 34 and 50;
          global average pool; dropout (0, as in the paper); linear. A block adds to its input two convs 3x3,
          or for depth 50 a 1x1 that narrows, a 3x3 and a 1x1 that widens four times. Places for noise: each
          branch, maps after each stage, dropout
Shapes    (b, c, h, w), h and w at least 28, to logits (b, k); 224 x 224 is what it was made for, and for
          small images there is resnet_cifar
Params    11,689,512 for depth 18, 21,797,672 for 34, 25,557,032 for 50, with three input channels and 1000
          classes
Norm      batch norm; a chosen one takes its places
Source    He et al., Deep residual learning for image recognition, 2015, arXiv:1512.03385, table 1, shortcuts
          of option B: a 1x1 convolution where the shape changes. Parameters have torchvision's names, so its
          weights load; as there, depth 50 halves the side in the 3x3 and not in the 1x1 before it. `width`
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

LEAST = 28
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
WIDEN = 4  # how many times as many maps leave a block of depth 50 as its 3x3 has


def projection(c_in: int, c_out: int, stride: int, layers: Layers) -> nn.Sequential | None:
    """The shortcut where the shape changes; None where the input is passed on as it is."""
    if stride == 1 and c_in == c_out:
        return None
    norm = layers.norm or nn.BatchNorm2d
    return nn.Sequential(*conv_norm(c_in, c_out * layers.pieces, 1, norm, stride=stride))


class Basic(nn.Module):
    """A branch of two 3x3 convolutions."""

    def __init__(self, c_in: int, maps: int, stride: int, layers: Layers) -> None:
        super().__init__()
        norm, wide = layers.norm or nn.BatchNorm2d, maps * layers.pieces
        self.pieces = layers.pieces
        self.conv1, self.bn1 = conv_norm(c_in, wide, 3, norm, stride=stride)
        self.act1 = layers.activation(maps)
        self.conv2, self.bn2 = conv_norm(maps, wide, 3, norm)
        self.place = BranchPlace()
        self.downsample = projection(c_in, maps, stride, layers)
        self.act2 = layers.activation(maps)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        branch = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        kept = widened(x, self.pieces) if self.downsample is None else self.downsample(x)
        return self.act2(self.place(branch) + kept)


class Bottleneck(nn.Module):
    """A branch of a 1x1 convolution that narrows, a 3x3, and a 1x1 that widens."""

    def __init__(self, c_in: int, maps: int, stride: int, layers: Layers) -> None:
        super().__init__()
        norm, wide, c_out = layers.norm or nn.BatchNorm2d, maps * layers.pieces, maps * WIDEN
        self.pieces = layers.pieces
        self.conv1, self.bn1 = conv_norm(c_in, wide, 1, norm)
        self.act1 = layers.activation(maps)
        self.conv2, self.bn2 = conv_norm(maps, wide, 3, norm, stride=stride)
        self.act2 = layers.activation(maps)
        self.conv3, self.bn3 = conv_norm(maps, wide * WIDEN, 1, norm)
        self.place = BranchPlace()
        self.downsample = projection(c_in, c_out, stride, layers)
        self.act3 = layers.activation(c_out)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        branch = self.act1(self.bn1(self.conv1(x)))
        branch = self.bn3(self.conv3(self.act2(self.bn2(self.conv2(branch)))))
        kept = widened(x, self.pieces) if self.downsample is None else self.downsample(x)
        return self.act3(self.place(branch) + kept)


class ResNetModule(nn.Module):
    """See the card above."""

    def __init__(
        self, channels: int, n_classes: int, depth: int, width: float, dropout: float, layers: Layers
    ) -> None:
        super().__init__()
        block, widen = (Bottleneck, WIDEN) if depth >= 50 else (Basic, 1)
        stem = c_in = scaled(64, width)
        self.conv1, self.bn1 = conv_norm(
            channels, stem * layers.pieces, 7, layers.norm or nn.BatchNorm2d, stride=2
        )
        self.act = layers.activation(stem)
        for number, blocks in enumerate(BLOCKS[depth], 1):
            maps = scaled(64 * 2 ** (number - 1), width)
            stage = nn.Sequential()
            for i in range(blocks):
                stage.append(block(c_in, maps, 2 if i == 0 and number > 1 else 1, layers))
                c_in = maps * widen
            self.add_module(f"layer{number}", stage)
            self.add_module(f"place{number}", MapsPlace())
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(c_in, n_classes)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        check_size(x, LEAST, "resnet")
        x = F.max_pool2d(self.act(self.bn1(self.conv1(x))), 3, 2, padding=1)
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
            x = getattr(self, f"place{number}")(x)
        return self.fc(self.dropout(F.adaptive_avg_pool2d(x, 1).flatten(1)))


@dataclass(frozen=True)
class ResNet:
    slot: ClassVar[str] = "net"
    least: ClassVar[int] = LEAST
    depth: int = 18
    width: float = 1.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_depth(self.depth, BLOCKS)
        check_width(self.width)
        check_dropout(self.dropout)

    def build(self, channels: int, n_classes: int, layers: Layers) -> nn.Module:
        return ResNetModule(channels, n_classes, self.depth, self.width, self.dropout, layers)
