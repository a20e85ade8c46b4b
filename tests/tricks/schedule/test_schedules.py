import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.schedule.constant import Constant
from convclinic.tricks.schedule.cosine import Cosine
from convclinic.tricks.schedule.linear import Linear
from convclinic.tricks.schedule.one_cycle import OneCycle
from convclinic.tricks.schedule.step import Step

share = st.floats(0, 1)
made = st.one_of(
    st.tuples(st.just(Constant), st.just({})),
    st.tuples(st.just(Linear), st.fixed_dictionaries({"end": share})),
    st.tuples(st.just(Cosine), st.fixed_dictionaries({"end": share})),
    st.tuples(st.just(OneCycle), st.fixed_dictionaries({"warmup": share, "start": share, "end": share})),
    st.tuples(
        st.just(Step),
        st.fixed_dictionaries(
            {"gamma": st.floats(0.01, 1), "milestones": st.lists(share, max_size=4).map(tuple)}
        ),
    ),
)


@settings(deadline=None, derandomize=True)
@given(made, share)
def test_factor_lies_between_0_and_1(made, progress):
    kind, options = made
    assert 0 <= kind(**options).factor(progress) <= 1 + 1e-12


@settings(deadline=None, derandomize=True)
@given(st.one_of(st.builds(Linear, end=share), st.builds(Cosine, end=share)), share, share)
def test_decays_start_at_1_end_at_end_and_never_rise(schedule, a, b):
    assert schedule.factor(0.0) == 1
    assert schedule.factor(1.0) == pytest.approx(schedule.end)
    assert schedule.factor(min(a, b)) >= schedule.factor(max(a, b)) - 1e-12


@settings(deadline=None, derandomize=True)
@given(st.floats(0.01, 0.99), share, share, share)
def test_one_cycle_is_the_line_through_its_three_points(warmup, start, end, progress):
    schedule = OneCycle(warmup=warmup, start=start, end=end)
    expected = np.interp(progress, [0, warmup, 1], [start, 1, end])
    assert schedule.factor(progress) == pytest.approx(expected, abs=1e-9)


def test_one_cycle_at_its_edges():
    assert OneCycle(warmup=0.0).factor(0.0) == 1
    assert OneCycle(warmup=1.0).factor(1.0) == 1
    assert OneCycle(warmup=0.0, end=0.0).factor(0.3) == Linear().factor(0.3)


def test_golden_values():
    # linear: cifar10-airbench multiplies by 1 - step / total_steps, 200 steps of 8 epochs
    assert [Linear().factor(step / 200) for step in (0, 50, 199)] == pytest.approx([1, 0.75, 0.005])
    # cosine: Loshchilov and Hutter, equation 5, at a third and two thirds: (1 + 1/2) / 2 and (1 - 1/2) / 2
    assert [Cosine().factor(t) for t in (1 / 3, 2 / 3)] == pytest.approx([0.75, 0.25])
    # one cycle: airbench94 (2024) rises from 0.2 to 1 at 0.23 of training and falls to 0.07
    assert [OneCycle().factor(t) for t in (0.0, 0.115, 0.23, 1.0)] == pytest.approx([0.2, 0.6, 1, 0.07])
    # step: He et al. 2016, section 4.2: LR 0.1, divided by 10 at 32k and 48k of 64k iterations
    lrs = [0.1 * Step().factor(k / 64) for k in (0, 31.9, 32, 47.9, 48, 64)]
    assert lrs == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("end", [0.0, 0.1])
def test_cosine_and_step_equal_those_of_torch(end):
    def theirs(make) -> list[float]:
        optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        scheduler = make(optimiser)
        factors = []
        for _ in range(20):
            factors.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            scheduler.step()
        return factors

    cosine = theirs(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20, eta_min=end))
    assert [Cosine(end=end).factor(k / 20) for k in range(20)] == pytest.approx(cosine)
    step = theirs(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [10, 15], gamma=0.2))
    assert [Step(gamma=0.2).factor(k / 20) for k in range(20)] == pytest.approx(step)


@pytest.mark.parametrize("kind", [Linear, Cosine, OneCycle, Step])
def test_off_is_constant(kind):
    schedule = kind(**kind.OFF)
    assert [schedule.factor(t) for t in (0.0, 0.3, 0.9, 1.0)] == pytest.approx([1] * 4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(end=-0.1),
        lambda: Cosine(end=1.1),
        lambda: OneCycle(warmup=2.0),
        lambda: OneCycle(start=math.nan),
        lambda: Step(gamma=0.0),
        lambda: Step(milestones=(30.0, 60.0)),
    ],
)
def test_outside_is_refused(make):
    with pytest.raises(ConvclinicError, match=r"must lie in|shares"):
        make()
