"""Gaussian blur: some images are seen out of focus.

Formula   x' = G x H^T in each channel; G[i, k] ~ exp(-(i - k)^2 / (2 sigma^2)) for |i - k| <= 4 sigma, and H
          likewise; rows sum to one, and the image goes on as its mirror image beyond its border;
          sigma ~ U(low, high) with probability p, for each image
Shapes    images (b, c, h, w) float in [0, 1]; sigma (b,) in pixels, 0 for an image left alone
Strength  p in [0, 1], the share that is blurred; 0 is off; 0.5 is the source's; sigma (low, high) in pixels
          of the net's input, (0.1, 2) for 224 pixels: take it in proportion for other sizes
Helps     test images that are less sharp than the training images
Hurts     classes told apart by texture; images of 32 pixels, which have no sharpness to lose
Clashes   none
Source    Chen et al., A simple framework for contrastive learning, 2020, arXiv:2002.05709, appendix A

Deviation: the source cuts the filter at a tenth of the image's height, here it is cut at 4 sigma.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from convclinic.kinds import Batch
from convclinic.tricks.augment._check import span, within
from convclinic.tricks.augment._maps import Params
from convclinic.tricks.augment._resample import mirrored

CUT = 4.0  # standard deviations, beyond which lies 0.006 % of the filter


def sample(rng: torch.Generator, n: int, p: float, sigma: tuple[float, float]) -> dict[str, Tensor]:
    """sigma (n,): of each image in pixels, 0 for those left alone."""
    drawn = sigma[0] + (sigma[1] - sigma[0]) * torch.rand(n, generator=rng)
    return {"sigma": drawn * (torch.rand(n, generator=rng) < p)}


def weights(sigma: Float[Tensor, " b"], n_pixels: int) -> Float[Tensor, "b n n"]:
    """What each pixel takes from each along one axis; sigma must be positive."""
    radius = (CUT * sigma + 0.5).floor()
    reach = int(radius.max())
    taps = torch.arange(-reach, n_pixels + reach, device=sigma.device)
    distance = (taps - torch.arange(n_pixels, device=sigma.device)[:, None]).abs()
    bell = torch.exp(-0.5 * (distance / sigma[:, None, None]).square())
    bell = torch.where(distance <= radius[:, None, None], bell, 0.0)
    bell = bell / bell.sum(2, keepdim=True)
    return bell.new_zeros(len(sigma), n_pixels, n_pixels).index_add_(2, mirrored(taps, n_pixels), bell)


def blur(images: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Every image by its own filter, as two products of matrices; sigma must be positive."""
    down, across = (weights(sigma, n)[:, None].to(images) for n in images.shape[2:])
    return down @ (images @ across.transpose(2, 3))


def apply(images: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """A copy, blurred where sigma is not 0."""
    where = sigma.nonzero()[:, 0]
    out = images.clone()
    if len(where):
        out[where] = blur(images[where], sigma[where])
    return out


@dataclass(frozen=True)
class GaussianBlur:
    slot: ClassVar[str] = "augment"
    kind: ClassVar[Literal["pixels"]] = "pixels"
    OFF: ClassVar[dict[str, object]] = {"p": 0.0}
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"sigma": (0.0, 4)}
    p: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        within("gaussian_blur.p", self.p, 0, 1)
        span("gaussian_blur.sigma", self.sigma, 0.01, 100)

    def sample(self, rng: torch.Generator, batch: Batch) -> Params:
        return sample(rng, len(batch.images), self.p, self.sigma)

    def apply(self, images: Tensor, params: Params) -> Tensor:
        return apply(images, params["sigma"])
