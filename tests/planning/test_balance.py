"""The planner's policy for rare classes, and what it leaves out beside one."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convclinic.checks import Facts
from convclinic.data.profile import Profile
from convclinic.planning.balance import LEVEL, choose, with_policy
from convclinic.planning.hardware import Hardware
from convclinic.planning.orientation import MirrorTest
from convclinic.planning.planner import draft
from convclinic.recipe import Recipe
from convclinic.slots import Input, name_of
from convclinic.tricks.augment.shift import Shift
from convclinic.tricks.balance.class_weights import ClassWeights
from convclinic.tricks.balance.logit_adjustment import LogitAdjustment
from convclinic.tricks.balance.two_part import TwoPart
from convclinic.tricks.balance.up_sampling import UpSampling
from convclinic.tricks.regularise.l2 import L2
from convclinic.tricks.regularise.label_smoothing import LabelSmoothing

MACHINE = Hardware("cpu", "made up", 2, 8 * 10**9, 1e11, 1e10)
SMOOTH = Recipe(regularise=(L2(), LabelSmoothing(0.2)), augment=(Shift(),))


def test_level_classes_need_no_policy() -> None:
    choice = choose({"a": 150, "b": 100}, grouped=False)
    assert choice.policy == () and "1.5" in choice.reason


@pytest.mark.parametrize("grouped", [False, True])
def test_uneven_classes_get_one_and_the_reason_says_what_was_measured(grouped: bool) -> None:
    choice = choose({"cell": 3000, "clot": 250, "other": 260}, grouped)
    assert [name_of(trick) for trick in choice.policy] == ["up_sampling"]
    assert "clot" in choice.reason and "250" in choice.reason and "12.0" in choice.reason


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=30), st.booleans())
def test_what_is_chosen_passes_the_checks(numbers: list[int], grouped: bool) -> None:
    counts = {str(k): n for k, n in enumerate(numbers)}
    choice = choose(counts, grouped)
    assert bool(choice.policy) == (max(numbers) > LEVEL * min(numbers))
    recipe = with_policy(SMOOTH, choice.policy)
    facts = Facts(tuple(counts), n_train=sum(numbers), counts=tuple(numbers))
    assert {finding.where for finding in recipe.check(facts)} & {"balance", "regularise"} <= {"regularise"}
    assert "balance_twice" not in {finding.cause for finding in recipe.check(facts)}


def test_a_policy_takes_the_place_of_another() -> None:
    recipe = with_policy(Recipe(balance=(TwoPart(),)), (UpSampling(),))
    assert recipe.balance == (UpSampling(),)
    assert with_policy(recipe, ()).balance == ()


@pytest.mark.parametrize("policy", [ClassWeights(), LogitAdjustment()])
def test_a_policy_of_the_loss_takes_smoothing_out_and_nothing_else(policy: object) -> None:
    assert with_policy(SMOOTH, (policy,)).regularise == (L2(),)
    assert with_policy(SMOOTH, (UpSampling(),)).regularise == SMOOTH.regularise


@pytest.mark.parametrize(
    ("policy", "counts", "warned"),
    [
        (LogitAdjustment(), (1000, 10), True),
        (ClassWeights(), (1000, 10), True),
        (ClassWeights(power=0.25), (1000, 300), False),
        (LogitAdjustment(), (1000, 900), False),
        (UpSampling(), (1000, 10), False),
    ],
)
def test_smoothing_beside_a_policy_of_the_loss_is_told_where_it_matters(
    policy: object, counts: tuple[int, ...], warned: bool
) -> None:
    recipe = Recipe(balance=(policy,), regularise=(LabelSmoothing(0.2),))
    facts = Facts(("a", "b"), n_train=sum(counts), counts=counts)
    found = [finding for finding in recipe.check(facts) if finding.cause == "balance_of_smoothed_labels"]
    assert len(found) == warned
    assert all("regularise without label_smoothing" in finding.remedies for finding in found)
    unsmoothed = with_policy(recipe, recipe.balance).check(facts)
    if warned:
        assert "balance_of_smoothed_labels" not in {finding.cause for finding in unsmoothed}


@pytest.mark.parametrize("side", [32, 128])
def test_a_draft_has_the_policy_and_its_reason_unless_told_not_to(side: int) -> None:
    counts = {"cell": 3000, "clot": 250}
    profile = Profile(
        3250,
        500,
        500,
        counts,
        (32.0,) * 5,
        (32.0,) * 5,
        False,
        0,
        0,
        12.0,
        False,
        True,
        (0.5,) * 3,
        (0.2,) * 3,
    )
    facts = (profile, Input(side, side, 3), MACHINE, MirrorTest(100, 0.8, 0.79, 0.1), 0)
    recipe, reasons = draft(*facts)
    assert recipe.balance == (UpSampling(),)
    assert [reason.value for reason in reasons if reason.choice == "balance"] == ["up_sampling"]
    without, fewer = draft(*facts, balanced=False)
    assert without == dataclasses.replace(recipe, balance=())
    assert [reason for reason in reasons if reason.choice != "balance"] == list(fewer)
