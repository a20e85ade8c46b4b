"""CutMix: paste a box of one image over another, and mix the labels by area.

Formula   x' = x outside the box, x[partner] inside;   y' = m y + (1 - m) y[partner],   m = 1 - area / (h w);
          sides of the box = sqrt(1 - l) (h, w), l ~ Beta(alpha, alpha), centre uniform, cut off at the border
Shapes    images (b, c, h, w) float; targets (b, k), rows sum to one, and still do afterwards;
          partner (b,) a permutation, share (b,) = 1 - l, centre (b, 2) in [0, 1): y, x as fractions
Strength  p in [0, 1], the share of images that get a box; 0 is off; 0.5 for small sets, 1 for long runs;
          alpha > 0 is the box's size, 1 makes every area as likely
Helps     long runs; nets that look at one part only; better than mixup where texture must stay natural
Hurts     very short runs; images whose class sits in one small part
Clashes   cutout (both cover), label smoothing (both soften the targets), mixup (use one of them per batch)
Source    Yun et al., CutMix: regularization strategy, 2019, arXiv:1905.04899

Deviation: the source's program draws one box per batch, and mixes a batch or does not; here both are drawn
for each image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Batch

Params: TypeAlias = Mapping[str, Tensor]


def sample(rng: torch.Generator, n: int, p: float, alpha: float) -> dict[str, Tensor]:
    """partner (n,), centre (n, 2) and share (n,): the area asked for, 0 for an image left alone."""
    partner = torch.randperm(n, generator=rng)
    centre = torch.rand((n, 2), generator=rng)
    mixed = torch.rand(n, generator=rng) < p
    seed = int(torch.randint(2**62, (), generator=rng))  # torch's Beta takes no generator
    share = torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, n)).float()
    return {"partner": partner, "centre": centre, "share": share * mixed}


def apply(
    images: Float[Tensor, "b c h w"],
    targets: Float[Tensor, "b k"],
    partner: Int[Tensor, " b"],
    centre: Float[Tensor, "b 2"],
    share: Float[Tensor, " b"],
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k"]]:
    """The label's shares follow the pixels that were really pasted."""
    sides = centre.new_tensor(images.shape[-2:])
    extent = (share.sqrt()[:, None] * sides).floor()
    start = (centre * sides).floor() - (extent / 2).floor()
    y, x = (
        torch.arange(n, device=images.device) - start[:, k : k + 1] for k, n in enumerate(images.shape[-2:])
    )
    rows, columns = (y >= 0) & (y < extent[:, :1]), (x >= 0) & (x < extent[:, 1:])
    pasted = torch.where(rows[:, None, :, None] & columns[:, None, None, :], images[partner], images)
    m = 1 - (rows.sum(1) * columns.sum(1)).to(targets.dtype) / (images.shape[2] * images.shape[3])
    return pasted, torch.lerp(targets[partner], targets, m[:, None])


@dataclass(frozen=True)
class Cutmix:
    slot: ClassVar[str] = "mix"
    OFF: ClassVar[dict[str, object]] = {"p": 0.0}
    p: float = 0.5
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ConvclinicError(f"cutmix.p is {self.p}", fix="give a number from 0 to 1")
        if not 0 < self.alpha <= 100:
            raise ConvclinicError(f"cutmix.alpha is {self.alpha}", fix="give a number above 0, such as 1")

    def sample(self, rng: torch.Generator, batch: Batch) -> Params:
        return sample(rng, len(batch.images), self.p, self.alpha)

    def apply(self, images: Tensor, targets: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        on = {name: value.to(images.device) for name, value in params.items()}
        return apply(images, targets, on["partner"], on["centre"], on["share"])
