import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.schedule.batch_scaling import BatchScaling

size = st.integers(1, 10**5)


def test_golden_values_of_the_sources():
    # Goyal et al. 2017, section 2.1 and table 1: 0.1 at 256, so 3.2 at 8192 and 0.0125 at 32
    linear = BatchScaling(rule="linear")
    assert [0.1 * linear.scale(b) for b in (32, 256, 8192)] == pytest.approx([0.0125, 0.1, 3.2])
    # Krizhevsky 2014, section 5: k times the batch, sqrt(k) times the LR; there from 128
    sqrt = BatchScaling(rule="sqrt", reference=128)
    assert [sqrt.scale(b) for b in (128, 512, 2048)] == pytest.approx([1, 2, 4])


@settings(deadline=None, derandomize=True)
@given(size, size, size)
def test_scaling_there_and_on_is_scaling_at_once(a, b, c):
    for rule in ("linear", "sqrt"):
        by_way = BatchScaling(rule, a).scale(b) * BatchScaling(rule, b).scale(c)
        assert by_way == pytest.approx(BatchScaling(rule, a).scale(c))
    assert BatchScaling("sqrt", a).scale(b) ** 2 == pytest.approx(BatchScaling("linear", a).scale(b))


def test_at_the_reference_and_by_progress_nothing_changes():
    for rule in ("linear", "sqrt"):
        assert BatchScaling(rule, 100).scale(100) == 1
        assert BatchScaling(rule).factor(0.0) == BatchScaling(rule).factor(0.7) == 1


def test_outside_is_refused():
    with pytest.raises(ConvclinicError, match="did you mean 'linear'"):
        BatchScaling(rule="linaer")
    with pytest.raises(ConvclinicError, match="reference"):
        BatchScaling(reference=0)
