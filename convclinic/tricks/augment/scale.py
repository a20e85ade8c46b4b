"""Scale: zoom in or out about the centre, the border filled by reflection or black when zooming out.

Formula   (x, y)_in = (x, y)_out / s,   ln s ~ U(-ln(1 + amount), ln(1 + amount)), drawn for each image
Shapes    images (b, c, h, w); factor (b,) = s; maps (b, 3, 3)
Strength  amount in [0, 4]; 0 is off; 0.1 to 0.3 is usual: as many images shrink as grow;
          border "reflect" or "zero" (black; it then holds for all geometry of the batch)
Helps     things seen from various distances, when a resized crop would lose them
Hurts     classes told apart by size
Clashes   resized_crop (it scales already)
Source    Simonyan and Zisserman, Very deep convolutional networks, 2014, arXiv:1409.1556, section 3.1
          (scale jittering)
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
from convclinic.tricks.augment._maps import BORDERS, Maps, Params, scale_and_move


def sample(rng: torch.Generator, n: int, amount: float) -> dict[str, Tensor]:
    """factor (n,): above one zooms in."""
    unit = 2 * torch.rand(n, generator=rng, dtype=torch.float64) - 1
    return {"factor": torch.exp(unit * math.log1p(amount))}


def matrix(factor: Float[Tensor, " b"]) -> Maps:
    """The output shows 1 / factor of the input's sides."""
    shown = 1 / factor.double()
    still = torch.zeros_like(shown)
    return scale_and_move(shown, shown, still, still)


@dataclass(frozen=True)
class Scale:
    slot: ClassVar[str] = "augment"
    kind: ClassVar[Literal["geometry"]] = "geometry"
    OFF: ClassVar[dict[str, object]] = {"amount": 0.0}
    amount: float = 0.2
    border: str = "reflect"

    def __post_init__(self) -> None:
        within("scale.amount", self.amount, 0, 4)
        one_of("scale.border", self.border, BORDERS)

    def sample(self, rng: torch.Generator, batch: Batch) -> Params:
        return sample(rng, len(batch.images), self.amount)

    def matrix(self, params: Params, height: int, width: int) -> Tensor:
        return matrix(params["factor"])
