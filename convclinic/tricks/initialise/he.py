"""He: normal weights whose scale keeps the activations' size the same from layer to layer.

Formula   w ~ N(0, gain^2 / fan_in),   b = 0;   gain sqrt(2) for ReLU: randn(n) * sqrt(2 / n)
Shapes    weights (out, in / groups, k, k) of convolutions and (out, in) of linear layers;
          fan_in = in / groups * k * k
Strength  gain > 0, that of the net's activation, not an option here; there is no value that means off
Helps     deep nets of the ReLU family, above all those without normalisation
Hurts     nothing known; after normalisation layers the scale hardly matters
Clashes   dirac and pretrained weights (each sets the same weights: the last one wins)
Source    He et al., Delving Deep into Rectifiers, 2015, arXiv:1502.01852, equation 10. All layers get the
          gain, the last one too; frozen weights are left as they are, which the paper has no need to say
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn


def he_normal(shape: tuple[int, ...], gain: float, rng: torch.Generator) -> Tensor:
    """Weights (out, in, ...) of standard deviation gain / sqrt(fan_in), drawn on the generator's device.

    >>> weight = he_normal((64, 32, 3, 3), math.sqrt(2), torch.Generator().manual_seed(0))
    >>> round(weight.std().item(), 2) == round(math.sqrt(2 / (32 * 9)), 2)
    True
    """
    fan_in = math.prod(shape[1:])
    return torch.randn(shape, generator=rng, device=rng.device) * (gain / math.sqrt(fan_in))


@dataclass(frozen=True)
class He:
    """Every trainable convolution and linear layer, in the order of the net's modules."""

    slot: ClassVar[str] = "initialise"

    @torch.no_grad()
    def apply(self, net: nn.Module, rng: torch.Generator, images: Tensor, gain: float) -> None:
        """Set weights and biases in place; `images` is not looked at."""
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.requires_grad:
                module.weight.copy_(he_normal(tuple(module.weight.shape), gain, rng))
                if module.bias is not None:
                    module.bias.zero_()
