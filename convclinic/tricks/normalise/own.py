"""Own norm: the net keeps the normalisation that its paper has.

Formula   none of its own: batch norm in a residual net, local response norm in AlexNet, nothing in VGG
Shapes    maps (b, c, h, w), kept
Strength  none; `none` takes every norm out, `batch_norm` and `group_norm` put one after every convolution
Helps     comparing with the paper; loading published weights
Hurts     the deep nets of 2014 and before, which train faster with a norm
Clashes   nothing
Source    the paper of each net, 1998 to 2024: `convclinic tricks NET` names it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Own:
    slot: ClassVar[str] = "normalise"
