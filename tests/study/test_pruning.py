"""Which trainings of a search are given up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convclinic.study.pruning import EARLIEST, FULL, Curve, hope

SHARES = (0.25, 0.5, 0.75, 1.0)


def curve(*scores: float) -> Curve:
    return Curve(SHARES[: len(scores)], scores)


FINISHED = (curve(0.5, 0.6, 0.7, 0.8), curve(0.4, 0.6, 0.8, 0.9), curve(0.2, 0.3, 0.4, 0.5))


def test_what_would_have_to_gain_more_than_any_other_did_is_lost() -> None:
    found = hope(curve(0.3, 0.55), FINISHED)
    assert found is not None and found.lost
    assert found.least == pytest.approx(0.1 / 0.4) and found.needed == pytest.approx(0.1)
    assert found.words() == (
        "from here no training brought its error below 25% of what it was, and this one needs 22%"
    )


def test_what_could_still_become_the_best_goes_on() -> None:
    found = hope(curve(0.3, 0.61), FINISHED)
    assert found is not None and not found.lost


def test_nothing_is_judged_before_a_few_are_finished_or_at_the_very_beginning() -> None:
    assert hope(curve(0.1), FINISHED[: FULL - 1]) is None
    assert hope(Curve((EARLIEST / 2,), (0.1,)), FINISHED) is None


def test_between_validations_a_straight_line_and_never_downwards() -> None:
    one = curve(0.5, 0.4, 0.7, 0.6)
    assert one.best == 0.7
    assert one.at(0.5) == 0.5 and one.at(0.625) == pytest.approx(0.6) and one.at(1.0) == 0.7


scores = st.lists(st.floats(0.01, 0.99), min_size=4, max_size=4)


@given(st.lists(scores, min_size=FULL, max_size=6), st.integers(1, 4))
def test_no_training_is_given_up_that_ends_as_the_best_of_those_it_is_judged_by(
    rows: list[list[float]], seen: int
) -> None:
    """A finished training is among those that say what can be hoped for: seen again, the best is not lost."""
    finished = [curve(*row) for row in rows]
    best = max(finished, key=lambda one: one.best)
    found = hope(Curve(SHARES[:seen], best.scores[:seen]), finished)
    assert found is not None and found.error * found.least <= found.needed * (1 + 1e-9)
