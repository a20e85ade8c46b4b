"""Cross-validation: who is tested when, and what the folds say together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convclinic.ground.errors import ConvclinicError
from convclinic.study.folds import parts, table, together

CLASSES = ("a", "b")


@settings(max_examples=30, deadline=None)
@given(n_folds=st.integers(3, 6), seed=st.integers(0, 5), pairs=st.integers(6, 20))
def test_every_image_is_tested_once_and_groups_are_never_parted(n_folds: int, seed: int, pairs: int) -> None:
    labels = np.array([0] * (2 * pairs) + [1] * (4 * pairs))
    groups = np.arange(len(labels)) // 2
    divided = parts(labels, groups, n_folds, seed, CLASSES)
    assert len(divided) == n_folds
    tested = np.stack([part == 2 for part in divided])
    assert (tested.sum(0) == 1).all()
    assert (np.stack([part == 1 for part in divided]).sum(0) == 1).all()
    for part in divided:
        assert all(len(set(part[groups == group])) == 1 for group in groups)
        share = labels[part == 2].mean()
        assert abs(share - 2 / 3) < 0.25


def test_the_same_seed_divides_alike() -> None:
    labels, groups = np.arange(40) % 2, np.arange(40)
    one, same, other = (parts(labels, groups, 5, seed, CLASSES) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(one, same, strict=True))
    assert any((a != b).any() for a, b in zip(one, other, strict=True))


def test_a_class_with_too_few_images_is_named() -> None:
    labels, groups = np.array([0] * 20 + [1] * 8), np.array([*range(20), *[20] * 4, *[21] * 4])
    with pytest.raises(ConvclinicError, match="class 'b' has 2 images that do not belong together"):
        parts(labels, groups, 5, 0, CLASSES)
    with pytest.raises(ConvclinicError, match="at least 3"):
        parts(labels, np.arange(28), 2, 0, CLASSES)


def test_golden_values_of_three_folds() -> None:
    matrices = [np.array([[8, 2], [0, 10]]), np.array([[6, 4], [2, 8]]), np.array([[10, 0], [0, 10]])]
    found = together(matrices)
    assert found.accuracies == (0.9, 0.7, 1.0)
    assert found.accuracy == pytest.approx(2.6 / 3)
    assert found.matrix.tolist() == [[24, 6], [2, 28]]
    spread = math.sqrt(((0.9 - 2.6 / 3) ** 2 + (0.7 - 2.6 / 3) ** 2 + (1.0 - 2.6 / 3) ** 2) / 2)
    assert found.spread == pytest.approx(spread)
    # Nadeau and Bengio 2003: t(0.975, 2) = 4.3027, variance times (1/3 + 1/1)
    half = 4.302653 * spread * math.sqrt(1 / 3 + 1)
    assert found.interval[0] == pytest.approx(max(0.0, 2.6 / 3 - half), abs=1e-5)
    assert found.interval[1] == 1.0
    text = table(found, CLASSES)
    assert "accuracy 86.7%" in text and "on 60 images, each tested once" in text
    assert found.to_dict(CLASSES)["per_class"][0]["recall"] == pytest.approx(0.8)
