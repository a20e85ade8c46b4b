"""Fancy PCA: add to each image one colour, drawn along the principal components of the training pixels.

Formula   x' = x + sum_i a_i l_i p_i at every pixel of an image,   a_i ~ N(0, std), drawn once per image each
          time it is used; p_i, l_i: eigenvectors and eigenvalues of the covariance C of the training colours
Shapes    images (b, c, h, w) in [0, 1]; alpha (b, c) = a; basis: the c x c numbers sqrt(l_i) p_i row by row,
          basis basis^T = C; maps (b, c, c + 1) = [I | shift]; fit: chunks (n, c, h, w) uint8
Strength  std >= 0, 0 is off, 0.1 is the source's; by "variance", the source's l_i, or by "deviation",
          sqrt(l_i) in its place: 2 to 15 times as strong on ImageNet, most so for the least component
Helps     photographs in light of changing strength and colour; 1 point of top-1 on ImageNet in the source
Hurts     classes told apart by colour
Clashes   none; beside colour_jitter it is hardly seen
Source    Krizhevsky, Sutskever and Hinton, ImageNet classification with deep CNNs, 2012, section 4.1

Units: an eigenvalue is a variance, so the size of a l p depends on the unit in which C is taken. Here pixels
are in [0, 1]. ImageNet's eigenvalues are then 0.2175, 0.0188 and 0.0045, the numbers that re-implementations
of AlexNet carry: they are eigenvalues and not their roots, because their sum 0.241 is the total variance of
the pixels, three channels of standard deviation 0.28 (the well-known 0.229, 0.224, 0.225 are mean deviations
within one image). The shift along the first component then has standard deviation 0.1 x 0.2175 = 0.022, or
5.5 levels of 255. Taken on levels of 0 to 255, the formula would shift by 1400 levels. The first author's
program of 2014, cuda-convnet2, multiplies by what it calls standard deviations: by = "deviation", 12 levels.

Gray images have one component, their variance; other numbers of channels work alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Batch
from convclinic.tricks.augment._check import one_of, within
from convclinic.tricks.augment._maps import Params

PIXELS = 2**16  # converted to float64 at a time


def moments(images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "c+1 c+1"]:
    """Sum over all pixels of v v^T with v = (levels, 1): whole numbers, so exact in whatever order.

    >>> moments(torch.tensor([2, 3], dtype=torch.uint8).view(2, 1, 1, 1)).tolist()
    [[13.0, 5.0], [5.0, 2.0]]
    """
    c = images.shape[1]
    total = torch.zeros((c + 1, c + 1), dtype=torch.float64, device=images.device)
    for pixels in images.permute(0, 2, 3, 1).reshape(-1, c).split(PIXELS):
        rows = torch.ones((len(pixels), c + 1), dtype=torch.float64, device=images.device)
        rows[:, :c] = pixels
        total += rows.T @ rows
    return total


def covariance(moments: Float[Tensor, "d d"]) -> Float[Tensor, "d-1 d-1"]:
    """Population covariance of the colours, in the units of [0, 1] images."""
    means = moments / moments[-1, -1]
    return (means[:-1, :-1] - torch.outer(means[-1, :-1], means[-1, :-1])) / 255**2


def principal(covariance: Float[Tensor, "c c"]) -> Float[Tensor, "c c"]:
    """Columns sqrt(l_i) p_i, the largest first; the largest entry of each is positive."""
    values, vectors = torch.linalg.eigh(covariance)
    columns = (vectors * values.clamp(min=0).sqrt()).flip(1)
    largest = columns.gather(0, columns.abs().argmax(0, keepdim=True))
    return torch.where(largest < 0, -columns, columns)


def sample(rng: torch.Generator, n: int, channels: int, std: float) -> dict[str, Tensor]:
    """alpha (n, c): how far along each component."""
    return {"alpha": std * torch.randn((n, channels), generator=rng)}


def matrix(alpha: Float[Tensor, "b c"], basis: Float[Tensor, "c c"], by: str) -> Float[Tensor, "b c c+1"]:
    """[I | shift]; the length of a column of the basis is sqrt(l_i)."""
    b, c = alpha.shape
    step = basis * basis.norm(dim=0) if by == "variance" else basis
    return torch.cat([torch.eye(c, device=alpha.device).expand(b, c, c), (alpha @ step.T)[:, :, None]], 2)


@dataclass(frozen=True)
class FancyPCA:
    slot: ClassVar[str] = "augment"
    kind: ClassVar[Literal["colour"]] = "colour"
    OFF: ClassVar[dict[str, object]] = {"std": 0.0}
    std: float = 0.1
    by: str = "variance"
    basis: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        within("fancy_pca.std", self.std, 0, 10)
        one_of("fancy_pca.by", self.by, ("variance", "deviation"))

    def fit(self, chunks: Iterable[Tensor]) -> FancyPCA:
        """This trick with the basis of the images in `chunks`, (n, c, h, w) uint8, held one at a time.

        Raises ConvclinicError when there are none, when they are not uint8, or when their channels differ.
        """
        total: Tensor | None = None
        for chunk in chunks:
            if chunk.dtype != torch.uint8 or chunk.ndim != 4:
                raise ConvclinicError(
                    f"fancy_pca is fitted on uint8 (n, c, h, w), not on {chunk.dtype} of {chunk.ndim} axes",
                    fix="give it the stored images, before augmentation",
                )
            new = moments(chunk).cpu()
            if total is not None and total.shape != new.shape:
                raise ConvclinicError(
                    f"some images have {len(total) - 1} channels and some {len(new) - 1}",
                    fix="convert all of them to RGB, or all of them to gray",
                )
            total = new if total is None else total + new
        if total is None or total[-1, -1] == 0:
            raise ConvclinicError(
                "fancy_pca got no training images", fix="check the split: its train part is empty"
            )
        basis = principal(covariance(total)).flatten().tolist()
        return dataclasses.replace(self, basis=tuple(basis))

    def sample(self, rng: torch.Generator, batch: Batch) -> Params:
        return sample(rng, len(batch.images), batch.images.shape[1], self.std)

    def matrix(self, params: Params, mean: Tensor) -> Tensor:
        """Raises ConvclinicError when it was not fitted, or on images with other channels."""
        c = mean.shape[1]
        if not self.basis:
            raise ConvclinicError(
                "fancy_pca has no basis yet", fix="fit it on the training split, as convclinic's loop does"
            )
        if len(self.basis) != c * c:
            raise ConvclinicError(
                f"fancy_pca.basis has {len(self.basis)} numbers, images of {c} channels need {c * c}",
                fix="fit it on the images it is used on",
            )
        basis = torch.tensor(self.basis, device=mean.device).view(c, c)
        return matrix(params["alpha"], basis, self.by)
