"""Fast: a small, wide net for small images, after airbench's: whitened first layer, 3x3 convolutions.

Layers    k x k patch-whitening conv (frozen filters, trained bias) and activation; three groups of
          [3x3 conv, 2x2 max pool, norm, activation, 3x3 conv, norm, activation]; global max pool; linear.
          Places for noise: maps after each group, dropout before the linear layer (0, as in the source). The
          linear layer's weights have unit variance and its sums are divided by the number of maps: that
          scale is the net's own, and no initialiser or limit of length changes it
Shapes    (b, c, h, w), h and w at least kernel - 1 + 2^groups, 9 by default, to logits (b, k); 32 x 32 is
          what it was made for
Params    about 2.0 million at widths (64, 256, 256) with three input channels and ten classes
Norm      batch norm with a fast-moving memory (0.4 of each new batch) and no scale of its own: the
          optimiser keeps each filter's norm instead
Source    Jordan, 94 % on CIFAR-10 in 3.29 seconds on a single GPU, 2024, arXiv:2404.00498. With maxout, which
          the source does not have, the whitened maps pass the first activation as they are: their filters
          are given, so all pieces of a map are the same
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.typed import at_least
from convclinic.kinds import Layers
from convclinic.models._layers import MapsPlace, check_size, conv_norm, widened


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm whose scale stays one and whose statistics follow the last few batches."""
    norm = nn.BatchNorm2d(channels, eps=1e-5, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


def least_side(widths: tuple[int, ...], kernel: int) -> int:
    """Of this side one pixel is left after the last group."""
    return kernel - 1 + 2 ** len(widths)


class Group(nn.Module):
    """Two 3x3 convolutions at half the input's side."""

    def __init__(self, c_in: int, c_out: int, layers: Layers) -> None:
        super().__init__()
        norm, wide = layers.norm or batch_norm, c_out * layers.pieces
        self.conv1, self.norm1 = conv_norm(c_in, wide, 3, norm)
        self.act1 = layers.activation(c_out)
        self.conv2, self.norm2 = conv_norm(c_out, wide, 3, norm)
        self.act2 = layers.activation(c_out)
        self.place = MapsPlace()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        x = self.act1(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return self.place(self.act2(self.norm2(self.conv2(x))))


class Head(nn.Linear):
    """Linear, with weights of unit variance whose sum the net divides by the number of maps."""

    own_scale = True

    def __init__(self, maps: int, n_classes: int) -> None:
        super().__init__(maps, n_classes, bias=False)
        with torch.no_grad():
            self.weight /= self.weight.std()


class FastNet(nn.Module):
    """See the card above."""

    def __init__(
        self, channels: int, n_classes: int, widths: tuple[int, ...], kernel: int, layers: Layers
    ) -> None:
        super().__init__()
        whitened = 2 * channels * kernel**2
        self.pieces = layers.pieces
        self.least = least_side(widths, kernel)
        self.whiten = nn.Conv2d(channels, whitened, kernel)
        self.whiten.weight.requires_grad_(False)
        self.act = layers.activation(whitened)
        ends = (whitened, *widths)
        self.groups = nn.Sequential(*(Group(a, b, layers) for a, b in zip(ends, widths, strict=False)))
        self.dropout = nn.Dropout(0.0)
        self.head = Head(widths[-1], n_classes)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        check_size(x, self.least, "fast")
        x = self.groups(self.act(widened(self.whiten(x), self.pieces)))
        x = F.adaptive_max_pool2d(x, 1).flatten(1)
        # unit-variance head weights and features would give logits of order sqrt(width)
        return self.head(self.dropout(x)) / x.shape[1]


@dataclass(frozen=True)
class Fast:
    slot: ClassVar[str] = "net"
    widths: tuple[int, ...] = (64, 256, 256)
    kernel: int = 2

    def __post_init__(self) -> None:
        at_least("net.kernel", self.kernel, 1)
        if not self.widths:
            raise ConvclinicError("net.widths is empty", fix="give at least one, like [64, 256, 256]")
        for width in self.widths:
            at_least("net.widths", width, 1)

    @property
    def least(self) -> int:
        """The smallest side of an image it takes."""
        return least_side(self.widths, self.kernel)

    def build(self, channels: int, n_classes: int, layers: Layers) -> nn.Module:
        return FastNet(channels, n_classes, self.widths, self.kernel, layers)
