"""Images of the evaluated parts that training has seen too, among those that may show the same.

The check-up keeps copies in one part, or takes those of a given split out of training. It does not look for
near copies inside of the user's own groups (a person, a video), which may be alike: where a given split tears
such a group apart, they are told here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convclinic.clinic.label_doubts import Ints

LIKE = 0.98  # correlation of all pixels
MOST = 16  # training images of one group that an evaluated one is compared with


class Leak(NamedTuple):
    """A training image and an evaluated one that show the same; likeness is 1 for the same pixels."""

    train: int
    evaluated: int
    likeness: float


def leakage_suspects(
    gather: Callable[[Ints], NDArray[np.uint8]], parts: NDArray[np.integer], groups: NDArray[np.integer]
) -> tuple[Leak, ...]:
    """Copies across the split, surest first; of each evaluated image the likest training image.

    gather gives images (b, h, w, c) at positions (b,), such as `Dataset.images`; parts (n,) is 0 where an
    image trains; groups (n,) are equal where images may show the same, such as the column of splits.csv.
    """
    train = parts == 0
    crossing = np.intersect1d(groups[train], groups[~train])
    trained = np.flatnonzero(train & np.isin(groups, crossing))
    leaks: list[Leak] = []
    for i in np.flatnonzero(~train & np.isin(groups, crossing)).tolist():
        mates = trained[groups[trained] == groups[i]][:MOST]
        likeness = _likeness(gather(np.array([i])), gather(mates))
        best = int(likeness.argmax())
        if likeness[best] >= LIKE:
            leaks.append(Leak(int(mates[best]), i, float(likeness[best])))
    return tuple(sorted(leaks, key=lambda leak: (-leak.likeness, leak.evaluated)))


def _likeness(one: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Correlation of the pixels of an image (1, h, w, c) with each of others (m, h, w, c)."""
    rows = [images.reshape(len(images), -1).astype(np.float64) for images in (one, others)]
    a, b = (row - row.mean(1, keepdims=True) for row in rows)
    return (a * b).sum(1) / np.maximum(1e-12, np.sqrt((a * a).sum(1) * (b * b).sum(1)))
