"""Shift: move the image by a few whole pixels (pad and crop), the border filled by reflection or black.

Formula   x'[i, j] = x[i + dy, j + dx],   dy, dx ~ uniform integers in [-pixels, pixels], drawn for each image
Shapes    images (b, c, h, w); dy, dx (b,) int64; maps (b, 3, 3)
Strength  pixels >= 0, counted on the stored image; 0 is off; 2 to 4 of 32 is usual;
          border "reflect" or "zero" (black; it then holds for all geometry of the batch)
Helps     small centred images (CIFAR, MNIST), where a random resized crop would cut off too much
Hurts     sets whose images are registered to the pixel
Clashes   resized_crop (it shifts already)
Source    He et al., Deep residual learning, 2015, arXiv:1512.03385, section 4.2 (4 pixels, zeros); reflected
          border and 2 pixels: Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU, 2024, arXiv:2404.00498

Zero is black: it is put in before colour tricks and before the mean is taken off. All geometry of a batch is
one resampling, so one trick with border "zero" makes it the border of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from convclinic.kinds import Batch
from convclinic.tricks.augment._check import one_of, within
from convclinic.tricks.augment._maps import BORDERS, Maps, Params, scale_and_move


def sample(rng: torch.Generator, n: int, pixels: int) -> dict[str, Tensor]:
    """dy, dx (n,): whole pixels, positive moves the window down and right."""
    moves = torch.randint(-pixels, pixels + 1, (2, n), generator=rng)
    return {"dy": moves[0], "dx": moves[1]}


def matrix(dy: Int[Tensor, " b"], dx: Int[Tensor, " b"], height: int, width: int) -> Maps:
    """x_in = x_out + 2 dx / width."""
    ones = torch.ones(len(dy), dtype=torch.float64)
    return scale_and_move(ones, ones, 2 * dx.double() / width, 2 * dy.double() / height)


@dataclass(frozen=True)
class Shift:
    slot: ClassVar[str] = "augment"
    kind: ClassVar[Literal["geometry"]] = "geometry"
    OFF: ClassVar[dict[str, object]] = {"pixels": 0}
    pixels: int = 2
    border: str = "reflect"

    def __post_init__(self) -> None:
        within("shift.pixels", self.pixels, 0, 1024)
        one_of("shift.border", self.border, BORDERS)

    def sample(self, rng: torch.Generator, batch: Batch) -> Params:
        return sample(rng, len(batch.images), self.pixels)

    def matrix(self, params: Params, height: int, width: int) -> Tensor:
        return matrix(params["dy"], params["dx"], height, width)
