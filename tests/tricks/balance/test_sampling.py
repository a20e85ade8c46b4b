"""The policies that choose which images an epoch visits, and their laws."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.rng import generator
from convclinic.tricks.balance.down_sampling import DownSampling
from convclinic.tricks.balance.rare_crops import RareCrops
from convclinic.tricks.balance.two_part import TwoPart
from convclinic.tricks.balance.up_sampling import UpSampling

Policy: TypeAlias = UpSampling | DownSampling | RareCrops | TwoPart

few = settings(max_examples=30, deadline=None, derandomize=True)
share = st.floats(0, 1)
sizes = st.lists(st.integers(0, 30), min_size=1, max_size=5).filter(any)
policies = st.one_of(
    st.builds(UpSampling, strength=share),
    st.builds(DownSampling, strength=share),
    st.builds(RareCrops, below=share, extra=st.integers(0, 4)),
    st.builds(TwoPart, below=share, switch=st.floats(0.1, 0.9), keep=share),
)
SKEWED = [200, 40, 10]  # images of each class


def labels_of(counts: list[int], seed: int = 0) -> torch.Tensor:
    """Labels with so many of each class, mixed."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=generator(seed, "labels"))]


def visits(policy: Policy, labels: torch.Tensor, epoch: int = 0, progress: float = 0.0) -> torch.Tensor:
    return policy.visits(generator(0, "visits", epoch), labels, progress)


def per_class(policy: Policy, counts: list[int], progress: float = 0.0) -> list[int]:
    """Visits of each class in an epoch."""
    labels = labels_of(counts)
    return labels[visits(policy, labels, progress=progress)].bincount(minlength=len(counts)).tolist()


@few
@given(policies, sizes, st.integers(0, 99), share)
def test_visits_are_positions_and_as_many_in_every_epoch(
    policy: Policy, counts: list[int], seed: int, progress: float
) -> None:
    labels = labels_of(counts, seed)
    kept = labels.clone()
    first, later = visits(policy, labels), visits(policy, labels, 1, progress)
    assert len(first) == len(later) > 0
    for found in (first, later):
        assert found.dtype == torch.int64
        assert found.min() >= 0 and found.max() < len(labels)
    assert torch.equal(labels, kept)


@few
@given(policies, sizes, share)
def test_within_a_class_no_image_is_visited_two_times_more_than_another(
    policy: Policy, counts: list[int], progress: float
) -> None:
    labels = labels_of(counts)
    times = visits(policy, labels, progress=progress).bincount(minlength=len(labels))
    for k in labels.unique():
        of_class = times[labels == k]
        assert of_class.max() - of_class.min() <= 1


@pytest.mark.parametrize("policy", [UpSampling(), DownSampling(), RareCrops(), TwoPart()])
def test_same_stream_same_visits_other_stream_other_visits(policy: Policy) -> None:
    labels = labels_of(SKEWED)
    first = visits(policy, labels)
    assert torch.equal(first, visits(policy, labels))
    assert not torch.equal(first, visits(policy, labels, epoch=1))


@pytest.mark.parametrize("policy", [UpSampling(), DownSampling(), RareCrops(), TwoPart(keep=0.5)])
def test_classes_are_mixed_over_the_epoch(policy: Policy) -> None:
    """The mean place of each class's visits is the middle, as it is of a shuffled deck."""
    labels = labels_of([400, 80, 60])
    seen = labels[visits(policy, labels, progress=0.7)]
    for k in seen.unique():
        where = (seen == k).nonzero().double() / len(seen)
        assert abs(where.mean().item() - 0.5) < 0.13  # over three standard errors of sixty places


@pytest.mark.parametrize("kind", [UpSampling, DownSampling, RareCrops, TwoPart])
def test_off_visits_every_image_once(kind: type[Policy]) -> None:
    for progress in (0.0, 0.9):
        found = visits(kind(**kind.OFF), labels_of(SKEWED), progress=progress)
        assert sorted(found.tolist()) == list(range(sum(SKEWED)))


@few
@given(sizes)
def test_full_up_sampling_visits_all_classes_equally_often(counts: list[int]) -> None:
    assert per_class(UpSampling(), counts) == [max(counts) * (n > 0) for n in counts]


@few
@given(sizes)
def test_full_down_sampling_visits_all_classes_as_often_as_the_smallest(counts: list[int]) -> None:
    smallest = min(n for n in counts if n)
    assert per_class(DownSampling(), counts) == [smallest * (n > 0) for n in counts]


@few
@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), share)
def test_strength_is_the_share_of_the_way(counts: list[int], strength: float) -> None:
    n = np.array(counts)
    up = n + np.rint(strength * (n.max() - n))
    down = n - np.rint(strength * (n - n.min()))
    assert per_class(UpSampling(strength), counts) == up.tolist()
    assert per_class(DownSampling(strength), counts) == down.tolist()


def test_up_sampling_treats_the_images_of_a_class_alike_in_expectation() -> None:
    """7 visits an epoch of 3 images: 7/3 each."""
    labels = labels_of([7, 3])
    times = sum(visits(UpSampling(), labels, epoch).bincount(minlength=10) for epoch in range(400))
    assert isinstance(times, torch.Tensor)
    mean = times.double() / 400
    assert (mean[labels == 0] == 1).all()
    assert (mean[labels == 1] - 7 / 3).abs().max() < 0.1  # four standard errors


@few
@given(sizes, share)
def test_down_sampling_visits_no_image_twice(counts: list[int], strength: float) -> None:
    found = visits(DownSampling(strength), labels_of(counts))
    assert len(found.unique()) == len(found)


def test_down_sampling_leaves_out_other_images_in_every_epoch() -> None:
    labels = labels_of(SKEWED)
    epochs = [set(visits(DownSampling(), labels, epoch).tolist()) for epoch in range(300)]
    assert epochs[0] != epochs[1]
    assert set().union(*epochs) == set(range(len(labels)))


def test_rare_crops_are_extra_visits_of_every_image_of_the_rare_classes() -> None:
    labels = labels_of(SKEWED)
    times = visits(RareCrops(below=0.2, extra=4), labels).bincount()
    assert (times[labels < 2] == 1).all()  # 40 is not below a fifth of 200
    assert (times[labels == 2] == 5).all()


def test_two_parts_first_the_classes_with_many_images_then_those_with_few() -> None:
    labels = labels_of(SKEWED)
    policy = TwoPart(below=0.5, switch=0.4, keep=0.0)
    first = visits(policy, labels, progress=0.39)
    assert sorted(first.tolist()) == (labels == 0).nonzero().flatten().tolist()
    second = visits(policy, labels, progress=0.4)
    times = second.bincount(minlength=len(labels))
    assert (times[labels == 0] == 0).all()
    assert (times[labels != 0] == 4).all()  # 200 visits of 50 images


@few
@given(share, st.integers(51, 200), st.integers(1, 25), st.integers(1, 25))
def test_two_parts_keep_their_share_of_the_large_classes(keep: float, n: int, a: int, b: int) -> None:
    found = per_class(TwoPart(below=0.5, keep=keep), [n, a, b], progress=0.8)
    assert found[0] == round(keep * n) and sum(found) == n


def test_two_parts_of_balanced_classes_are_one() -> None:
    for progress in (0.0, 1.0):
        assert per_class(TwoPart(keep=0.1), [20, 30, 25], progress) == [20, 30, 25]


def test_visits_of_blood_cells() -> None:
    """Epochs on 4153 red cells, 372 white cells and 361 platelets."""
    counts = [361, 4153, 372]
    assert per_class(UpSampling(), counts) == [4153] * 3
    assert per_class(DownSampling(), counts) == [361] * 3
    assert per_class(RareCrops(extra=10), counts) == [3971, 4153, 4092]
    assert per_class(TwoPart(keep=0.0), counts) == [0, 4153, 0]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: UpSampling(strength=1.5),
        lambda: DownSampling(strength=-0.1),
        lambda: RareCrops(below=float("nan")),
        lambda: RareCrops(extra=-1),
        lambda: TwoPart(below=2.0),
        lambda: TwoPart(keep=-1.0),
        lambda: TwoPart(switch=0.0),
        lambda: TwoPart(switch=1.0),
    ],
)
def test_impossible_options_are_refused_in_words(wrong: object) -> None:
    with pytest.raises(ConvclinicError, match=r"\w+\.\w+ (is|must be) "):
        wrong()  # type: ignore[operator]
