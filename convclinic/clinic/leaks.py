"""Images of the evaluated parts that training has seen too, by the fingerprints of the data check-up.

The check-up keeps copies together when it splits by itself, and takes exact ones out of a given split. This
looks again at any split there is: at exact copies, and at near ones whose thumbnails and whole pixels agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convclinic.clinic.label_doubts import Ints
from convclinic.data.duplicates import exact_groups, near_pairs
from convclinic.data.intake import THUMB, Intake, thumbnails

LIKE = 0.98  # correlation of all pixels, beside the check-up's own bar for thumbnails
_CHUNK = 1000  # images in memory at once


class Leak(NamedTuple):
    """A training image and an evaluated one that show the same; likeness is 1 for the same pixels."""

    train: int
    evaluated: int
    likeness: float


def leakage_suspects(
    gather: Callable[[Ints], NDArray[np.uint8]], parts: Ints, labels: Ints | None = None
) -> tuple[Leak, ...]:
    """Copies across the split, surest first.

    gather gives images (b, h, w, c) at positions (b,), such as `Dataset.images`; parts (n,) is 0 where an
    image trains. Near copies are looked for among images of 16 pixels and more, and where many alike images
    differ in `labels` (n,), as garments do, only exact ones are told.
    """
    intake = _fingerprints(gather, len(parts))
    train = parts == 0
    leaks: list[Leak] = []
    exact = exact_groups(intake)
    for i in np.flatnonzero(~train & np.isin(exact, exact[train])).tolist():
        leaks.append(Leak(int(np.flatnonzero(train & (exact == exact[i]))[0]), i, 1.0))
    known = None if labels is None else labels.astype(np.int32)
    pairs, _ = near_pairs(intake, (~train).astype(np.int32), known)
    for first, second in pairs.tolist():
        likeness = _likeness(*gather(np.array([first, second])))
        if likeness >= LIKE:
            seen, held = (first, second) if train[first] else (second, first)
            leaks.append(Leak(seen, held, likeness))
    return tuple(sorted(leaks, key=lambda leak: (-leak.likeness, leak.evaluated)))


def _fingerprints(gather: Callable[[Ints], NDArray[np.uint8]], n: int) -> Intake:
    """What the check-up's pass over the files would have found of these images, as far as copies go."""
    hashes = np.zeros(n, np.uint64)
    thumbs = np.zeros((n, THUMB * THUMB), np.uint8)
    height = width = 0
    for start in range(0, n, _CHUNK):
        images = gather(np.arange(start, min(n, start + _CHUNK)))
        height, width = images.shape[1:3]
        part = slice(start, start + len(images))
        thumbs[part] = thumbnails(images)
        digests = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images]
        hashes[part] = [int.from_bytes(digest, "little") for digest in digests]
    fine, traits, sides = np.ones(n, np.bool_), np.zeros(n, np.uint16), np.ones(n, np.int32)
    return Intake(fine, {}, traits, sides * height, sides * width, hashes, hashes, thumbs, None, None)


def _likeness(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Correlation of the pixels of two images."""
    x, y = (image.astype(np.float64).ravel() - image.mean() for image in (a, b))
    return float((x * y).sum() / max(1e-12, np.sqrt((x * x).sum() * (y * y).sum())))
