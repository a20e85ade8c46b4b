"""Scale views: predict from the image at several sizes.

Formula   p(x) = mean of f(resize(x, s)) over the scales s, and of f(flip(resize(x, s))) where `flip` is on;
          resize to round(s h) x round(s w) pixels, at least one, bilinear and antialiased
Shapes    images (b, c, h, w) float; one view (b, c, h', w') for each scale, two with flips, all of one weight
Strength  scales above 0, at most 4: the further from 1, the stronger; (1,) without flip is off.
          mean: what is averaged, logits or probabilities (the source's)
Helps     nets trained with crops of random area, on things at any distance
Hurts     classes told apart by size; a scale of s takes s^2 times the time of the image itself
Clashes   nets that need one input size, and preprocessing per pixel (mean image, PCA), which take no other
Source    Simonyan and Zisserman, Very deep convolutional networks, 2014, arXiv:1409.1556, section 4.2

Deviation: the source's scales are sizes of the shorter side, such as 224, 256 and 288 for a net trained at
256; here they are factors of the size that the net is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.combine._mean import check_mean
from convclinic.tricks.combine._size import sized

MOST = 4.0  # sixteen times the pixels, and the memory


def views(
    images: Float[Tensor, "b c h w"], scales: Sequence[float], flip: bool
) -> list[tuple[float, Tensor]]:
    """One view for each scale, then their mirror images."""
    height, width = images.shape[2:]
    seen = [sized(images, max(1, round(s * height)), max(1, round(s * width))) for s in scales]
    if flip:
        seen += [view.flip(3) for view in seen]
    return [(1 / len(seen), view) for view in seen]


@dataclass(frozen=True)
class ScaleViews:
    slot: ClassVar[str] = "combine"
    OFF: ClassVar[dict[str, object]] = {"scales": (1.0,), "flip": False}
    scales: tuple[float, ...] = (0.8, 1.0, 1.25)
    flip: bool = False
    mean: str = "logits"

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale <= MOST for scale in self.scales):
            raise ConvclinicError(
                f"scale_views.scales is {self.scales}",
                fix=f"give factors above 0, at most {MOST:g}, such as (0.8, 1.0, 1.25)",
            )
        check_mean("scale_views", self.mean)

    def views(self, images: Tensor) -> list[tuple[float, Tensor]]:
        return views(images, self.scales, self.flip)
