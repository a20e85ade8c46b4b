"""Channels apart and together again: most operations are several times faster on planes than on pixels.

Both ways go channel by channel, which is faster than one copy that changes the order of the axes.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

Plane = Float[Tensor, "b n"]


def apart(images: Float[Tensor, "b c h w"]) -> list[Plane]:
    """Each channel in one piece; may be the images' own memory where they are stored like that."""
    return [channel.flatten(1).contiguous() for channel in images.unbind(1)]


def together(planes: Iterable[Plane], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Images of the shape and layout of `like`, from its channels one after the other."""
    out = torch.empty_like(like)
    for channel, plane in zip(out.unbind(1), planes, strict=True):
        channel.copy_(plane.view(channel.shape))
    return out
