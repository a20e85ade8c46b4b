"""The numbers a plan is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Profile:
    """A data set in numbers; `asdict` of it is JSON.

    class_counts are of the training part; heights and widths the 5, 25, 50, 75 and 95 % quantiles of the
    original sizes in pixels; imbalance the largest class over the smallest; mean and std per channel in
    [0, 1] over a sample of the training images.
    """

    n_train: int
    n_validation: int
    n_test: int
    class_counts: dict[str, int]
    heights: tuple[float, ...]
    widths: tuple[float, ...]
    gray: bool
    n_set_aside: int
    n_duplicate_groups: int
    imbalance: float
    given_split: bool
    grouped: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]


def from_dict(values: dict[str, Any]) -> Profile:
    """The inverse of `asdict` after a trip through JSON."""
    rest: dict[str, Any] = {key: _tuple(value) for key, value in values.items()}
    return Profile(**rest)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def quantiles(sizes: NDArray[np.integer]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(sizes, QUANTILES)) if len(sizes) else (0.0,) * 5


def moments(images: Sequence[NDArray[np.uint8]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (c,) in [0, 1] over all pixels of images (h, w, c)."""
    if not len(images):
        return (), ()
    channels = images[0].shape[-1]
    # counts of levels: exact, and summing over rows of three values is slow
    levels = np.arange(256) / 255
    counts = np.zeros((channels, 256), np.int64)
    for image in images:
        for c in range(channels):
            counts[c] += np.bincount(image[..., c].ravel(), minlength=256)
    share = counts / counts.sum(1, keepdims=True)
    mean = share @ levels
    std = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(1))
    return tuple(float(value) for value in mean), tuple(float(value) for value in std)
