"""No norm: every place for a norm is left empty, and the convolutions get their biases back.

Formula   y = x
Shapes    maps (b, c, h, w), kept
Strength  none: this is the setting that means off
Helps     seeing what a norm is worth; the nets of 2014 and before, which were made without
Hurts     deep residual nets: each addition lets the maps grow, twofold in variance after he, and a branch
          that should start closed has no scale to close it with
Clashes   a high LR (the range test finds a lower one); muon, which keeps no filter's scale
Source    the nets before Ioffe and Szegedy, Batch normalization, 2015, arXiv:1502.03167. `own` keeps what
          each net's paper has, which for resnet is batch norm; this takes it out
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn


@dataclass(frozen=True)
class NoNorm:
    slot: ClassVar[str] = "normalise"

    def build(self, channels: int) -> nn.Module:
        return nn.Identity()
