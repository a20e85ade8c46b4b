"""Small random: weights near zero, whatever the size of the layer.

Formula   w ~ scale N(0, 1),   or   w ~ scale U(-1, 1);   b = 0
Shapes    weights (out, in / groups, k, k) of convolutions and (out, in) of linear layers
Strength  scale > 0; 0.001 is the source's. There is no value that means off: leave it out
Helps     shallow nets: random, so that units differ, and small, so that no activation saturates
Hurts     deep nets without normalisation: each layer makes the signal and the gradient smaller, by about
          scale sqrt(fan_in), until nothing arrives
Clashes   every other initialiser (each sets the same weights: the last one wins)
Source    Wei, Must Know Tips/Tricks in Deep Neural Networks, 2015, section 3: 0.001 N(0, 1), or small numbers
          from a uniform distribution, whose bounds it leaves open: here it has those of the same scale.
          No fan-in and no gain in it. Frozen weights are left as they are
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.initialise._layers import check_distribution, drawn, set_layers


def small_random(shape: tuple[int, ...], scale: float, distribution: str, rng: torch.Generator) -> Tensor:
    """scale N(0, 1) or scale U(-1, 1), drawn on the generator's device.

    >>> weight = small_random((50, 50), 0.001, "uniform", torch.Generator().manual_seed(0))
    >>> 0.0009 < weight.abs().max().item() <= 0.001
    True
    """
    std = scale if distribution == "normal" else scale / math.sqrt(3)
    return drawn(shape, std, distribution, rng)


@dataclass(frozen=True)
class SmallRandom:
    """Every trainable convolution and linear layer, in the order of the net's modules."""

    slot: ClassVar[str] = "initialise"
    distribution: str = "normal"
    scale: float = 0.001

    def __post_init__(self) -> None:
        check_distribution("small_random", self.distribution)
        if not 0 < self.scale < math.inf:
            raise ConvclinicError(
                f"small_random.scale must be above 0 and finite, not {self.scale}", fix="0.001 is usual"
            )

    def apply(self, net: nn.Module, rng: torch.Generator, images: Tensor, gain: float) -> None:
        """Set weights and biases in place; neither `images` nor `gain` is looked at."""
        set_layers(net, lambda shape, groups: small_random(shape, self.scale, self.distribution, rng))
