"""The comparison of policies for rare classes, without training."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from convclinic.data.dataset import Dataset
from convclinic.ground.errors import ConvclinicError
from convclinic.recipe import Recipe
from convclinic.study.balance import NONE, POLICIES, contenders, divided, summary, table, verdict
from convclinic.study.comparing import Outcome, Score
from convclinic.tricks.balance.two_part import TwoPart

CLASSES = ("large", "small")


def outcome(label: str, seed: int, small: int, test: int = 5) -> Outcome:
    """Of a net that knows the large class and `small` of the ten small images of validation."""
    return Outcome(label, seed, Score((10, small), (10, 10)), Score((10, test), (10, 10)), 0.1, 1.0)


def test_every_policy_is_compared_with_none_and_none_has_two() -> None:
    assert [one.label for one in contenders(Recipe())] == list(POLICIES)
    few = contenders(Recipe(balance=(TwoPart(),)), ["up_sampling"])
    assert [one.label for one in few] == [NONE, "up_sampling"]
    assert few[0].recipe.balance == ()
    assert all(
        len(one.recipe.balance) <= 1 and one.recipe.check() == []
        for one in contenders(Recipe())
        if one.label != "rare_crops"
    )
    with pytest.raises(ConvclinicError, match="up_sampling"):
        contenders(Recipe(), ["upsampling"])


def test_gains_are_paired_by_seed() -> None:
    outcomes = [
        *(outcome(NONE, seed, small) for seed, small in enumerate((2, 6, 4))),
        *(outcome("up_sampling", seed, small) for seed, small in enumerate((4, 8, 6))),
    ]
    none, up = summary(outcomes, CLASSES)
    assert none.gain is None and none.recall_gains == {"large": None, "small": None}
    # the policies differ by the same two images on every seed, however much the seeds differ
    assert (up.gain.mean, up.gain.low, up.gain.high) == pytest.approx((0.1, 0.1, 0.1))
    assert up.recall_gains["small"].mean == pytest.approx(0.2)
    assert up.recalls["small"].mean == pytest.approx(0.6) and up.recalls["small"].spread == pytest.approx(0.2)
    assert up.balanced_accuracy.mean == pytest.approx(0.8)


def test_only_seeds_that_all_policies_have_count() -> None:
    outcomes = [outcome(NONE, 0, 4), outcome("up_sampling", 0, 5), outcome(NONE, 1, 10)]
    none, up = summary(outcomes, CLASSES)
    assert none.balanced_accuracy.n == up.gain.n == 1
    assert none.balanced_accuracy.mean == pytest.approx(0.7)


def test_validation_chooses_and_the_test_speaks_of_the_choice_and_none_alone() -> None:
    outcomes = [
        one
        for seed in range(3)
        for one in (
            outcome(NONE, seed, 2, test=3),
            outcome("up_sampling", seed, 6 + seed % 2, test=4 + seed % 2),
            outcome("two_part", seed, 5, test=10),  # best on test images, which must not matter
        )
    ]
    rows = summary(outcomes, CLASSES)
    found = verdict(outcomes, rows)
    assert found.chosen == "up_sampling" and found.clear
    assert set(found.test) == {NONE, "up_sampling"}
    assert found.gain.mean == pytest.approx(0.2 / 3)
    text = table(rows, found, {"large": 90, "small": 9})
    assert "two_part" in text.split("recall of")[0]
    assert "81.67" in text.split("recall of")[0]
    assert "clearly better" in text and "but not" not in text
    assert "100.00 %" not in text.split("best on validation")[1], "two_part's test score stays unsaid"


def test_a_gain_within_chance_is_said_to_be_so() -> None:
    outcomes = [
        *(outcome(NONE, seed, small) for seed, small in enumerate((5, 5, 5))),
        *(outcome("up_sampling", seed, small) for seed, small in enumerate((9, 4, 5))),
    ]
    rows = summary(outcomes, CLASSES)
    found = verdict(outcomes, rows)
    assert found.chosen == "up_sampling" and not found.clear
    assert "not clearly better" in table(rows, found, {"large": 90, "small": 9})


def test_no_policy_can_be_the_best() -> None:
    outcomes = [outcome(NONE, 0, 9), outcome("down_sampling", 0, 1)]
    rows = summary(outcomes, CLASSES)
    found = verdict(outcomes, rows)
    assert (found.chosen, found.gain, set(found.test)) == (NONE, None, {NONE})
    assert "no policy is best" in table(rows, found, {"large": 90, "small": 9})


def test_the_rarest_classes_come_first_and_the_rest_is_counted() -> None:
    names = [f"c{k:02d}" for k in range(25)]
    counts = {name: 100 - k for k, name in enumerate(names)}
    score = Score((1,) * 25, (2,) * 25)
    outcomes = [Outcome(NONE, 0, score, score, 0.1, 1.0)]
    rows = summary(outcomes, names)
    text = table(rows, verdict(outcomes, rows), counts)
    shown = [line.split()[0] for line in text.splitlines() if line.startswith("c")]
    assert shown == names[:4:-1] and "5 larger classes" in text


def dataset(given_split: bool = False, n: int = 120) -> tuple[Dataset, np.ndarray]:
    """Two classes, 1 in 4 rare, in groups of four images; some of each in every part."""
    labels = np.tile([0, 0, 0, 1], n // 4)
    groups = np.arange(n) // 4
    splits = np.repeat(np.tile([0, 0, 0, 1, 2], n // 20), 4).astype(np.int8)
    profile: Any = SimpleNamespace(given_split=given_split)
    nothing: dict[str, Any] = dict.fromkeys(("names", "rows", "store", "deep_max", "findings", "quarantine"))
    return Dataset(
        source="", classes=CLASSES, labels=labels, splits=splits, profile=profile, **nothing
    ), groups


def test_seeds_divide_train_and_validation_anew_and_leave_the_test_part() -> None:
    data, groups = dataset()
    assert divided(data, groups, 0) is data
    first, again, second = (divided(data, groups, seed).splits for seed in (1, 1, 2))
    assert (first == again).all() and (first != second).any()
    for parts in (first, second):
        assert ((parts == 2) == (data.splits == 2)).all()
        assert all(len(np.unique(parts[groups == g])) == 1 for g in np.unique(groups)), "groups stay whole"
        assert all((np.bincount(data.labels[parts == p], minlength=2) > 0).all() for p in range(3))


def test_a_split_that_was_given_stays() -> None:
    data, groups = dataset(given_split=True)
    assert divided(data, groups, 3) is data


def test_a_division_that_would_lose_a_class_is_not_made() -> None:
    data, groups = dataset()
    groups = np.where(data.labels == 1, 999, groups)  # the rare class is one patient: it cannot be parted
    assert divided(data, groups, 1) is data


def test_the_text_keeps_intervals_within_what_is_possible() -> None:
    smalls = {NONE: (10, 0, 10), "up_sampling": (0, 10, 10)}
    outcomes = [
        outcome(label, seed, small) for label, own in smalls.items() for seed, small in enumerate(own)
    ]
    rows = summary(outcomes, CLASSES)
    assert rows[0].balanced_accuracy.high > 1 and rows[1].gain.high > 1
    text = table(rows, verdict(outcomes, rows), {"large": 90, "small": 9})
    numbers = [float(word) for word in re.findall(r"[+-]?\d+\.\d+", text)]
    assert max(numbers) == 100 and min(numbers) == -100
