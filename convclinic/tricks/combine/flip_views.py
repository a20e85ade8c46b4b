"""Flip views: predict from the image and its mirror image.

Formula   p(x) = mean of f(x) and f(flip(x)), half and half
Shapes    images (b, c, h, w), any type; two views of the same shape
Strength  none to set; `none` is off. mean: what is averaged, logits or probabilities
Helps     nets trained with flips: a few tenths of a per cent for twice the time
Hurts     where left and right tell classes apart; prediction takes twice as long
Clashes   a net trained without flips
Source    Krizhevsky, Sutskever and Hinton, ImageNet classification with deep CNNs, 2012, section 4.1, where
          probabilities are averaged
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Shaped
from torch import Tensor

from convclinic.tricks.combine._mean import check_mean


def views(images: Shaped[Tensor, "b c h w"]) -> list[tuple[float, Tensor]]:
    """The images and their mirror images, half and half."""
    return [(0.5, images), (0.5, images.flip(3))]


@dataclass(frozen=True)
class FlipViews:
    slot: ClassVar[str] = "combine"
    mean: str = "logits"

    def __post_init__(self) -> None:
        check_mean("flip_views", self.mean)

    def views(self, images: Tensor) -> list[tuple[float, Tensor]]:
        return views(images)
