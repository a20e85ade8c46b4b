import pytest
from hypothesis import given
from hypothesis import strategies as st

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.transfer.gradual import Gradual

STAGES = ("a", "b", "c", "d")


def test_golden_values():
    # by hand: of four stages until 0.8, one joins at each fifth of training, the last first
    trick = Gradual(until=0.8)
    learning = [[trick.rate(depth, STAGES, progress) for depth in range(5)] for progress in (0.0, 0.2, 0.5)]
    assert learning == [[0, 0, 0, 0, 1], [0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]
    assert [trick.rate(depth, STAGES, 0.8) for depth in range(5)] == [1] * 5


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_what_learns_goes_on_and_so_does_all_above_it(until: float, one: float, other: float):
    trick, (early, late) = Gradual(until=until), sorted((one, other))
    before = [trick.rate(depth, STAGES, early) for depth in range(5)]
    after = [trick.rate(depth, STAGES, late) for depth in range(5)]
    assert before == sorted(before)
    assert all(a <= b for a, b in zip(before, after, strict=True))
    assert [trick.rate(depth, STAGES, 1.0) for depth in range(5)] == [1] * 5


def test_a_share_beyond_training_is_refused():
    with pytest.raises(ConvclinicError, match="until"):
        Gradual(until=1.2)
