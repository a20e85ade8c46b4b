"""Training images chunk by chunk: what every fit has in common, and what every apply checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from convclinic.ground.errors import ConvclinicError

ROUNDING = 1e-6  # float32 holds seven digits: what varies by less of the numbers' size does so by rounding


def as_float(chunk: UInt8[Tensor, "n c h w"] | Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """uint8 levels v as v / 255 in float32, as the net is given them; half precision as float32.

    >>> as_float(torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)).flatten().tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    if chunk.dtype == torch.uint8:
        return chunk.float().div_(255)
    return chunk.to(torch.promote_types(chunk.dtype, torch.float32))


def checked(trick: str, chunks: Iterable[Tensor], same_size: bool = False) -> Iterator[Tensor]:
    """The chunks that hold images, one at a time.

    Raises ConvclinicError when there are no images at all, when a chunk is not uint8 or float of four axes,
    and when chunks differ in type, in channels or, where that matters, in size.
    """
    kind: torch.dtype | None = None
    shape: tuple[int, ...] = ()
    for chunk in chunks:
        if chunk.ndim != 4 or not (chunk.dtype == torch.uint8 or chunk.is_floating_point()):
            raise ConvclinicError(
                f"{trick} is fitted on uint8 or float (n, c, h, w), not {chunk.dtype} of {chunk.ndim} axes",
                fix="give it the images as stored, or as the tricks before it leave them",
            )
        if len(chunk) == 0:
            continue
        if kind is None:
            kind, shape = chunk.dtype, tuple(chunk.shape[1:])
        _like_the_first(trick, chunk, kind, shape, same_size)
        yield chunk
    if kind is None:
        raise ConvclinicError(
            f"{trick} got no training images", fix="check the split: its train part is empty"
        )


def _like_the_first(
    trick: str, chunk: Tensor, kind: torch.dtype, shape: tuple[int, ...], same_size: bool
) -> None:
    if chunk.dtype != kind:
        raise ConvclinicError(
            f"{trick} got some images as {kind} and some as {chunk.dtype}", fix="give it all of one type"
        )
    if chunk.shape[1] != shape[0]:
        raise ConvclinicError(
            f"some images have {shape[0]} channels and some {chunk.shape[1]}",
            fix="convert all of them to RGB, or all of them to gray",
        )
    if same_size and chunk.shape[1:] != shape:
        raise ConvclinicError(
            f"some images are {_size(shape)} and some {_size(chunk.shape[1:])}",
            fix=f"resize them to one size: {trick} knows pixels by place",
        )


def expect(trick: str, images: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ConvclinicError unless images (b, c, h, w) are like those `trick` was fitted on.

    `shape` is (c,) or (c, 1, 1) where only the channels count, and (c, h, w) where the size does too.
    """
    if images.shape[1] != shape[0]:
        raise ConvclinicError(
            f"these images have {images.shape[1]} channels, the training images had {shape[0]}",
            fix=f"convert them to what {trick} was fitted on",
        )
    if len(shape) == 3 and shape[1:] != (1, 1) and images.shape[1:] != shape:
        raise ConvclinicError(
            f"{trick} was fitted on images of {_size(shape)}, and these are {_size(images.shape[1:])}",
            fix="resize them, and leave out run.sizes and views of other sizes: it knows pixels by place",
        )


def _size(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{height} x {width} pixels and {channels} channels"


class Moments(NamedTuple):
    """How many values, their mean, and the sum of their squared deviations from it."""

    n: int
    mean: Tensor
    squares: Tensor

    @property
    def std(self) -> Tensor:
        """The population standard deviation."""
        return (self.squares / self.n).sqrt()


NOTHING = Moments(0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64))


def moments(chunk: Tensor, axes: tuple[int, ...]) -> Moments:
    """Of one chunk (n, c, h, w) over `axes`, in float64 on the CPU."""
    variance, mean = torch.var_mean(as_float(chunk).double(), dim=axes, correction=0)
    n = chunk.numel() // mean.numel()
    return Moments(n, mean.cpu(), variance.cpu() * n)


def merged(a: Moments, b: Moments) -> Moments:
    """The moments of both together, by Chan, Golub and LeVeque, 1983: no large squares are subtracted.

    >>> pair = [moments(torch.tensor([v]).view(1, 1, 1, 1), (0, 2, 3)) for v in (1e8, 1e8 + 8)]
    >>> both = merged(*pair)
    >>> both.n, both.mean.item(), both.std.item()
    (2, 100000004.0, 4.0)
    """
    n = a.n + b.n
    apart = b.mean - a.mean
    mean = a.mean + apart * (b.n / n)
    return Moments(n, mean, a.squares + b.squares + apart.square() * (a.n * b.n / n))


def varies(spread: Tensor, size: Tensor) -> Tensor:
    """True where a dimension spreads by more than rounding, given the `size` of the values at large."""
    return spread > ROUNDING * size.max()


def divisor(mean: Tensor, std: Tensor) -> Tensor:
    """The std to divide by: 1 for a dimension that never varies, which so becomes 0 and not NaN or noise.

    >>> divisor(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 1e-9])).tolist()
    [0.25, 1.0]
    """
    return torch.where(varies(std, torch.maximum(mean.abs(), std)), std, 1.0)
