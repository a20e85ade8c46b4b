import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.transfer.layer_decay import LayerDecay

STAGES = ("a", "b", "c", "d")


def test_golden_values_of_the_source():
    # Howard and Ruder, 2018: each layer's LR is that of the one above it divided by 2.6
    rates = [LayerDecay(decay=1 / 2.6).rate(depth, STAGES, 0.5) for depth in range(5)]
    assert rates[-1] == 1
    for lower, upper in itertools.pairwise(rates):
        assert upper / lower == pytest.approx(2.6)


@given(st.floats(0.01, 1), st.integers(0, 4), st.floats(0, 1))
def test_stages_learn_the_slower_the_lower_and_alike_all_the_time(decay: float, depth: int, progress: float):
    trick = LayerDecay(decay=decay)
    assert 0 < trick.rate(depth, STAGES, progress) <= trick.rate(4, STAGES, progress) == 1
    assert trick.rate(depth, STAGES, progress) == trick.rate(depth, STAGES, 0.0)


@pytest.mark.parametrize("decay", [0.0, -0.1, 1.1, float("nan")])
def test_what_is_no_decay_is_refused(decay: float):
    with pytest.raises(ConvclinicError, match="decay"):
        LayerDecay(decay=decay)
