"""He: weights whose scale keeps the activations' size the same from layer to layer.

Formula   w ~ N(0, gain^2 / fan_in),   b = 0;   gain sqrt(2) for ReLU: randn(n) * sqrt(2 / n);   or, of the
          same variance, w ~ U(-a, a) with a = gain sqrt(3 / fan_in)
Shapes    weights (out, in / groups, k, k) of convolutions and (out, in) of linear layers;
          fan_in = in / groups * k * k
Strength  distribution "normal" or "uniform"; the gain, above 0, is that of the net's activation and not an
          option here; there is no value that means off: leave it out
Helps     deep nets of the ReLU family, above all those without normalisation
Hurts     nothing known; after normalisation layers the scale hardly matters
Clashes   every other initialiser and pretrained weights (each sets the same weights: the last one wins)
Source    He et al., Delving Deep into Rectifiers, 2015, arXiv:1502.01852, equation 10, for the normal; the
          uniform is torch's. All layers get the gain, the last one too; frozen weights are left as they
          are, which the paper has no need to say
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from convclinic.tricks.initialise._layers import check_distribution, drawn, fan_in, set_layers


def he(shape: tuple[int, ...], gain: float, distribution: str, rng: torch.Generator) -> Tensor:
    """Weights (out, in, ...) of standard deviation gain / sqrt(fan_in), drawn on the generator's device."""
    return drawn(shape, gain / math.sqrt(fan_in(shape)), distribution, rng)


def he_normal(shape: tuple[int, ...], gain: float, rng: torch.Generator) -> Tensor:
    """The paper's own.

    >>> weight = he_normal((64, 32, 3, 3), math.sqrt(2), torch.Generator().manual_seed(0))
    >>> round(weight.std().item(), 2) == round(math.sqrt(2 / (32 * 9)), 2)
    True
    """
    return he(shape, gain, "normal", rng)


@dataclass(frozen=True)
class He:
    """Every trainable convolution and linear layer, in the order of the net's modules."""

    slot: ClassVar[str] = "initialise"
    distribution: str = "normal"

    def __post_init__(self) -> None:
        check_distribution("he", self.distribution)

    def apply(self, net: nn.Module, rng: torch.Generator, images: Tensor, gain: float) -> None:
        """Set weights and biases in place; `images` is not looked at."""
        set_layers(net, lambda shape, groups: he(shape, gain, self.distribution, rng))
