"""Patch whitening: a fixed first layer that decorrelates the small patches of the training images.

Formula   C = mean of p p^T over all k x k patches p;   C = sum_i s_i v_i v_i^T;
          filters v_i / sqrt(s_i + eps) and their negatives
Shapes    images (n, c, h, w) float, prepared; filters (2 c k k, c, k, k), by rising s_i
Strength  eps > 0 smooths: directions with s_i far below it are not blown up to full size; 5e-4 is usual.
          There is no value that means off: leave it out
Helps     short training: the first layer need not be learned and the others see white input
Hurts     images that differ in kind from the training ones (other cameras, strong compression noise),
          since directions of little variance are amplified; eps too small does the same
Clashes   nets without a first convolution named `whiten`; input that is not centred
Source    whitening: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; as a layer:
          Page, How to Train Your ResNet, 2018, and tysam-code, hlb-CIFAR10, 2023; with eps inside the root
          and the negatives: Jordan, 2024, arXiv:2404.00498. As there, C is taken about zero and not about
          the mean patch, because the input is standardised. Each v_i's largest entry is made positive,
          which only settles which of the two halves a filter falls into
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from convclinic.ground.errors import ConvclinicError


def patch_moment(images: Float[Tensor, "n c h w"], kernel: int) -> Float[Tensor, "ckk ckk"]:
    """C of the formula in float64 on the CPU, from all patches with stride 1, in bounded memory."""
    n, c, h, w = images.shape
    size, per_image = c * kernel**2, (h - kernel + 1) * (w - kernel + 1)
    total = torch.zeros(size, size, dtype=torch.float64)
    for chunk in images.split(max(1, 2**23 // (size * per_image))):
        # half precision has too few digits for a sum over this many patches
        wide = chunk.to(torch.promote_types(chunk.dtype, torch.float32))
        patches = F.unfold(wide, kernel).transpose(0, 1).flatten(1)
        total += (patches @ patches.mT).double().cpu()
    return total / (n * per_image)


def whitening_filters(
    images: Float[Tensor, "n c h w"], kernel: int, eps: float
) -> Float[Tensor, "filters c kernel kernel"]:
    """The 2 c k k filters, float64 on the CPU.

    Raises ConvclinicError when there are no images or they are smaller than a patch.

    >>> images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> filters = whitening_filters(images, kernel=2, eps=5e-4)
    >>> filters.shape, torch.equal(filters[:12], -filters[12:])
    (torch.Size([24, 3, 2, 2]), True)
    """
    if len(images) == 0 or min(images.shape[2:]) < kernel:
        raise ConvclinicError(
            f"patch_whitening takes {kernel}x{kernel} patches from images, and got {tuple(images.shape)}",
            fix="give it training images of at least that size",
        )
    scale, vectors = torch.linalg.eigh(patch_moment(images, kernel))
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    vectors = vectors * largest.sign()
    # a direction no patch has can come out of the solver slightly below zero
    filters = (vectors / torch.sqrt(scale.clamp_min(0) + eps)).T
    filters = filters.reshape(-1, images.shape[1], kernel, kernel)
    return torch.cat([filters, -filters])


@dataclass(frozen=True)
class PatchWhitening:
    """The frozen first convolution `net.whiten`; a few thousand small images are plenty."""

    slot: ClassVar[str] = "initialise"
    eps: float = 5e-4

    def __post_init__(self) -> None:
        if not self.eps > 0:
            raise ConvclinicError(
                f"patch_whitening's eps must be above 0, not {self.eps}", fix="5e-4 is usual"
            )

    @torch.no_grad()
    def apply(self, net: nn.Module, rng: torch.Generator, images: Tensor, gain: float) -> None:
        """Set the filters in place and leave their bias; nothing is drawn, and `gain` is not looked at.

        Raises ConvclinicError when `net.whiten` is missing or does not have the shape of the filters.
        """
        whiten = getattr(net, "whiten", None)
        if not isinstance(whiten, nn.Conv2d):
            raise ConvclinicError(
                "patch_whitening needs a net whose first convolution is named `whiten`",
                fix="leave it out, or choose a net with a whitening layer such as fast",
            )
        kernel, channels = whiten.kernel_size[0], images.shape[1]
        wanted = (2 * channels * kernel**2, channels, kernel, kernel)
        if tuple(whiten.weight.shape) != wanted:
            raise ConvclinicError(
                f"the whitening layer must have weights {wanted}, not {tuple(whiten.weight.shape)}",
                fix="build it with 2 * channels * kernel**2 outputs, a square kernel and no groups",
            )
        whiten.weight.copy_(whitening_filters(images, kernel, self.eps))
