"""Shift views: predict from the image and from two copies moved by one pixel, each also in the mirror.

Formula   p(x) = 1/2 g(x) + 1/4 g(up-left(x)) + 1/4 g(down-right(x)),   g(x) = 1/2 f(x) + 1/2 f(flip(x))
Shapes    images (b, c, h, w), any type; six views of the same shape
Strength  none to set; `none` is off. mean: what is averaged, logits (the source's) or probabilities
Helps     small images (32 pixels) and nets trained with flips and shifts
Hurts     where left and right tell classes apart; prediction takes six times as long
Clashes   a net trained without flips
Source    Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU, 2024, arXiv:2404.00498, section 3.5

The row or column that comes in is the reflected one, as in the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Shaped
from torch import Tensor

from convclinic.tricks.combine._mean import check_mean

WINDOWS = ((0.5, 0), (0.25, -1), (0.25, 1))  # weight, and the window's move down and right in pixels


def _window(images: Shaped[Tensor, "b c h w"], move: int) -> Shaped[Tensor, "b c h w"]:
    for axis in (2, 3):
        last = images.shape[axis] - 1
        seen = torch.arange(move, move + last + 1, device=images.device)
        images = images.index_select(axis, last - (seen.abs() - last).abs())
    return images


def views(images: Shaped[Tensor, "b c h w"]) -> list[tuple[float, Tensor]]:
    """Six views; images must be at least 2 pixels on each side."""
    found: list[tuple[float, Tensor]] = []
    for weight, move in WINDOWS:
        moved = _window(images, move) if move else images
        found += [(weight / 2, moved), (weight / 2, moved.flip(3))]
    return found


@dataclass(frozen=True)
class ShiftViews:
    slot: ClassVar[str] = "combine"
    mean: str = "logits"

    def __post_init__(self) -> None:
        check_mean("shift_views", self.mean)

    def views(self, images: Tensor) -> list[tuple[float, Tensor]]:
        return views(images)
