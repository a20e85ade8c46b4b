"""Quarter turn: turn the image by 0, 90, 180 or 270 degrees, every pixel keeping its value.

Formula   (x, y)_in = [[cos t, -sin t], [sin t, cos t]] (x, y)_out,   t = k pi / 2,   k ~ U{0, 1, 2, 3} with
          probability p, else 0; drawn for each image; the content turns counter-clockwise
Shapes    images (b, c, h, w); turns (b,) int64 in 0 .. 3; maps (b, 3, 3)
Strength  p in [0, 1], the share of images whose direction is drawn; 0 is off; 1 is usual, as likely each way
Helps     where no direction is up: microscopes, satellites, things that lie on a table; costs a copy, not an
          interpolation as rotate does
Hurts     photographs of a world with gravity, digits, letters
Clashes   none; together with flip or vertical_flip it shows all eight ways a square can lie
Source    Cireşan, Giusti, Gambardella and Schmidhuber, Mitosis detection in breast cancer histology images
          with deep neural networks, MICCAI 2013 (mirrored and rotated training windows)

An image that is not square knows only half turns, each as likely as none: a quarter turn of it would have
to be squeezed or cut. What counts is its shape at this point, so after a resized_crop that of the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from convclinic.kinds import Batch
from convclinic.tricks.augment._check import within
from convclinic.tricks.augment._maps import Maps, Params, identity

COS = (1, 0, -1, 0)
SIN = (0, 1, 0, -1)


def sample(rng: torch.Generator, n: int, p: float) -> dict[str, Tensor]:
    """turns (n,): quarter turns, counter-clockwise."""
    turns = torch.randint(4, (n,), generator=rng)
    return {"turns": turns * (torch.rand(n, generator=rng) < p)}


def matrix(turns: Int[Tensor, " b"], height: int, width: int) -> Maps:
    """Whole numbers alone, so that the resampling can tell a turn from a rotation."""
    if height != width:
        turns = turns % 2 * 2
    maps = identity(len(turns))
    cos, sin = (maps.new_tensor(values)[turns] for values in (COS, SIN))
    maps[:, 0, 0], maps[:, 0, 1] = cos, -sin
    maps[:, 1, 0], maps[:, 1, 1] = sin, cos
    return maps


@dataclass(frozen=True)
class QuarterTurn:
    slot: ClassVar[str] = "augment"
    kind: ClassVar[Literal["geometry"]] = "geometry"
    OFF: ClassVar[dict[str, object]] = {"p": 0.0}
    p: float = 1.0

    def __post_init__(self) -> None:
        within("quarter_turn.p", self.p, 0, 1)

    def sample(self, rng: torch.Generator, batch: Batch) -> Params:
        return sample(rng, len(batch.images), self.p)

    def matrix(self, params: Params, height: int, width: int) -> Tensor:
        return matrix(params["turns"], height, width)
