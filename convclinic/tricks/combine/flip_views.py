"""Flip views: predict from the image and its mirror image.

Formula   p(x) = 1/2 f(x) + 1/2 f(flip(x))
Shapes    images (b, c, h, w), any type; two views of the same shape
Strength  none to set; `none` is off
Helps     nets trained with flips: a few tenths of a per cent for twice the time
Hurts     where left and right tell classes apart; prediction takes twice as long
Clashes   a net trained without flips
Source    Krizhevsky, Sutskever and Hinton, ImageNet classification with deep CNNs, 2012, section 4.1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Shaped
from torch import Tensor


def views(images: Shaped[Tensor, "b c h w"]) -> list[tuple[float, Tensor]]:
    """The images and their mirror images, half and half."""
    return [(0.5, images), (0.5, images.flip(3))]


@dataclass(frozen=True)
class FlipViews:
    slot: ClassVar[str] = "combine"

    def views(self, images: Tensor) -> list[tuple[float, Tensor]]:
        return views(images)
