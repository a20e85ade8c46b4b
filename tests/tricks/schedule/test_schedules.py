import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.schedule.constant import Constant
from convclinic.tricks.schedule.cosine import Cosine
from convclinic.tricks.schedule.cyclic_cosine import CyclicCosine
from convclinic.tricks.schedule.exponential import Exponential
from convclinic.tricks.schedule.inverse import Inverse
from convclinic.tricks.schedule.linear import Linear
from convclinic.tricks.schedule.one_cycle import OneCycle
from convclinic.tricks.schedule.step import Step
from convclinic.tricks.schedule.warm_up import WarmUp

share = st.floats(0, 1)
made = st.one_of(
    st.tuples(st.just(Constant), st.just({})),
    st.tuples(st.just(Linear), st.fixed_dictionaries({"end": share})),
    st.tuples(st.just(Cosine), st.fixed_dictionaries({"end": share})),
    st.tuples(st.just(CyclicCosine), st.fixed_dictionaries({"cycles": st.integers(1, 9), "end": share})),
    st.tuples(st.just(Exponential), st.fixed_dictionaries({"final": st.floats(1e-6, 1)})),
    st.tuples(st.just(Inverse), st.fixed_dictionaries({"k": st.floats(0, 1e6)})),
    st.tuples(st.just(OneCycle), st.fixed_dictionaries({"warmup": share, "start": share, "end": share})),
    st.tuples(st.just(WarmUp), st.fixed_dictionaries({"share": share, "start": share})),
    st.tuples(
        st.just(Step),
        st.fixed_dictionaries(
            {"gamma": st.floats(0.01, 1), "milestones": st.lists(share, max_size=4).map(tuple)}
        ),
    ),
)
falling = st.one_of(
    st.builds(Linear, end=share),
    st.builds(Cosine, end=share),
    st.builds(Exponential, final=st.floats(1e-6, 1)),
    st.builds(Inverse, k=st.floats(0, 1e6)),
)


def last(schedule) -> float:
    """The factor at the end, by the card."""
    if isinstance(schedule, Inverse):
        return 1 / (1 + schedule.k)
    return schedule.final if isinstance(schedule, Exponential) else schedule.end


@settings(deadline=None, derandomize=True)
@given(made, share)
def test_factor_lies_between_0_and_1(made, progress):
    kind, options = made
    assert 0 <= kind(**options).factor(progress) <= 1 + 1e-12


@settings(deadline=None, derandomize=True)
@given(falling, share, share)
def test_decays_start_at_1_end_at_end_and_never_rise(schedule, a, b):
    assert schedule.factor(0.0) == 1
    assert schedule.factor(1.0) == pytest.approx(last(schedule))
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


@settings(deadline=None, derandomize=True)
@given(st.floats(0.01, 1), share, share)
def test_warm_up_is_the_line_to_1_and_stays_there(width, start, progress):
    expected = np.interp(progress, [0, width], [start, 1])
    assert WarmUp(share=width, start=start).factor(progress) == pytest.approx(expected, abs=1e-9)


def test_warm_up_times_linear_is_one_cycle_in_its_rise():
    """Factors are multiplied: what the second falls by meanwhile is not made up for."""
    rise, fall = WarmUp(share=0.2, start=0.0), Linear()
    assert [rise.factor(t) * fall.factor(t) for t in (0.1, 0.2, 0.6)] == pytest.approx([0.45, 0.8, 0.4])
    assert WarmUp(share=0.0).factor(0.0) == 1


@settings(deadline=None, derandomize=True)
@given(st.floats(0.001, 1), share, share)
def test_exponential_loses_the_same_share_in_the_same_time(final, a, b):
    factor = Exponential(final=final).factor
    assert factor(a) * factor(b) == pytest.approx(factor(a + b))


@settings(deadline=None, derandomize=True)
@given(st.floats(0, 1000), share)
def test_inverse_falls_at_k_times_its_square(k, progress):
    # what makes it 1 / t: df/dt = -k f^2, here by central differences
    factor, h = Inverse(k=k).factor, 1e-6
    slope = (factor(progress + h) - factor(progress - h)) / (2 * h)
    assert slope == pytest.approx(-k * factor(progress) ** 2, rel=1e-4, abs=1e-6)


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
    # warm-up: Goyal et al. 2017: LR 0.1 to 3.2 over the first 5 of 90 epochs
    rise = WarmUp(share=5 / 90, start=0.1 / 3.2)
    lrs = [3.2 * rise.factor(epoch / 90) for epoch in (0, 2.5, 5, 90)]
    assert lrs == pytest.approx([0.1, 1.65, 3.2, 3.2])
    # inverse: a0 / (1 + k t) by hand
    assert [Inverse(k=4.0).factor(t) for t in (0.0, 0.25, 1.0)] == pytest.approx([1, 0.5, 0.2])


def theirs(make) -> list[float]:
    """The LRs of 20 steps under one of torch's schedulers, from 1."""
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimiser)
    factors = []
    for _ in range(20):
        factors.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return factors


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (Cosine(end=0.0), lambda o: lr_scheduler.CosineAnnealingLR(o, 20, eta_min=0.0)),
        (Cosine(end=0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, 20, eta_min=0.1)),
        (Step(gamma=0.2), lambda o: lr_scheduler.MultiStepLR(o, [10, 15], gamma=0.2)),
        (
            Step(gamma=0.3, milestones=(0.25, 0.5, 0.75)),
            lambda o: lr_scheduler.StepLR(o, 5, gamma=0.3),
        ),
        (Linear(end=0.2), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.2, total_iters=20)),
        (
            WarmUp(share=0.35, start=0.25),
            lambda o: lr_scheduler.LinearLR(o, 0.25, 1.0, total_iters=7),
        ),
        (Exponential(final=0.05), lambda o: lr_scheduler.ExponentialLR(o, 0.05 ** (1 / 20))),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_equals_torchs_scheduler(schedule, make):
    assert [schedule.factor(k / 20) for k in range(20)] == pytest.approx(theirs(make))


@pytest.mark.parametrize("kind", [Linear, Cosine, OneCycle, Step, Exponential, Inverse, WarmUp])
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
        lambda: Exponential(final=0.0),
        lambda: Exponential(final=1.5),
        lambda: Inverse(k=-1.0),
        lambda: Inverse(k=math.inf),
        lambda: WarmUp(share=5.0),
        lambda: WarmUp(start=-0.1),
    ],
)
def test_outside_is_refused(make):
    with pytest.raises(ConvclinicError, match=r"must lie in|shares"):
        make()


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 6), st.integers(2, 40), st.floats(0, 0.9))
def test_cyclic_cosine_is_torchs_warm_restarts_at_equal_lengths(cycles, length, end):
    """T_0 steps a cycle and T_mult 1; also the formula of Huang et al. 2017, equation 2."""
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = lr_scheduler.CosineAnnealingWarmRestarts(optimiser, T_0=length, eta_min=end)
    schedule, total = CyclicCosine(cycles=cycles, end=end), cycles * length
    for step in range(total):
        assert schedule.factor(step / total) == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-6)
        paper = 0.5 * (math.cos(math.pi * (step % length) / length) + 1)
        assert schedule.factor(step / total) == pytest.approx(end + (1 - end) * paper, abs=1e-6)
        optimiser.step()
        theirs.step()
    assert schedule.factor(1.0) == pytest.approx(end)


@settings(deadline=None, derandomize=True)
@given(share, share)
def test_one_cycle_of_the_cyclic_cosine_is_the_cosine(end, progress):
    assert CyclicCosine(cycles=1, end=end).factor(progress) == pytest.approx(Cosine(end=end).factor(progress))


def test_a_cycle_is_one_or_more():
    with pytest.raises(ConvclinicError, match="cycles must be at least 1"):
        CyclicCosine(cycles=0)
    with pytest.raises(ConvclinicError, match="cyclic_cosine's end"):
        CyclicCosine(end=1.5)
