"""VGG: nothing but 3x3 convolutions and 2x2 pools, deeper and deeper, then two wide layers.

Layers    five stages of conv 3x3 with an activation, each ended by a 2x2 max pool: 64, 128, 256, 512 and 512
          maps; 1, 1, 2, 2, 2 convs a stage for depth 11; 2 each for 13; 2, 2, 3, 3, 3 for 16; 2, 2, 4, 4, 4
          for 19; adaptive average to `grid` x `grid`, 7; linear 4096, activation, dropout, twice; linear.
          Places for noise: maps after each stage, both dropouts
Shapes    (b, c, h, w), h and w at least 32, to logits (b, k); 224 x 224 is what it was made for, where the
          adaptive average changes nothing. At 32 x 32 the last map is 1 x 1: grid 1 and a small head suffice
Params    132,863,336 for depth 11, 133,047,848 for 13, 138,357,544 for 16, 143,667,240 for 19, with three
          input channels and 1000 classes
Norm      none of its own; a chosen one stands between each convolution and its activation. Without, the deep
          ones need he: the paper grew them from trained shallow ones
Source    Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, 2014,
          arXiv:1409.1556, configurations A, B, D and E. Parameters have torchvision's names, so its weights
          load. `width` times the maps, `head` for the wide layers and `grid` are not in the paper
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
    check_depth,
    check_dropout,
    check_size,
    check_width,
    conv_norm,
    scaled,
)

LEAST = 32
MAPS = (64, 128, 256, 512, 512)
CONVS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def stages(channels: int, depth: int, width: float, layers: Layers) -> nn.Sequential:
    """The convolutional part. Places are named apart, so that the numbers are those of public weights."""
    body, c_in, number = nn.Sequential(), channels, 0
    for stage, (convs, maps) in enumerate(zip(CONVS[depth], MAPS, strict=True), 1):
        c_out = scaled(maps, width)
        parts: list[nn.Module] = []
        for _ in range(convs):
            conv, norm = conv_norm(c_in, c_out * layers.pieces, 3, layers.norm or nn.Identity)
            parts += [conv, *([] if layers.norm is None else [norm]), layers.activation(c_out)]
            c_in = c_out
        for part in (*parts, nn.MaxPool2d(2)):
            body.add_module(str(number), part)
            number += 1
        body.add_module(f"place{stage}", MapsPlace())
    return body


class VGGModule(nn.Module):
    """See the card above."""

    def __init__(self, features: nn.Sequential, grid: int, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.grid = grid
        self.classifier = classifier

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        check_size(x, LEAST, "vgg")
        x = F.adaptive_avg_pool2d(self.features(x), self.grid)
        return self.classifier(x.flatten(1))


@dataclass(frozen=True)
class VGG:
    slot: ClassVar[str] = "net"
    least: ClassVar[int] = LEAST
    depth: int = 16
    width: float = 1.0
    grid: int = 7
    head: int = 4096
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_depth(self.depth, CONVS)
        check_width(self.width)
        at_least("net.grid", self.grid, 1)
        at_least("net.head", self.head, 1)
        check_dropout(self.dropout)

    def build(self, channels: int, n_classes: int, layers: Layers) -> nn.Module:
        features = stages(channels, self.depth, self.width, layers)
        flat = scaled(MAPS[-1], self.width) * self.grid**2
        classifier = nn.Sequential(
            nn.Linear(flat, self.head * layers.pieces),
            layers.activation(self.head),
            nn.Dropout(self.dropout),
            nn.Linear(self.head, self.head * layers.pieces),
            layers.activation(self.head),
            nn.Dropout(self.dropout),
            nn.Linear(self.head, n_classes),
        )
        return VGGModule(features, self.grid, classifier)
