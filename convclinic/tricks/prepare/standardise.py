"""Standardise: every channel gets mean 0 and standard deviation 1 over the training pixels.

Formula   x' = (x - mean_c) / std_c
Shapes    fit: chunks (n, c, h, w) uint8 or float, sizes may differ; apply: (b, c, h, w) float, kept;
          state: mean (c,) and std (c,) float32, in the units of [0, 1] images
Strength  none; leave it out to switch it off (mean 0 and std 1 would be the identity)
Helps     practically always: gradients of the first layer are badly scaled without it
Hurts     nothing known; a net with pretrained weights needs the numbers it was trained with instead
Clashes   any other centring or scaling of the input, such as min-max
Source    LeCun, Bottou, Orr and Müller, Efficient BackProp, 1998, section 4.3; per channel and not per
          pixel as in Krizhevsky et al. since VGG (Simonyan and Zisserman, 2014, arXiv:1409.1556)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from convclinic.kinds import State
from convclinic.tricks.prepare._channels import affine, channel_moments
from convclinic.tricks.prepare._stream import divisor, expect


def standardise(
    images: Float[Tensor, "b c h w"], mean: Float[Tensor, " c"], std: Float[Tensor, " c"]
) -> Float[Tensor, "b c h w"]:
    """The formula as x / std - mean / std, in the images' own dtype and on their device."""
    return affine(images, *scale_and_offset(mean.to(images), std.to(images)))


def scale_and_offset(
    mean: Float[Tensor, " c"], std: Float[Tensor, " c"]
) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """1 / std and -mean / std."""
    return 1 / std, -mean / std


@dataclass(frozen=True)
class Standardise:
    """Per-channel mean and standard deviation of the training split."""

    slot: ClassVar[str] = "prepare"

    def fit(self, chunks: Iterable[Tensor]) -> State:
        """State {"mean": (c,), "std": (c,)} from chunks (n, c, h, w), held one at a time.

        A channel that never varies gets std 1, so that it becomes 0 and not NaN. Raises ConvclinicError
        when there are no images, when they are neither uint8 nor float, or when they differ in channels.
        """
        mean, std = channel_moments("standardise", chunks)
        return {"mean": mean.float(), "std": divisor(mean, std).float()}

    def channelwise(self, state: State) -> tuple[Tensor, Tensor]:
        """Scale (c,) and offset (c,) of each channel, for a pass that does something else as well."""
        return scale_and_offset(state["mean"], state["std"])

    def apply(self, images: Tensor, state: State) -> Tensor:
        """What the net sees: (b, c, h, w) float. Raises ConvclinicError when the channels do not match."""
        expect("standardise", images, tuple(state["mean"].shape))
        return standardise(images, state["mean"], state["std"])
