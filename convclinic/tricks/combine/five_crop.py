"""Five crops: predict from the four corners and the centre of the image, each enlarged to the whole's size.

Formula   p(x) = mean of f(crop_i(x)), i in top left, top right, bottom left, bottom right, centre;
          a crop has `share` of the height and of the width, rounded, and at least one pixel
Shapes    images (b, c, h, w) float; five views of the same shape, weight 1/5 each
Strength  share in (0, 1]; 1 is off; 7/8 is the source's 224 of 256 pixels.
          mean: what is averaged, logits or probabilities (the source's)
Helps     nets trained with random crops, which saw things at the crops' size
Hurts     things that fill the picture and are cut by every corner; five times the time
Clashes   scale_views (each is another choice of views)
Source    Krizhevsky, Sutskever and Hinton, ImageNet classification with deep CNNs, 2012, section 4.1

Deviations: the source gives the net the crops at their own size, 224, out of an image of 256. Here each is
enlarged to the image's size (bilinear), so that nets for one input size and preprocessing per pixel work;
what is seen is 1 / share times as large as in the image. The source's mirror images are those of `ten_crop`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.combine._mean import check_mean
from convclinic.tricks.combine._size import sized


def crops(images: Float[Tensor, "b c h w"], share: float) -> list[Tensor]:
    """The five at their own size. An odd margin around the centre is halved to the even number of pixels."""
    height, width = images.shape[2:]
    h, w = max(1, round(share * height)), max(1, round(share * width))
    bottom, right = height - h, width - w
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (round(bottom / 2), round(right / 2))]
    return [images[:, :, top : top + h, left : left + w] for top, left in corners]


def views(images: Float[Tensor, "b c h w"], share: float) -> list[tuple[float, Tensor]]:
    """The five at the image's size."""
    return [(1 / 5, sized(crop, images.shape[2], images.shape[3])) for crop in crops(images, share)]


def check_share(trick: str, share: float) -> None:
    """Raise ConvclinicError unless `share` is above 0 and at most 1."""
    if not 0 < share <= 1:
        raise ConvclinicError(f"{trick}.share is {share}", fix="give a share of the side, such as 0.875")


@dataclass(frozen=True)
class FiveCrop:
    slot: ClassVar[str] = "combine"
    OFF: ClassVar[dict[str, object]] = {"share": 1.0}
    share: float = 7 / 8
    mean: str = "logits"

    def __post_init__(self) -> None:
        check_share("five_crop", self.share)
        check_mean("five_crop", self.mean)

    def views(self, images: Tensor) -> list[tuple[float, Tensor]]:
        return views(images, self.share)
