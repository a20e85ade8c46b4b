"""Zero-centre: every channel gets mean 0 over the training pixels, and keeps its scale.

Formula   x' = x - mean_c
Shapes    fit: chunks (n, c, h, w) uint8 or float, sizes may differ; apply: (b, c, h, w) float, kept;
          state: mean (c,) float32, in the units of [0, 1] images
Strength  none; leave it out to switch it off
Helps     all nets: input that is positive throughout moves all weights of a unit in one direction at a time
Hurts     nothing known, but alone it leaves the input's scale far below 1, which initialisers reckon with
Clashes   standardise and mean_image, which centre as well (twice does no harm)
Source    Wei, Must Know Tips/Tricks in Deep Neural Networks, 2015, section 2; LeCun, Bottou, Orr and Müller,
          Efficient BackProp, 1998, section 4.3. Wei takes the mean of each dimension, which for images is
          `mean_image`; here one mean for each channel, as in CS231n (Karpathy, 2015)
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
from convclinic.tricks.prepare._stream import expect


def zero_centre(images: Float[Tensor, "b c h w"], mean: Float[Tensor, " c"]) -> Float[Tensor, "b c h w"]:
    """x - mean_c, in the images' own dtype and on their device."""
    return affine(images, torch.ones_like(mean), -mean)


@dataclass(frozen=True)
class ZeroCentre:
    """Per-channel mean of the training split."""

    slot: ClassVar[str] = "prepare"

    def fit(self, chunks: Iterable[Tensor]) -> State:
        """State {"mean": (c,)} from chunks (n, c, h, w), held one at a time.

        Raises ConvclinicError when there are no images, when they are neither uint8 nor float, or when they
        differ in channels.
        """
        mean, _ = channel_moments("zero_centre", chunks)
        return {"mean": mean.float()}

    def apply(self, images: Tensor, state: State) -> Tensor:
        """(b, c, h, w) float. Raises ConvclinicError when the channels do not match."""
        expect("zero_centre", images, tuple(state["mean"].shape))
        return zero_centre(images, state["mean"])
