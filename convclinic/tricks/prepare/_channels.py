"""Mean and standard deviation of each channel, streamed; and an affine map of each channel in one pass."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from convclinic.tricks.prepare._stream import NOTHING, checked, merged, moments


def histogram(images: UInt8[Tensor, "n c h w"]) -> Int64[Tensor, "c 256"]:
    """How often each of the 256 values occurs in each channel.

    Counts are exact whatever the chunking, and take a fraction of the time and memory of converting
    the images to float64 first.
    """
    return torch.stack([torch.bincount(channel.reshape(-1), minlength=256) for channel in images.unbind(1)])


def level_moments(counts: Int64[Tensor, "c 256"]) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Mean and population standard deviation of each channel, float64, in the units of [0, 1] images.

    >>> counts = torch.zeros(1, 256, dtype=torch.int64)
    >>> counts[0, 0] = counts[0, 255] = 5
    >>> mean, std = level_moments(counts)
    >>> mean.item(), std.item()
    (0.5, 0.5)
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    share = counts.double() / counts.sum(1, keepdim=True)
    mean = share @ values
    variance = (share * (values - mean[:, None]).square()).sum(1)
    return mean, variance.sqrt()


def channel_moments(trick: str, chunks: Iterable[Tensor]) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Mean and population standard deviation of each channel over all images and pixels, float64.

    Stored uint8 images are counted, which is exact; float images, of which each chunk is held alone, go
    through their two moments in float64. Raises ConvclinicError for what `checked` refuses.
    """
    counts, floats = torch.zeros((), dtype=torch.int64), NOTHING
    for chunk in checked(trick, chunks):
        if chunk.dtype == torch.uint8:
            counts = counts + histogram(chunk).cpu()
        else:
            floats = merged(floats, moments(chunk, (0, 2, 3)))
    return (floats.mean, floats.std) if floats.n else level_moments(counts)


def affine(
    images: Float[Tensor, "b c h w"], scale: Float[Tensor, " c"], offset: Float[Tensor, " c"]
) -> Float[Tensor, "b c h w"]:
    """scale_c x + offset_c, in the images' own dtype and on their device.

    One pass over whole rows: with channels last, torch's innermost loop would run over three channels alone.
    """
    b, c, h, w = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(b * h, w * c)
    out = torch.addcmul(offset.to(images).repeat(w), rows, scale.to(images).repeat(w))
    return out.view(b, h, w, c).permute(0, 3, 1, 2)
