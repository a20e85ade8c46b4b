"""Mean image: every pixel of every channel gets mean 0 over the training images.

Formula   x' = x - mean_p;   with divide   x' = (x - mean_p) / std_p   for each pixel and channel p
Shapes    fit: chunks (n, c, h, w) uint8 or float of one size; apply: (b, c, h, w) float of that size, kept;
          state: mean (c, h, w) and, with divide, std (c, h, w), float32
Strength  divide False or True; leave it out to switch it off
Helps     pictures that are aligned, such as faces or digits in a frame; flattened input
Hurts     with divide, pixels that hardly ever vary (a dark border) are blown up: one white pixel among n
          dark ones becomes sqrt(n). Where the picture may lie anywhere, the means of the channels do as well
Clashes   run.sizes and views of other sizes, since it knows one size; flips and shifts blur what it assumes;
          zero_centre and standardise, which centre as well
Source    the mean image: Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep Convolutional
          Neural Networks, 2012, section 2; per-pixel std: Wei, Must Know Tips/Tricks in Deep Neural
          Networks, 2015, section 2. Both moments are merged chunk by chunk in float64 as in Chan, Golub and
          LeVeque, 1983. A pixel that never varies is only centred
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from convclinic.kinds import State
from convclinic.tricks.prepare._stream import NOTHING, checked, divisor, expect, merged, moments


def pixel_moments(
    trick: str, chunks: Iterable[Tensor]
) -> tuple[Float[Tensor, "c h w"], Float[Tensor, "c h w"]]:
    """Mean and population standard deviation of each pixel and channel over the images, float64."""
    total = NOTHING
    for chunk in checked(trick, chunks, same_size=True):
        total = merged(total, moments(chunk, (0,)))
    return total.mean, total.std


@dataclass(frozen=True)
class MeanImage:
    """The mean image of the training split, and the standard deviation of each of its pixels."""

    slot: ClassVar[str] = "prepare"
    divide: bool = False

    def fit(self, chunks: Iterable[Tensor]) -> State:
        """State {"mean": (c, h, w)}, with divide also "std", from chunks of images, held one at a time.

        Raises ConvclinicError when there are no images, when they are neither uint8 nor float, or when they
        differ in channels or size.
        """
        mean, std = pixel_moments("mean_image", chunks)
        state = {"mean": mean.float()}
        return {**state, "std": divisor(mean, std).float()} if self.divide else state

    def apply(self, images: Tensor, state: State) -> Tensor:
        """(b, c, h, w) float. Raises ConvclinicError when channels or size do not match."""
        expect("mean_image", images, tuple(state["mean"].shape))
        centred = images - state["mean"].to(images)
        return centred / state["std"].to(images) if self.divide else centred
