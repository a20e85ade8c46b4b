"""LeCun: weights scaled so that a unit's output has the variance of its inputs.

Formula   w ~ N(0, 1 / fan_in), that is randn(n) / sqrt(n);   b = 0
Shapes    weights (out, in / groups, k, k) of convolutions and (out, in) of linear layers;
          fan_in = in / groups * k * k
Strength  none: the variance follows from the layer. Leave it out to switch it off
Helps     nets whose activation is near the identity around 0 (tanh, ELU), and linear ones
Hurts     deep nets of ReLUs without normalisation: each ReLU halves the second moment, so that it falls as
          2^-depth; he is made for those
Clashes   every other initialiser (each sets the same weights: the last one wins)
Source    LeCun, Bottou, Orr and Müller, Efficient BackProp, 1998, section 4.6, which asks for a
          standard deviation of m^(-1/2) and leaves the distribution open; Wei, 2015, section 3, has
          randn(n) / sqrt(n). Neither has a gain, so that of the activation is not used. Frozen weights are
          left as they are
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from convclinic.tricks.initialise._layers import drawn, fan_in, set_layers


def lecun_normal(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Weights (out, in, ...) of standard deviation 1 / sqrt(fan_in), drawn on the generator's device.

    >>> weight = lecun_normal((64, 32, 3, 3), torch.Generator().manual_seed(0))
    >>> round(weight.std().item(), 2) == round(1 / math.sqrt(32 * 9), 2)
    True
    """
    return drawn(shape, 1 / math.sqrt(fan_in(shape)), "normal", rng)


@dataclass(frozen=True)
class LeCun:
    """Every trainable convolution and linear layer, in the order of the net's modules."""

    slot: ClassVar[str] = "initialise"

    def apply(self, net: nn.Module, rng: torch.Generator, images: Tensor, gain: float) -> None:
        """Set weights and biases in place; neither `images` nor `gain` is looked at."""
        set_layers(net, lambda shape, groups: lecun_normal(shape, rng))
