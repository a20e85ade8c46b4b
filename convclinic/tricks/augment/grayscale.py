"""Grayscale: take the colour out of some images.

Formula   R' = G' = B' = Y = 0.299 R + 0.587 G + 0.114 B with probability p, drawn for each image
Shapes    images (b, c, h, w) in [0, 1]; gray (b,) bool; maps (b, c, c + 1)
Strength  p in [0, 1], the share that loses its colour; 0 is off; 0.2 is the source's, 0.05 to 0.1 with labels
Helps     nets that lean on colour alone; test images that may be gray
Hurts     classes told apart by colour: stains, ripeness, minerals, birds
Clashes   none
Source    Chen et al., A simple framework for contrastive learning, 2020, arXiv:2002.05709, appendix A

Images with any other number of channels than three are left as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convclinic.kinds import Batch
from convclinic.tricks.augment._check import within
from convclinic.tricks.augment._maps import Params
from convclinic.tricks.augment.colour_jitter import LUMA


def sample(rng: torch.Generator, n: int, p: float) -> dict[str, Tensor]:
    """gray (n,): which images lose their colour."""
    return {"gray": torch.rand(n, generator=rng) < p}


def matrix(gray: Bool[Tensor, " b"], channels: int) -> Float[Tensor, "b c c+1"]:
    """[A | 0]: every row of A is the luma where gray, A is the identity elsewhere."""
    linear = torch.eye(channels, device=gray.device).expand(len(gray), channels, channels)
    if channels == 3:
        luma = torch.tensor(LUMA, device=gray.device).expand(3, 3)
        linear = torch.where(gray[:, None, None], luma, linear)
    return torch.cat([linear, linear.new_zeros(len(gray), channels, 1)], 2)


@dataclass(frozen=True)
class Grayscale:
    slot: ClassVar[str] = "augment"
    kind: ClassVar[Literal["colour"]] = "colour"
    OFF: ClassVar[dict[str, object]] = {"p": 0.0}
    p: float = 0.2

    def __post_init__(self) -> None:
        within("grayscale.p", self.p, 0, 1)

    def sample(self, rng: torch.Generator, batch: Batch) -> Params:
        return sample(rng, len(batch.images), self.p)

    def matrix(self, params: Params, mean: Tensor) -> Tensor:
        return matrix(params["gray"], mean.shape[1])
