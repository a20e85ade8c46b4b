"""Ten crops: predict from the four corners, the centre, and the mirror images of these five.

Formula   p(x) = mean of f(crop_i(x)) and f(flip(crop_i(x))), crop_i as in `five_crop`
Shapes    images (b, c, h, w) float; ten views of the same shape, weight 1/10 each
Strength  share in (0, 1]; 7/8 is the source's 224 of 256 pixels; 1 leaves the mirror image alone, as
          `flip_views` does in two views instead of ten, and `none` is off.
          mean: what is averaged, logits or probabilities (the source's)
Helps     nets trained with random crops and flips, which saw things at the crops' size
Hurts     where left and right tell classes apart; things that every corner cuts; ten times the time
Clashes   a net trained without flips
Source    Krizhevsky, Sutskever and Hinton, ImageNet classification with deep CNNs, 2012, section 4.1

Deviation: as in `five_crop`, each crop is enlarged to the image's size, where the source keeps its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from convclinic.tricks.combine._mean import check_mean
from convclinic.tricks.combine.five_crop import check_share
from convclinic.tricks.combine.five_crop import views as five_views


def views(images: Float[Tensor, "b c h w"], share: float) -> list[tuple[float, Tensor]]:
    """The five, then their mirror images."""
    upright = [view for _, view in five_views(images, share)]
    return [(1 / 10, view) for view in (*upright, *(view.flip(3) for view in upright))]


@dataclass(frozen=True)
class TenCrop:
    slot: ClassVar[str] = "combine"
    share: float = 7 / 8
    mean: str = "logits"

    def __post_init__(self) -> None:
        check_share("ten_crop", self.share)
        check_mean("ten_crop", self.mean)

    def views(self, images: Tensor) -> list[tuple[float, Tensor]]:
        return views(images, self.share)
