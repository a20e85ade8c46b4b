"""Rotation: turn the image by a small random angle about its centre; its corners show a reflection or black.

Formula   (x, y)_in = [[cos t, -sin t], [sin t, cos t]] (x, y)_out in pixels from the centre,
          t ~ U(-degrees, degrees), drawn for each image; the content turns counter-clockwise for t > 0
Shapes    images (b, c, h, w); radians (b,); maps (b, 3, 3)
Strength  degrees in [0, 180]; 0 is off; 10 to 15 for photographs, 180 where no direction is up;
          border "reflect" or "zero" (black; it then holds for all geometry of the batch)
Helps     hand-held photographs; at 180, microscopy, satellite images and things seen from above
Hurts     classes told apart by direction (6 and 9); costs the slow way of resampling (quarter_turn does not)
Clashes   none
Source    Simard, Steinkraus and Platt, Best practices for convolutional neural networks, ICDAR 2003
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from convclinic.kinds import Batch
from convclinic.tricks.augment._check import one_of, within
from convclinic.tricks.augment._maps import BORDERS, Maps, Params, identity


def sample(rng: torch.Generator, n: int, degrees: float) -> dict[str, Tensor]:
    """radians (n,): the angle of each image."""
    unit = 2 * torch.rand(n, generator=rng, dtype=torch.float64) - 1
    return {"radians": unit * math.radians(degrees)}


def matrix(radians: Float[Tensor, " b"], height: int, width: int) -> Maps:
    """A rotation of pixels: in [-1, 1] the sides weigh in, because the image need not be square."""
    cos, sin = radians.double().cos(), radians.double().sin()
    maps = identity(len(radians))
    maps[:, 0, 0], maps[:, 0, 1] = cos, -sin * height / width
    maps[:, 1, 0], maps[:, 1, 1] = sin * width / height, cos
    return maps


@dataclass(frozen=True)
class Rotate:
    slot: ClassVar[str] = "augment"
    kind: ClassVar[Literal["geometry"]] = "geometry"
    OFF: ClassVar[dict[str, object]] = {"degrees": 0.0}
    degrees: float = 10.0
    border: str = "reflect"

    def __post_init__(self) -> None:
        within("rotate.degrees", self.degrees, 0, 180)
        one_of("rotate.border", self.border, BORDERS)

    def sample(self, rng: torch.Generator, batch: Batch) -> Params:
        return sample(rng, len(batch.images), self.degrees)

    def matrix(self, params: Params, height: int, width: int) -> Tensor:
        return matrix(params["radians"], height, width)
