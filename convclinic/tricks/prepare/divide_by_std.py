"""Divide by the standard deviation: every channel gets standard deviation 1 over the training pixels.

Formula   x' = x / std_c,   std_c about the channel's own mean
Shapes    fit: chunks (n, c, h, w) uint8 or float, sizes may differ; apply: (b, c, h, w) float, kept;
          state: std (c,) float32, in the units of [0, 1] images
Strength  none; leave it out to switch it off (std 1 would be the identity)
Helps     input of a scale other than 1, after zero_centre or mean_image
Hurts     alone, images in [0, 1] keep a mean of about twice their standard deviation: centre them first
Clashes   standardise, which divides as well (the second division is by 1)
Source    Wei, Must Know Tips/Tricks in Deep Neural Networks, 2015, section 2: X /= std(X, axis=0), after
          centring. Wei divides each dimension, which for images is `mean_image` with divide; here one std
          for each channel. A channel that never varies is left as it is
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from convclinic.kinds import State
from convclinic.tricks.prepare._channels import affine, channel_moments
from convclinic.tricks.prepare._stream import divisor, expect


def divide_by_std(images: Float[Tensor, "b c h w"], std: Float[Tensor, " c"]) -> Float[Tensor, "b c h w"]:
    """x / std_c, in the images' own dtype and on their device."""
    return affine(images, 1 / std, torch.zeros_like(std))


@dataclass(frozen=True)
class DivideByStd:
    """Per-channel standard deviation of the training split."""

    slot: ClassVar[str] = "prepare"

    def fit(self, chunks: Iterable[Tensor]) -> State:
        """State {"std": (c,)} from chunks (n, c, h, w), held one at a time.

        Raises ConvclinicError when there are no images, when they are neither uint8 nor float, or when they
        differ in channels.
        """
        mean, std = channel_moments("divide_by_std", chunks)
        return {"std": divisor(mean, std).float()}

    def apply(self, images: Tensor, state: State) -> Tensor:
        """(b, c, h, w) float. Raises ConvclinicError when the channels do not match."""
        expect("divide_by_std", images, tuple(state["std"].shape))
        return divide_by_std(images, state["std"])
