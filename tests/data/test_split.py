"""The split: shares, groups, given parts, determinism."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convclinic.data.sources import open_source
from convclinic.data.split import split


def table(labels, parts, k):
    return np.array([np.bincount(labels[parts == p], minlength=k) for p in (0, 1, 2)])


def test_small_data_is_split_70_15_15_in_every_class():
    labels = np.repeat([0, 1, 2], [100, 60, 40])
    counts = table(labels, split(labels, None, None, 0), 3)
    assert counts.tolist() == [[70, 42, 28], [15, 9, 6], [15, 9, 6]]


def test_large_data_spends_no_more_than_needed():
    labels = np.arange(100_000) % 10
    assert table(labels, split(labels, None, None, 0), 10).sum(1).tolist() == [87_500, 2_500, 10_000]


def test_many_small_classes_still_add_up():
    labels = np.arange(5_500) % 500  # 1.65 images of each class for validation
    assert table(labels, split(labels, None, None, 0), 500).sum(1).tolist() == [3_850, 825, 825]


def test_fractions_replace_the_default():
    labels = np.arange(100) % 2
    counts = table(labels, split(labels, None, None, 0, (0.1, 0.3)), 2).sum(1)
    assert counts.tolist() == [60, 10, 30]


def test_a_class_of_three_is_in_every_part_and_of_two_in_train():
    labels = np.repeat([0, 1, 2], [200, 3, 2])
    counts = table(labels, split(labels, None, None, 0), 3)
    assert counts[:, 1].tolist() == [1, 1, 1]
    assert counts[0, 2] >= 1


def test_set_aside_stays_out():
    labels = np.array([-1] * 5 + [0, 1] * 20)
    parts = split(labels, None, np.full(45, 2), 0)
    assert (parts[:5] == -1).all()
    assert (split(labels, None, None, 0)[5:] >= 0).all()


def test_same_seed_same_split():
    labels, groups = np.arange(300) % 3, np.arange(300) // 4
    first = split(labels, groups, None, 5)
    assert np.array_equal(first, split(labels, groups, None, 5))
    assert not np.array_equal(first, split(labels, groups, None, 6))


def test_given_parts_are_honoured():
    labels = np.arange(400) % 2
    both = np.repeat([0, 1, 2], [200, 100, 100])
    assert np.array_equal(split(labels, None, both, 0), both)
    test_only = np.repeat([0, 2], [300, 100])
    parts = split(labels, None, test_only, 0)
    assert (parts[300:] == 2).all() and (parts[:300] == 1).sum() == 45 and not (parts[:300] == 2).any()
    validation_only = np.repeat([0, 1], [300, 100])
    parts = split(labels, None, validation_only, 0)
    assert (parts[300:] == 1).all() and (parts[:300] == 2).sum() == 45 and not (parts[:300] == 1).any()


def test_a_tiny_validation_part_without_a_test_is_dissolved():
    labels = np.arange(200) % 2
    counts = table(labels, split(labels, None, np.repeat([0, 1], [190, 10]), 0), 2)
    assert counts.sum(1).tolist() == [140, 30, 30]


def test_free_images_beside_given_parts_train():
    labels = np.arange(300) % 2
    given_parts = np.repeat([-1, 1, 2], [200, 50, 50])
    assert (split(labels, None, given_parts, 0)[:200] == 0).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=12, max_size=120), st.integers(0, 5)
)
def test_no_group_is_ever_parted(rows, seed):
    labels, groups = (np.array(column) for column in zip(*rows, strict=True))
    parts = split(labels, groups, None, seed)
    assert set(parts.tolist()) <= {0, 1, 2}
    for group in np.unique(groups):
        assert len(set(parts[groups == group].tolist())) == 1


def test_a_class_in_three_groups_reaches_every_part():
    labels = np.repeat([0, 1], [300, 30])
    groups = np.concatenate([np.arange(300), 1000 + np.arange(30) // 10])
    parts = split(labels, groups, None, 3)
    assert {int(parts[groups == g][0]) for g in (1000, 1001, 1002)} == {0, 1, 2}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cells_of_one_photo_stay_together_and_classes_keep_their_shares(shared, seed):
    source = open_source(shared("bccd-crops.tar"))
    parts = split(source.labels, source.groups, source.splits, seed)
    for part in (1, 2):
        assert abs((parts == part).mean() - 0.15) < 0.02
    owners = [np.unique(source.groups[parts == part]) for part in (0, 1, 2)]
    assert sum(map(len, owners)) == len(np.unique(source.groups))
    counts = table(source.labels, parts, 3)
    shares = counts / counts.sum(1, keepdims=True)
    assert np.abs(shares - shares[0]).max() < 0.02
