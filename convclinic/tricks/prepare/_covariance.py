"""Mean and covariance of flattened images in one streamed pass, their principal axes, and maps along them.

Memory is a few matrices of d x d (d = c h w dimensions) and one block of images, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor
from torch.nn import functional as F

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import State
from convclinic.tricks.prepare._stream import as_float, checked, expect

MOST_DIMENSIONS = 12_288  # 64 x 64 x 3, whose covariance takes 1.2 GB in float64
BLOCK = 1024  # images in one product
MIDDLE = 128  # of the levels of uint8
STRIP = 512  # rows of the product that are computed together


class Axes(NamedTuple):
    """Mean (c, h, w), principal axes as columns (d, d) and their variances (d,), falling; float64, CPU."""

    mean: Tensor
    vectors: Tensor
    variances: Tensor


def covariance(
    trick: str, chunks: Iterable[Tensor]
) -> tuple[Float64[Tensor, "c h w"], Float64[Tensor, "d d"]]:
    """Mean and population covariance of the images, flattened in the order (c, h, w), on the CPU.

    Products of a block are taken in float32 and summed in float64. For uint8 that is exact: levels less 128
    are integers of at most 2^7, so the products of 1,024 images sum to at most 2^24, and float32 holds every
    integer up to there. Float images are centred at the mean of the first chunk, so that rounding is relative
    to their variance and not to their mean; the errors of the blocks, about 1e-7 of it, average out.

    Raises ConvclinicError for what `checked` refuses and for images of too many dimensions.
    """
    count, unit = 0, 255.0
    shape: tuple[int, ...] = ()
    total, moment, centre = torch.zeros(0), torch.zeros(0, 0), torch.tensor(float(MIDDLE))
    for chunk in checked(trick, chunks, same_size=True):
        if count == 0:
            shape = tuple(chunk.shape[1:])
            total, moment = _sums(trick, shape)
            if chunk.dtype != torch.uint8:
                centre, unit = as_float(chunk).mean(0).flatten(), 1.0
        for block in chunk.split(BLOCK):
            rows = (block.flatten(1) - centre).float()
            total += rows.sum(0, dtype=torch.float64).cpu()
            add_product(moment, rows)
            count += len(block)
    mean = total / count
    moment.div_(count).addr_(mean, mean, alpha=-1).div_(unit**2)
    moment.triu_()
    return ((mean + centre.cpu()) / unit).view(shape), moment.add_(moment.triu(1).T)


def _sums(trick: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Zeros for the sum and for the sum of products of images of `shape`."""
    channels, height, width = shape
    d = channels * height * width
    if d > MOST_DIMENSIONS:
        raise ConvclinicError(
            f"{trick} of {height} x {width} images with {channels} channels needs a covariance matrix of "
            f"{d:,} x {d:,}; up to {MOST_DIMENSIONS:,} are taken",
            fix="train on smaller images, such as 64 x 64, or whiten patches with initialise=patch_whitening",
        )
    return torch.zeros(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)


def add_product(moment: Float64[Tensor, "d d"], rows: Float32[Tensor, "n d"]) -> None:
    """Add rows^T rows to `moment` in place, on and above the diagonal.

    Below it stands the same, and leaving most of it out saves nearly half of the work; the few entries
    there that the strips do reach are not to be used.
    """
    for start in range(0, rows.shape[1], STRIP):
        strip = rows[:, start : start + STRIP].T @ rows[:, start:]
        moment[start : start + STRIP, start:].add_(strip.cpu())


def principal_axes(trick: str, chunks: Iterable[Tensor]) -> Axes:
    """Eigenvectors and eigenvalues of the covariance, by falling variance.

    An eigenvector's sign is arbitrary: here its largest entry is positive.
    """
    mean, matrix = covariance(trick, chunks)
    variances, vectors = torch.linalg.eigh(matrix)
    variances, vectors = variances.flip(0), vectors.flip(1)
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    # a direction no image has can come out of the solver slightly below zero
    return Axes(mean, vectors * largest.sign(), variances.clamp_min(0))


def leading(trick: str, axes: Axes, keep: int) -> Axes:
    """The first `keep` axes, or all for 0. Raises ConvclinicError when there are not so many."""
    d = len(axes.variances)
    if keep > d:
        raise ConvclinicError(
            f"{trick}.keep is {keep}, but images of {d} dimensions have {d} components",
            fix=f"give a number up to {d}, or 0 for all",
        )
    k = keep or d
    return Axes(axes.mean, axes.vectors[:, :k], axes.variances[:k])


def linear_state(mean: Float[Tensor, "c h w"], matrix: Float[Tensor, "d k"]) -> State:
    """What `project` needs, in float32."""
    return {"mean": mean.float(), "matrix": matrix.float().contiguous()}


def project(trick: str, images: Float[Tensor, "b c h w"], state: State) -> Float[Tensor, "b c h w"]:
    """(x - mean) matrix for each flattened image, in the images' shape; numbers beyond the k-th are zero.

    Raises ConvclinicError when channels or size are not those of the training images.
    """
    mean, matrix = state["mean"], state["matrix"]
    expect(trick, images, tuple(mean.shape))
    wide = torch.promote_types(images.dtype, torch.float32)
    # under autocast, as in evaluation, the product would have the three digits of bfloat16: too few for
    # sums in which large directions cancel
    with torch.autocast(images.device.type, enabled=False):
        rows = (images.to(wide) - mean.to(images.device, wide)).flatten(1)
        out = rows @ matrix.to(images.device, wide)
    d, k = matrix.shape
    return F.pad(out, (0, d - k)).view(images.shape).to(images.dtype)
