"""Zero: all weights zero. It exists so that the clinic can recognise and refuse it.

Formula   w = 0,   b = 0
Shapes    weights of trainable convolutions and linear layers, and their biases
Strength  none; leave it out to switch it off
Helps     nothing, in a whole net: it is here to be recognised, and for seeing what goes wrong
Hurts     always. All units of a layer compute the same and get the same gradient, so they stay the same; with
          an activation that is 0 at 0, all gradients but that of the last bias are zero as well, and the net
          learns the classes' frequencies and nothing else
Clashes   every other initialiser (each sets the same weights: the last one wins)
Source    Wei, Must Know Tips/Tricks in Deep Neural Networks, 2015, section 3, who names it as the mistake to
          avoid; so does CS231n (Karpathy, 2015)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from convclinic.tricks.initialise._layers import set_layers


@dataclass(frozen=True)
class Zero:
    """Zero in every trainable convolution and linear layer."""

    slot: ClassVar[str] = "initialise"

    def apply(self, net: nn.Module, rng: torch.Generator, images: torch.Tensor, gain: float) -> None:
        """Set weights and biases in place; nothing is drawn, and neither `images` nor `gain` is looked at."""
        set_layers(net, lambda shape, groups: torch.zeros(shape))
