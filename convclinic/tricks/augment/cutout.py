"""Cutout: cover one square of each image, so that no single part can decide alone.

Formula   x'[i, j] = fill where |i - cy| and |j - cx| are within half the side, x[i, j] elsewhere;
          cy, cx uniform over the image, so holes at the border are cut off by it
Shapes    images (b, c, h, w) float in [0, 1]; centre (b, 2) in [0, 1): y, x as fractions
Strength  size in [0, 1], the hole's side as a fraction of the shorter side; 0 is off; 0.5 is the source's for
          CIFAR-10, 0.25 for CIFAR-100
Helps     small images and long runs; nets that look at one part only
Hurts     short runs; classes told apart by one small part
Clashes   cutmix (it covers already, and puts something useful there)
Source    DeVries and Taylor, Improved regularization of CNNs with cutout, 2017, arXiv:1708.04552

Deviation: the source fills with zero after the data's mean was taken off. Here the fill is the image's own
mean colour, or mid gray (fill = "gray").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.kinds import Batch
from convclinic.tricks.augment._check import within
from convclinic.tricks.augment._maps import Params

GRAY = 0.5


def sample(rng: torch.Generator, n: int) -> dict[str, Tensor]:
    """centre (n, 2): y and x of each hole as fractions of the sides."""
    return {"centre": torch.rand((n, 2), generator=rng)}


def apply(
    images: Float[Tensor, "b c h w"], centre: Float[Tensor, "b 2"], size: float, fill: str
) -> Float[Tensor, "b c h w"]:
    """A copy of the images with one square hole each."""
    height, width = images.shape[-2:]
    side = round(size * min(height, width))
    start = (centre * centre.new_tensor([height, width])).floor() - side // 2
    y = torch.arange(height, device=images.device) - start[:, :1]
    x = torch.arange(width, device=images.device) - start[:, 1:]
    hole = ((y >= 0) & (y < side))[:, None, :, None] & ((x >= 0) & (x < side))[:, None, None, :]
    colour = images.mean((2, 3), keepdim=True) if fill == "mean" else images.new_tensor(GRAY)
    return torch.where(hole, colour, images)


@dataclass(frozen=True)
class Cutout:
    slot: ClassVar[str] = "augment"
    kind: ClassVar[Literal["pixels"]] = "pixels"
    OFF: ClassVar[dict[str, object]] = {"size": 0.0}
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"size": (0.0, 0.75)}
    size: float = 0.25
    fill: str = "mean"

    def __post_init__(self) -> None:
        within("cutout.size", self.size, 0, 1)
        if self.fill not in ("mean", "gray"):
            raise ConvclinicError(f"cutout.fill is '{self.fill}'", fix=nearest(self.fill, ("mean", "gray")))

    def sample(self, rng: torch.Generator, batch: Batch) -> Params:
        return sample(rng, len(batch.images))

    def apply(self, images: Tensor, params: Params) -> Tensor:
        return apply(images, params["centre"], self.size, self.fill)
