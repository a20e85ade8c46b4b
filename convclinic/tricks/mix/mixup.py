"""Mixup: train on convex pairs of images and of their labels.

Formula   x' = m x + (1 - m) x[partner],   y' = m y + (1 - m) y[partner],   m ~ Beta(alpha, alpha)
Shapes    images (b, c, h, w) float in [0, 1]; targets (b, k), rows sum to one, and still do afterwards;
          partner (b,) a permutation, m (b,)
Strength  alpha >= 0; 0 is off; 0.2 is usual
Helps     little data, noisy labels, long runs; calibration
Hurts     very short runs; classes that differ in fine detail
Clashes   label smoothing (both soften the targets), cutmix (use one of them per batch)
Source    Zhang et al., mixup: beyond empirical risk minimization, 2018, arXiv:1710.09412

Deviation: the source's program draws one m per batch; here, as in its formula, each image has its own.
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


def sample(rng: torch.Generator, n: int, alpha: float) -> dict[str, Tensor]:
    """partner (n,): whom each image is mixed with; m (n,): its own share."""
    partner = torch.randperm(n, generator=rng)
    seed = int(torch.randint(2**62, (), generator=rng))  # torch's Beta takes no generator
    m = np.random.default_rng(seed).beta(alpha, alpha, n) if alpha > 0 else np.ones(n)
    return {"partner": partner, "m": torch.from_numpy(m).float()}


def apply(
    images: Float[Tensor, "b c h w"],
    targets: Float[Tensor, "b k"],
    partner: Int[Tensor, " b"],
    m: Float[Tensor, " b"],
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k"]]:
    """Both mixed with the same shares."""
    m = m.to(images.dtype)
    mixed = torch.lerp(images[partner], images, m[:, None, None, None])
    return mixed, torch.lerp(targets[partner], targets, m[:, None].to(targets.dtype))


@dataclass(frozen=True)
class Mixup:
    slot: ClassVar[str] = "mix"
    OFF: ClassVar[dict[str, object]] = {"alpha": 0.0}
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"alpha": (0.0, 8)}
    alpha: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 100:
            raise ConvclinicError(f"mixup.alpha is {self.alpha}", fix="give a number from 0 to 100")

    def sample(self, rng: torch.Generator, batch: Batch) -> Params:
        return sample(rng, len(batch.images), self.alpha)

    def apply(self, images: Tensor, targets: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        on = {name: value.to(images.device) for name, value in params.items()}
        return apply(images, targets, on["partner"], on["m"])
