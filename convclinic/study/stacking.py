"""Stacking: a classifier on what several nets say of images that they were not trained on. Pure.

    place = fold_of(labels, groups, 5, seed, classes)  # (n,) of the training images
    parts(splits, place, 0)                            # what the nets of the first fold train on

Source    Wolpert, Stacked Generalization, 1992; of class probabilities by a linear model: Ting and Witten,
          Issues in Stacked Generalization, 1999
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convclinic.data.dataset import LEFT_OUT
from convclinic.ground.errors import ConvclinicError
from convclinic.study.folds import places

FEWEST = 2  # folds


def fold_of(
    labels: NDArray[np.int64], groups: NDArray[np.int64], n_folds: int, seed: int, classes: Sequence[str]
) -> NDArray[np.int64]:
    """The fold (n,) of each training image. Raises ConvclinicError for too few folds, or too many for a
    class."""
    if n_folds < FEWEST:
        raise ConvclinicError(f"--folds must be at least {FEWEST}, not {n_folds}", fix="5 is usual")
    return places(labels, groups, n_folds, seed, classes, FEWEST)


def parts(splits: NDArray[np.int8], place: NDArray[np.int64], fold: int) -> NDArray[np.int8]:
    """The part (m,) of every image for the nets of one fold, whose own training images are tested; those of
    validation stay, and the real test images are left out.

    splits (m,): 0 train, 1 validation, 2 test; place (n,): the fold of each that trains.

    >>> parts(np.array([0, 2, 0, 1], np.int8), np.array([0, 1]), 1).tolist()
    [0, 3, 2, 1]
    """
    out = np.where(splits == 1, 1, LEFT_OUT).astype(np.int8)
    out[splits == 0] = np.where(place == fold, 2, 0)
    return out
