"""Evaluations told apart: which images of a pass are validation, and which the training set looked at again.

A pass is what goes through the model without gradients between two steps, image by image known from training
or not. Two sets that are evaluated one after the other never share a batch: where the share of known images
changes between two batches there are two sets, where it changes inside of a batch there is one, with copies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convclinic.clinic.signals import Floats

Known = NDArray[np.bool_]  # one for each image of a batch: equal to a training image

ALL = 0.95  # of a set known from training: then it is the training set
FLIPPED = 0.15  # of it, beside a set without any: training images that augmentation has left alone
MUCH = 0.45  # of the known training images that a set is as large as: it is no validation set
CHANGED = 6.0  # log likelihood that two shares in place of one must gain; among so many places chance gains 4
INSIDE = 7.0  # log likelihood by which a change inside of a batch must be the likelier; e^-7 by chance


@dataclass(frozen=True)
class Stretch:
    """Batches [first, last) of a pass that have one share of known images: `repeats` of `compared`; or they
    are `uneven`, their share changes inside of a batch."""

    first: int
    last: int
    compared: int
    repeats: int
    uneven: bool = False

    @property
    def share(self) -> float:
        return self.repeats / max(1, self.compared)


def training_batches(batches: Sequence[Known], trained: int) -> list[bool]:
    """Which batches of a pass measure the training set and no validation; trained: known training images.

    >>> new, old = np.zeros(64, bool), np.ones(64, bool)
    >>> training_batches([new, new, old, old], 640)
    [False, False, True, True]
    >>> training_batches([new, np.arange(64) > 40, old, old], 640)
    [False, False, False, False]
    """
    # where the pass has all of them, the training set itself is in it
    all_there = sum(int(batch.sum()) for batch in batches) >= ALL * trained
    found = stretches(batches, inside=math.inf if all_there else INSIDE)
    fresh = any(stretch.compared and not stretch.repeats for stretch in found)
    own = [False] * len(batches)
    for stretch in found:
        again = stretch.share >= FLIPPED or (stretch.repeats and stretch.compared >= MUCH * trained)
        if not stretch.uneven and stretch.compared and (stretch.share >= ALL or (fresh and again)):
            own[stretch.first : stretch.last] = [True] * (stretch.last - stretch.first)
    return own


def stretches(batches: Sequence[Known], first: int = 0, inside: float = INSIDE) -> list[Stretch]:
    """The pass cut wherever its share of known images changes between two batches. No cut is made where a
    change inside of a batch is likelier by `inside`; `first` is the number of the first batch."""
    known = np.concatenate(batches) if batches else np.zeros(0, bool)
    edges = np.cumsum([len(batch) for batch in batches])[:-1]
    inner = edges[(edges > 0) & (edges < len(known))]
    gains = _gains(known)
    best = int(inner[gains[inner - 1].argmax()]) if len(inner) else 0
    gain, most = float(gains[best - 1]) if best else 0.0, float(gains.max(initial=0.0))
    uneven = most > CHANGED + INSIDE and most > gain + inside
    if uneven or gain < CHANGED:
        return [Stretch(first, first + len(batches), len(known), int(known.sum()), uneven)]
    cut = int(np.flatnonzero(edges == best)[0]) + 1
    return [*stretches(batches[:cut], first), *stretches(batches[cut:], first + cut)]


def _gains(known: Known) -> Floats:
    """For a cut before image 1, 2, ...: what a share of its own on either side adds to the log likelihood."""
    if len(known) < 2:
        return np.zeros(0)
    left, at = np.cumsum(known)[:-1].astype(np.float64), np.arange(1.0, len(known))
    total, n = float(known.sum()), float(len(known))
    whole = float(_likelihood(np.array([total]), np.array([n]))[0])
    return _likelihood(left, at) + _likelihood(total - left, n - at) - whole


def _likelihood(hits: Floats, n: Floats) -> Floats:
    """Log likelihood of so many hits among n at their own share."""
    share = hits / n
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = hits * np.log(share), (n - hits) * np.log1p(-share)
    return np.nan_to_num(parts[0], nan=0.0) + np.nan_to_num(parts[1], nan=0.0)
