"""Constant: all weights one value. It exists so that the clinic can recognise and refuse it.

Formula   w = value,   b = 0
Shapes    weights of trainable convolutions and linear layers, and their biases
Strength  value, any finite number; 0 is the initialiser zero. Leave it out to switch it off
Helps     nothing, in a whole net: it is here to be recognised, and for seeing what goes wrong
Hurts     always. All units of a hidden layer compute the same and get the same gradient, so they stay the
          same however long the net is trained: each layer is one unit, many times over
Clashes   every other initialiser (each sets the same weights: the last one wins)
Source    Wei, Must Know Tips/Tricks in Deep Neural Networks, 2015, section 3, on weights without a "source of
          asymmetry"; Goodfellow, Bengio and Courville, Deep Learning, 2016, section 8.4
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.initialise._layers import set_layers


@dataclass(frozen=True)
class Constant:
    """The same number in every trainable convolution and linear layer."""

    slot: ClassVar[str] = "initialise"
    value: float = 0.01

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ConvclinicError(f"constant.value must be a finite number, not {self.value}")

    def apply(self, net: nn.Module, rng: torch.Generator, images: torch.Tensor, gain: float) -> None:
        """Set weights and biases in place; nothing is drawn, and neither `images` nor `gain` is looked at."""
        set_layers(net, lambda shape, groups: torch.full(shape, self.value))
