"""Xavier (Glorot): weights scaled between what suits the signal and what suits the gradient.

Formula   variance of w = 2 / (fan_in + fan_out):   w ~ U(-a, a) with a = sqrt(6 / (fan_in + fan_out)),
          or w ~ N(0, 2 / (fan_in + fan_out));   b = 0
Shapes    weights (out, in / groups, k, k) of convolutions and (out, in) of linear layers;
          fan_in = in / groups * k * k,   fan_out = out / groups * k * k
Strength  distribution "uniform" or "normal"; the variance follows from the layer. There is no value that
          means off: leave it out
Helps     deep nets of tanh and other activations that are near the identity around 0
Hurts     deep nets of ReLUs without normalisation: each ReLU halves the second moment; he is made for those
Clashes   every other initialiser (each sets the same weights: the last one wins)
Source    Glorot and Bengio, Understanding the Difficulty of Training Deep Feedforward Neural Networks, 2010,
          equations 12 and 16, for the uniform; the normal of the same variance is Caffe's and torch's. The
          paper has no gain, so that of the activation is not used, where torch's functions take one. In
          torch fan_out does not know of groups; here it counts the units that an input really reaches.
          Frozen weights are left as they are
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from convclinic.tricks.initialise._layers import check_distribution, drawn, fan_in, set_layers


def xavier(shape: tuple[int, ...], groups: int, distribution: str, rng: torch.Generator) -> Tensor:
    """Weights (out, in / groups, ...) of variance 2 / (fan_in + fan_out), drawn on the generator's device.

    >>> weight = xavier((32, 16, 3, 3), 1, "uniform", torch.Generator().manual_seed(0))
    >>> bool(weight.abs().max() <= math.sqrt(6 / (16 * 9 + 32 * 9)))
    True
    """
    fan_out = shape[0] // groups * math.prod(shape[2:])
    return drawn(shape, math.sqrt(2 / (fan_in(shape) + fan_out)), distribution, rng)


@dataclass(frozen=True)
class Xavier:
    """Every trainable convolution and linear layer, in the order of the net's modules."""

    slot: ClassVar[str] = "initialise"
    distribution: str = "uniform"

    def __post_init__(self) -> None:
        check_distribution("xavier", self.distribution)

    def apply(self, net: nn.Module, rng: torch.Generator, images: Tensor, gain: float) -> None:
        """Set weights and biases in place; neither `images` nor `gain` is looked at."""
        set_layers(net, lambda shape, groups: xavier(shape, groups, self.distribution, rng))
