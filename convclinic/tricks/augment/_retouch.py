"""The retouches that RandAugment draws from, in the manner of Pillow: whole images (b, c, h, w) in [0, 1].

Where Pillow counts in levels of 0 to 255, so do these: 8-bit images give what Pillow gives, but for its
rounding to levels in between.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from convclinic.tricks.augment._planes import apart, together

Images = Float[Tensor, "b c h w"]
HALF_LEVEL = 0.5 / 255


def autocontrast(images: Images) -> Images:
    """Each channel is stretched until its darkest pixel is 0 and its brightest 1, unless it is flat."""
    planes = torch.stack(apart(images), 1)
    low, high = planes.amin(2, keepdim=True), planes.amax(2, keepdim=True)
    flat = high - low < HALF_LEVEL
    scale = torch.where(flat, 1.0, 1 / (high - low))
    return together(planes.sub_(low * ~flat).mul_(scale).unbind(1), images)


def equalize(images: Images) -> Images:
    """Each channel is bent until all levels are about as frequent: by the sum of its histogram.

    A level becomes the number of darker pixels, in units of a 255th of all pixels but the brightest level's;
    where these are fewer than 255, levels stay.
    """
    levels = torch.stack(apart(images), 1).mul_(255).round_().long()
    counts = levels.new_zeros((*levels.shape[:2], 256)).scatter_add_(2, levels, torch.ones_like(levels))
    step = (levels.shape[2] - counts.gather(2, levels.amax(2, keepdim=True))) // 255
    darker = counts.cumsum(2) - counts
    table = ((darker + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device))
    return together((table.to(images.dtype) / 255).gather(2, levels).unbind(1), images)


def posterize(images: Images, bits: int) -> Images:
    """Only the highest `bits` of each level's eight are kept."""
    step = 2 ** (8 - bits)
    return (images * 255).round_().div_(step).floor_().mul_(step / 255)


def solarize(images: Images, threshold: float) -> Images:
    """Levels from `threshold` in [0, 256] on are inverted."""
    return torch.where(images < threshold / 255 - HALF_LEVEL, images, 1 - images)


def sharpen(images: Images, factor: Float[Tensor, " b"]) -> Images:
    """From the smoothed image, factor 0, over the image, 1, and on; its outermost pixels stay as they are.

    Smoothed with weights (1 1 1, 1 5 1, 1 1 1) / 13.
    """
    rows = images[..., :-2] + images[..., 1:-1] + images[..., 2:]
    box = rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]
    inner = images[..., 1:-1, 1:-1]
    smooth = torch.add(box, inner, alpha=4).div_(13)
    out = images.clone()
    out[..., 1:-1, 1:-1] = smooth.lerp_(inner, factor[:, None, None, None]).clamp_(0, 1)
    return out
