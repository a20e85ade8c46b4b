"""Folds for stacking: who trains, who is asked, and who is left out."""

from __future__ import annotations

import numpy as np
import pytest

from convclinic.ground.errors import ConvclinicError
from convclinic.study.stacking import fold_of, parts


def test_groups_stay_together_and_classes_keep_their_shares() -> None:
    labels = np.repeat([0, 1], 60)
    groups = np.repeat(np.arange(40), 3)
    place = fold_of(labels, groups, 4, 0, ("a", "b"))
    assert all(len(set(place[groups == group])) == 1 for group in range(40))
    for fold in range(4):
        assert np.bincount(labels[place == fold]).tolist() == [15, 15]
    assert (place == fold_of(labels, groups, 4, 0, ("a", "b"))).all()


def test_every_training_image_is_asked_about_once_and_no_test_image_ever() -> None:
    splits = np.array([0, 0, 1, 2, 0, 0, 2, 1], np.int8)
    place = np.array([0, 1, 1, 0])
    first, second = parts(splits, place, 0), parts(splits, place, 1)
    assert first.tolist() == [2, 0, 1, 3, 0, 2, 3, 1]
    assert second.tolist() == [0, 2, 1, 3, 2, 0, 3, 1]


def test_too_few_and_too_many_folds_are_refused() -> None:
    labels = np.array([0] * 6 + [1] * 3)
    groups = np.arange(9)
    with pytest.raises(ConvclinicError, match="--folds must be at least 2"):
        fold_of(labels, groups, 1, 0, ("a", "b"))
    with pytest.raises(ConvclinicError, match=r"class 'b' has 3 images .*give --folds 3"):
        fold_of(labels, groups, 4, 0, ("a", "b"))
    groups[6:] = [6, 6, 7]
    with pytest.raises(ConvclinicError, match=r"class 'b' has 2 .*give --folds 2"):
        fold_of(labels, groups, 3, 0, ("a", "b"))
