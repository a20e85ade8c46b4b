"""Dirac: 3x3 convolutions begin as the identity, so a deep net begins as a shallow one.

Formula   w[o, i, 1, 1] = 1 if o == i else 0, and 0 off the centre, for filters o < min(out, in);
          the other filters keep torch's default draw, U(-1, 1) / sqrt(fan_in)
Shapes    weights (out, in, 3, 3) of trainable convolutions without groups; all others are left alone
Strength  none; leave it out to switch it off
Helps     short training: the signal and its gradient reach every layer from the first step on
Hurts     nothing known where normalisation follows each convolution
Clashes   he and pretrained weights (each sets the same weights: the last one wins)
Source    Zagoruyko and Komodakis, DiracNets, 2017, arXiv:1706.00388; the partial form is Jordan's, 94% on
          CIFAR-10 in 3.29 seconds on a single GPU, 2024, arXiv:2404.00498. Its convolutions have no
          bias; where one is, it becomes 0
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError


def partial_dirac(weight: Float[Tensor, "out in k k"]) -> Float[Tensor, "out in k k"]:
    """A copy whose first min(out, in) filters pass their own channel through; k is odd.

    >>> weight = partial_dirac(torch.full((3, 2, 3, 3), 0.5))
    >>> weight[0, 0].tolist(), weight[0, 1].any().item(), weight[2].unique().tolist()
    ([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], False, [0.5])
    """
    weight = weight.clone()
    same = torch.arange(min(weight.shape[:2]))
    centre = weight.shape[-1] // 2
    weight[same] = 0.0
    weight[same, same, centre, centre] = 1.0
    return weight


@dataclass(frozen=True)
class Dirac:
    """The partial identity in every trainable 3x3 convolution, in the order of the net's modules."""

    slot: ClassVar[str] = "initialise"

    @torch.no_grad()
    def apply(self, net: nn.Module, rng: torch.Generator, images: Tensor, gain: float) -> None:
        """Set weights in place; neither `images` nor `gain` is looked at.

        Raises ConvclinicError when the net has no such convolution, trainable or frozen.
        """
        convolutions = [
            module
            for module in net.modules()
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.groups == 1
        ]
        if not convolutions:
            raise ConvclinicError(
                "dirac needs 3x3 convolutions, and this net has none",
                fix="use initialise=he, or another net",
            )
        for module in (each for each in convolutions if each.weight.requires_grad):
            # torch's default: sqrt(5) makes the uniform bound 1 / sqrt(fan_in)
            default = torch.empty(module.weight.shape, device=rng.device)
            nn.init.kaiming_uniform_(default, a=math.sqrt(5), generator=rng)
            module.weight.copy_(partial_dirac(default))
            if module.bias is not None:
                module.bias.zero_()
