"""Compact: a residual net for photos that trains from scratch in minutes.

Layers    4 x 4 stem conv with stride 4 (norm, activation); stages of [3x3 conv (stride 2 from the second
          stage on), norm, activation, then a residual branch of two 3x3 convs, each with norm and
          activation]; global average pool; dropout; linear
Shapes    (b, c, h, w), h and w at least 32, to logits (b, k); any aspect ratio
Params    about 2.0 million at widths (32, 64, 128, 256) with three input channels
Norm      batch norm; the residual branch ends in a norm whose scale starts at zero, so that each stage starts
          as its first convolution alone (Goyal et al. 2017, arXiv:1706.02677)
Source    He et al., Deep residual learning, 2015, arXiv:1512.03385; the strided stem after Liu et al., A
          ConvNet for the 2020s, 2022, arXiv:2201.03545
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.typed import at_least

Activation = Callable[[int], nn.Module]


class Stage(nn.Module):
    """One convolution, then one residual branch at the new width."""

    def __init__(self, c_in: int, c_out: int, stride: int, activation: Activation) -> None:
        super().__init__()
        self.enter = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            activation(c_out),
        )
        last = nn.BatchNorm2d(c_out)
        nn.init.zeros_(last.weight)
        self.branch = nn.Sequential(
            nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            activation(c_out),
            nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
            last,
        )
        self.act = activation(c_out)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        x = self.enter(x)
        return self.act(x + self.branch(x))


class CompactNet(nn.Module):
    """See the card above."""

    def __init__(
        self, channels: int, n_classes: int, widths: tuple[int, ...], dropout: float, activation: Activation
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 4, stride=4, bias=False),
            nn.BatchNorm2d(widths[0]),
            activation(widths[0]),
        )
        ends = (widths[0], *widths)
        self.stages = nn.Sequential(
            *(
                Stage(a, b, 1 if i == 0 else 2, activation)
                for i, (a, b) in enumerate(zip(ends, widths, strict=False))
            )
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], n_classes)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        x = self.stages(self.stem(x))
        return self.head(self.dropout(F.adaptive_avg_pool2d(x, 1).flatten(1)))


@dataclass(frozen=True)
class Compact:
    slot: ClassVar[str] = "net"
    widths: tuple[int, ...] = (32, 64, 128, 256)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ConvclinicError(f"net.dropout must lie in [0, 1), not {self.dropout}")
        if not self.widths:
            raise ConvclinicError("net.widths is empty", fix="give at least one, like [64, 256, 256]")
        for width in self.widths:
            at_least("net.widths", width, 1)

    def build(self, channels: int, n_classes: int, activation: Activation) -> nn.Module:
        return CompactNet(channels, n_classes, self.widths, self.dropout, activation)
