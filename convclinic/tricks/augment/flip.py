"""Horizontal flip: half of the images are seen in a mirror.

Formula   x'[i, j] = x[i, w - 1 - j] with probability p, drawn for each image
Shapes    images (b, c, h, w); flip (b,) bool; maps (b, 3, 3)
Strength  p in [0, 1], the share that is flipped; 0 is off; 0.5 is usual
Helps     nearly every set of photographs: twice as many images for nothing
Hurts     where left and right tell classes apart: digits, letters, road signs, left and right hands
Clashes   alternating_flip (both flip; together they undo its even coverage)
Source    Krizhevsky, Sutskever and Hinton, ImageNet classification with deep CNNs, 2012, section 4.1
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
    """x_in = -x_out where flipped."""
    scale_x = 1 - 2 * flip.double()
    still = torch.zeros_like(scale_x)
    return scale_and_move(scale_x, torch.ones_like(scale_x), still, still)


@dataclass(frozen=True)
class Flip:
    slot: ClassVar[str] = "augment"
    kind: ClassVar[Literal["geometry"]] = "geometry"
    OFF: ClassVar[dict[str, object]] = {"p": 0.0}
    p: float = 0.5

    def __post_init__(self) -> None:
        within("flip.p", self.p, 0, 1)

    def sample(self, rng: torch.Generator, batch: Batch) -> Params:
        return sample(rng, len(batch.images), self.p)

    def matrix(self, params: Params, height: int, width: int) -> Tensor:
        return matrix(params["flip"])
