"""Which trainings of a search are given up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convclinic.study.pruning import EARLIEST, FULL, Curve, standing

SHARES = (0.25, 0.5, 0.75, 1.0)


def curve(*scores: float) -> Curve:
    return Curve(SHARES[: len(scores)], scores)


FINISHED = (curve(0.5, 0.6, 0.7, 0.8), curve(0.4, 0.55, 0.8, 0.9), curve(0.2, 0.3, 0.4, 0.5))


def test_what_is_clearly_below_the_median_of_the_finished_is_given_up() -> None:
    found = standing(curve(0.3, 0.4), FINISHED, 100)
    assert found is not None and found.behind and (found.median, found.n) == (0.55, 3)
    assert (
        found.words() == "after 50% of training it scores 40.0%, the median of 3 finished ones 55.0% ± 5.0%"
    )
    at_it, above = standing(curve(0.3, 0.55), FINISHED, 100), standing(curve(0.1, 0.7), FINISHED, 100)
    assert at_it is not None and above is not None and not at_it.behind and not above.behind


@pytest.mark.parametrize(("images", "behind"), [(100, False), (10_000, True)])
def test_what_chance_explains_on_so_few_images_is_not_held_against_it(images: int, behind: bool) -> None:
    found = standing(curve(0.3, 0.5), FINISHED, images)  # beside 0.55 ± 0.05, or ± 0.005
    assert found is not None and found.behind == behind


def test_a_curve_is_judged_by_its_best_so_far() -> None:
    found = standing(curve(0.6, 0.1), FINISHED, 100)
    assert found is not None and found.score == 0.6 and not found.behind


def test_nothing_is_judged_before_a_few_are_finished_or_at_the_very_beginning() -> None:
    assert standing(curve(0.1), FINISHED[: FULL - 1], 100) is None
    assert standing(Curve((EARLIEST / 2,), (0.1,)), FINISHED, 100) is None


def test_between_validations_a_straight_line_and_never_downwards() -> None:
    one = curve(0.5, 0.4, 0.7, 0.6)
    assert one.best == 0.7
    assert one.at(0.5) == 0.5 and one.at(0.625) == pytest.approx(0.6) and one.at(1.0) == 0.7


scores = st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4)


@given(st.lists(scores, min_size=FULL, max_size=7), st.integers(1, 4))
def test_at_least_half_of_the_finished_would_be_let_through(rows: list[list[float]], seen: int) -> None:
    finished = [curve(*row) for row in rows]
    again = [standing(Curve(SHARES[:seen], one.scores[:seen]), finished, 10**9) for one in finished]
    assert 2 * sum(one is not None and not one.behind for one in again) >= len(rows)
