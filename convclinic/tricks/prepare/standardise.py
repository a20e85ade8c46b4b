"""Standardise: every channel gets mean 0 and standard deviation 1 over the training pixels.

Formula   x' = (x - mean_c) / std_c
Shapes    fit: chunks (n, c, h, w) uint8, sizes may differ; apply: (b, c, h, w) float in [0, 1], kept;
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

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import State


def histogram(images: UInt8[Tensor, "n c h w"]) -> Int64[Tensor, "c 256"]:
    """How often each of the 256 values occurs in each channel.

    Counts are exact whatever the chunking, and take a fraction of the time and memory of converting
    the images to float64 first.
    """
    return torch.stack([torch.bincount(channel.reshape(-1), minlength=256) for channel in images.unbind(1)])


def moments(counts: Int64[Tensor, "c 256"]) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Mean and population standard deviation of each channel, float64, in the units of [0, 1] images.

    >>> counts = torch.zeros(1, 256, dtype=torch.int64)
    >>> counts[0, 0] = counts[0, 255] = 5
    >>> mean, std = moments(counts)
    >>> mean.item(), std.item()
    (0.5, 0.5)
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    share = counts.double() / counts.sum(1, keepdim=True)
    mean = share @ values
    variance = (share * (values - mean[:, None]).square()).sum(1)
    return mean, variance.sqrt()


def standardise(
    images: Float[Tensor, "b c h w"], mean: Float[Tensor, " c"], std: Float[Tensor, " c"]
) -> Float[Tensor, "b c h w"]:
    """The formula as x / std - mean / std, in the images' own dtype and on their device.

    One pass over whole rows: with channels last, torch's innermost loop would run over three channels alone.
    """
    b, c, h, w = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(b * h, w * c)
    scale = 1 / std.to(images)
    out = torch.addcmul((-mean.to(images) * scale).repeat(w), rows, scale.repeat(w))
    return out.view(b, h, w, c).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Standardise:
    """Per-channel mean and standard deviation of the training split."""

    slot: ClassVar[str] = "prepare"

    def fit(self, chunks: Iterable[Tensor]) -> State:
        """State {"mean": (c,), "std": (c,)} from chunks (n, c, h, w) of uint8, held one at a time.

        A channel that never varies gets std 1, so that it becomes 0 and not NaN. Raises ConvclinicError
        when there are no images, when they are not uint8, or when chunks differ in their channels.
        """
        counts: Tensor | None = None
        for chunk in chunks:
            if chunk.dtype != torch.uint8 or chunk.ndim != 4:
                raise ConvclinicError(
                    f"standardise is fitted on uint8 (n, c, h, w), not on {chunk.dtype} of {chunk.ndim} axes",
                    fix="give it the stored images, before augmentation",
                )
            new = histogram(chunk).cpu()
            if counts is not None and len(counts) != len(new):
                raise ConvclinicError(
                    f"some images have {len(counts)} channels and some {len(new)}",
                    fix="convert all of them to RGB, or all of them to gray",
                )
            counts = new if counts is None else counts + new
        if counts is None or not counts.any():
            raise ConvclinicError(
                "standardise got no training images", fix="check the split: its train part is empty"
            )
        mean, std = moments(counts)
        return {"mean": mean.float(), "std": torch.where(std > 0, std, 1.0).float()}

    def apply(self, images: Tensor, state: State) -> Tensor:
        """What the net sees: (b, c, h, w) float. Raises ConvclinicError when the channels do not match."""
        if images.shape[1] != len(state["mean"]):
            raise ConvclinicError(
                f"these images have {images.shape[1]} channels, the training images had {len(state['mean'])}",
                fix="convert them to what standardise was fitted on",
            )
        return standardise(images, state["mean"], state["std"])
