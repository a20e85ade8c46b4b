"""SqueezeNet 1.1: fire modules, whose 1x1 convolutions squeeze before 3x3 ones look around.

Layers    conv 3x3/2 64, activation, 3x3/2 max pool; fire modules with 16 maps between and 64 + 64 after (2 of
          them), pool, 32 and 128 + 128 (2), pool, 48 and 192 + 192 (2), 64 and 256 + 256 (2); dropout 0.5;
          conv 1x1 to the classes, activation, global average pool. A fire module squeezes with a 1x1, then
          joins what a 1x1 and a 3x3 make of it. Place for spatial dropout: after each pool
Shapes    (b, c, h, w), h and w at least 31, to logits (b, k); 224 x 224 is what it was made for
Params    1,235,496 with three input channels and 1000 classes
Norm      none; a chosen one stands behind each convolution of the features
Source    Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, 2016,
          arXiv:1602.07360; version 1.1 is the authors' own of the same year (github.com/forresti/SqueezeNet),
          2.4 times cheaper. Parameters have torchvision's names, so its weights load
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from convclinic.kinds import Layers
from convclinic.models._layers import MapsPlace, check_dropout, check_size, check_width, conv_norm, scaled

LEAST = 31
STEM = 64
FIRES = (16, 16, 0, 32, 32, 0, 48, 48, 64, 64)  # maps between; 0 is a pool
EXPAND = 4  # each of the two kinds of convolution after makes so many times as many


class Fire(nn.Module):
    """Squeeze with a 1x1, then a 1x1 and a 3x3 side by side."""

    def __init__(self, c_in: int, between: int, layers: Layers) -> None:
        super().__init__()
        norm, wide, each = layers.norm or nn.Identity, between * layers.pieces, between * EXPAND
        self.squeeze, self.squeeze_norm = conv_norm(c_in, wide, 1, norm)
        self.squeeze_activation = layers.activation(between)
        self.expand1x1, self.expand1x1_norm = conv_norm(between, each * layers.pieces, 1, norm)
        self.expand1x1_activation = layers.activation(each)
        self.expand3x3, self.expand3x3_norm = conv_norm(between, each * layers.pieces, 3, norm)
        self.expand3x3_activation = layers.activation(each)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        x = self.squeeze_activation(self.squeeze_norm(self.squeeze(x)))
        ones = self.expand1x1_activation(self.expand1x1_norm(self.expand1x1(x)))
        threes = self.expand3x3_activation(self.expand3x3_norm(self.expand3x3(x)))
        return torch.cat([ones, threes], 1)


class Pool(nn.Sequential):
    """Halve the side; half a window may hang over the edge. Then a place for spatial dropout."""

    def __init__(self) -> None:
        super().__init__(nn.MaxPool2d(3, 2, ceil_mode=True), MapsPlace())


class SqueezeNetModule(nn.Module):
    """See the card above."""

    def __init__(self, channels: int, n_classes: int, width: float, dropout: float, layers: Layers) -> None:
        super().__init__()
        c_in = scaled(STEM, width)
        conv, norm = conv_norm(
            channels, c_in * layers.pieces, 3, layers.norm or nn.Identity, stride=2, padding=0
        )
        self.stem_norm = norm
        parts: list[nn.Module] = [conv, layers.activation(c_in), Pool()]
        for maps in FIRES:
            if not maps:
                parts.append(Pool())
                continue
            between = scaled(maps, width)
            parts.append(Fire(c_in, between, layers))
            c_in = 2 * EXPAND * between
        self.features = nn.Sequential(*parts)
        head = nn.Conv2d(c_in, n_classes * layers.pieces, 1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), head, layers.activation(n_classes))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        check_size(x, LEAST, "squeezenet")
        conv, *rest = self.features
        x = self.stem_norm(conv(x))
        for part in rest:
            x = part(x)
        return F.adaptive_avg_pool2d(self.classifier(x), 1).flatten(1)


@dataclass(frozen=True)
class SqueezeNet:
    slot: ClassVar[str] = "net"
    least: ClassVar[int] = LEAST
    width: float = 1.0
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_width(self.width)
        check_dropout(self.dropout)

    def build(self, channels: int, n_classes: int, layers: Layers) -> nn.Module:
        return SqueezeNetModule(channels, n_classes, self.width, self.dropout, layers)
