"""Vertical flip: half of the images stand on their head, in a mirror.

Formula   x'[i, j] = x[h - 1 - i, j] with probability p, drawn for each image
Shapes    images (b, c, h, w); flip (b,) bool; maps (b, 3, 3)
Strength  p in [0, 1], the share that is flipped; 0 is off; 0.5 is usual
Helps     where no direction is up: microscopes, satellites, things that lie on a table
Hurts     photographs of a world with gravity, digits, letters
Clashes   none; together with quarter_turn it shows all eight ways a square can lie
Source    Cireşan, Giusti, Gambardella and Schmidhuber, Mitosis detection in breast cancer histology images
          with deep neural networks, MICCAI 2013 (mirrored and rotated training windows)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from convclinic.kinds import Batch
from convclinic.tricks.augment._check import within
from convclinic.tricks.augment._maps import Maps, Params, scale_and_move


def sample(rng: torch.Generator, n: int, p: float) -> dict[str, Tensor]:
    """flip (n,): which images are flipped."""
    return {"flip": torch.rand(n, generator=rng) < p}


def matrix(flip: Bool[Tensor, " b"]) -> Maps:
    """y_in = -y_out where flipped."""
    scale_y = 1 - 2 * flip.double()
    still = torch.zeros_like(scale_y)
    return scale_and_move(torch.ones_like(scale_y), scale_y, still, still)


@dataclass(frozen=True)
class VerticalFlip:
    slot: ClassVar[str] = "augment"
    kind: ClassVar[Literal["geometry"]] = "geometry"
    OFF: ClassVar[dict[str, object]] = {"p": 0.0}
    p: float = 0.5

    def __post_init__(self) -> None:
        within("vertical_flip.p", self.p, 0, 1)

    def sample(self, rng: torch.Generator, batch: Batch) -> Params:
        return sample(rng, len(batch.images), self.p)

    def matrix(self, params: Params, height: int, width: int) -> Tensor:
        return matrix(params["flip"])
