import pytest

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.transfer.head_first import HeadFirst

STAGES = ("a", "b", "c")


def test_golden_values_of_the_source():
    # Deep Learning Clinic, 2018: freeze all but the head, then a tenth of the original LR
    trick = HeadFirst(until=0.25)
    assert [trick.rate(depth, STAGES, 0.2) for depth in range(4)] == [0, 0, 0, 1]
    assert [trick.rate(depth, STAGES, 0.25) for depth in range(4)] == [0.1] * 4
    assert [trick.rate(depth, STAGES, 1.0) for depth in range(4)] == [0.1] * 4


def test_off_is_a_factor_of_one():
    trick = HeadFirst(**HeadFirst.OFF)  # pyright: ignore[reportArgumentType]
    assert {trick.rate(depth, STAGES, progress) for depth in range(4) for progress in (0.0, 1.0)} == {1.0}


@pytest.mark.parametrize("options", [{"until": -0.1}, {"until": 1.5}, {"then": 0.0}, {"then": float("inf")}])
def test_what_makes_no_sense_is_refused(options: dict[str, float]):
    with pytest.raises(ConvclinicError, match="head_first"):
        HeadFirst(**options)
