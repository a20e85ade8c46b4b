"""Random resized crop: a box of random area, aspect and place, brought to the net's input size.

Formula   box height = H sqrt(area / aspect), width = W sqrt(area aspect),   area ~ U(area_low, area_high),
          ln aspect ~ U(-ln aspect_max, ln aspect_max), place uniform inside the image, edges on whole pixels;
          area and aspect are drawn again (ten times at most) until the box fits
Shapes    images (b, c, H, W); box (b, 4) float64: top, bottom, left, right as fractions; maps (b, 3, 3)
Strength  area_low in (0, 1]: the smaller, the stronger; area_low = area_high = aspect_max = 1 is off;
          0.08 and 4/3 for a million images and long runs, 0.25 to 0.35 for small sets and short ones
Helps     photographs of things at any distance; also makes a net that stands other sizes
Hurts     classes told apart by size, or by one small part that the crop may lose
Clashes   shift (it shifts already), scale (it scales already)
Source    Szegedy et al., Going deeper with convolutions, 2014, arXiv:1409.4842, section 6

Deviation: the aspect is relative to the image's own, because validation resizes the whole image to the input
size; on square images this is the source's. When ten draws do not fit, the last is cut to the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Batch
from convclinic.tricks.augment._check import within
from convclinic.tricks.augment._maps import Maps, Params, scale_and_move

TRIES = 10


def sample(
    rng: torch.Generator,
    n: int,
    sides: tuple[int, int],
    areas: tuple[float, float],
    aspect_max: float,
) -> dict[str, Tensor]:
    """box (n, 4): top, bottom, left, right of each box as fractions of `sides` (height, width)."""
    draws = torch.rand((n, 2, TRIES), generator=rng, dtype=torch.float64)
    place = torch.rand((n, 2), generator=rng, dtype=torch.float64)
    area = areas[0] + (areas[1] - areas[0]) * draws[:, 0]
    aspect = torch.exp((2 * draws[:, 1] - 1) * math.log(aspect_max))
    shares = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], 1)  # (n, 2, tries)
    fits = (shares <= 1).all(1)
    fits[:, -1] = True
    first = fits.to(torch.uint8).argmax(1)
    side = torch.tensor(sides, dtype=torch.float64)
    extent = (shares[torch.arange(n), :, first].clamp(max=1) * side).round().clamp(min=1)
    start = torch.minimum((place * (side - extent + 1)).floor(), side - extent)
    edges = torch.stack([start, start + extent], 2) / side[:, None]
    return {"box": edges.flatten(1)}


def matrix(box: Float[Tensor, "b 4"]) -> Maps:
    """[-1, 1] of the output covers the box."""
    top, bottom, left, right = box.double().unbind(1)
    return scale_and_move(right - left, bottom - top, right + left - 1, bottom + top - 1)


@dataclass(frozen=True)
class ResizedCrop:
    slot: ClassVar[str] = "augment"
    kind: ClassVar[Literal["geometry"]] = "geometry"
    reframes: ClassVar[bool] = True  # its output has the net's size, and later tricks count in its pixels
    OFF: ClassVar[dict[str, object]] = {"area_low": 1.0, "area_high": 1.0, "aspect_max": 1.0}
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"area_high": (0.25, 1.0), "area_low": (0.04, 1.0)}
    area_low: float = 0.35
    area_high: float = 1.0
    aspect_max: float = 4 / 3

    def __post_init__(self) -> None:
        within("resized_crop.area_low", self.area_low, 0.001, 1)
        within("resized_crop.area_high", self.area_high, 0.001, 1)
        within("resized_crop.aspect_max", self.aspect_max, 1, 10)
        if self.area_low > self.area_high:
            raise ConvclinicError(
                f"resized_crop.area_low is {self.area_low} and area_high is {self.area_high}",
                fix="give a low that is not above the high",
            )

    def sample(self, rng: torch.Generator, batch: Batch) -> Params:
        sides = (batch.images.shape[2], batch.images.shape[3])
        return sample(rng, len(batch.images), sides, (self.area_low, self.area_high), self.aspect_max)

    def matrix(self, params: Params, height: int, width: int) -> Tensor:
        return matrix(params["box"])
