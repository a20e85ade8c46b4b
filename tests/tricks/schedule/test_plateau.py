import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ReduceLROnPlateau

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Watch
from convclinic.tricks.schedule.plateau import Plateau

accuracies = st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=1, max_size=60)


def observed(trick: Plateau, metrics: list[float]) -> list[float]:
    """The scale after each evaluation."""
    watch, scales = Watch(), []
    for metric in metrics:
        watch = trick.observe(watch, metric)
        scales.append(watch.scale)
    return scales


@settings(deadline=None, derandomize=True, max_examples=40)
@given(accuracies, st.integers(1, 5), st.sampled_from([1.5, 2.0, 5.0]), st.sampled_from([0.0, 0.07, 0.3]))
def test_equals_torchs_reduce_on_plateau(metrics, patience, divide_by, threshold):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = ReduceLROnPlateau(
        optimiser,
        mode="max",
        factor=1 / divide_by,
        patience=patience - 1,  # torch's is the number it still bears
        threshold=threshold,
        threshold_mode="abs",
        min_lr=0.01,
        eps=0.0,
    )
    expected = []
    for metric in metrics:
        theirs.step(metric)
        expected.append(optimiser.param_groups[0]["lr"])
    trick = Plateau(divide_by=divide_by, patience=patience, threshold=threshold, least=0.01)
    assert observed(trick, metrics) == pytest.approx(expected)


def test_golden_sequence_by_hand():
    # patience 2: the second evaluation in a row without a better one divides, and counting starts anew
    metrics = [0.5, 0.6, 0.6, 0.6, 0.59, 0.7, 0.7, 0.7]
    assert observed(Plateau(divide_by=5.0, patience=2), metrics) == pytest.approx(
        [1, 1, 1, 0.2, 0.2, 0.2, 0.2, 0.04]
    )


@settings(deadline=None, derandomize=True, max_examples=40)
@given(accuracies, st.floats(1, 10), st.integers(1, 4), st.floats(0, 1))
def test_scale_never_rises_and_keeps_its_least(metrics, divide_by, patience, least):
    scales = observed(Plateau(divide_by=divide_by, patience=patience, least=least), metrics)
    assert all(a >= b for a, b in zip([1.0, *scales], scales, strict=False))
    assert min(scales) >= least


@settings(deadline=None, derandomize=True, max_examples=40)
@given(accuracies, accuracies)
def test_a_resume_from_the_watch_goes_on_as_if_nothing_had_been(first, second):
    trick = Plateau(patience=2)
    watch = Watch()
    for metric in first:
        watch = trick.observe(watch, metric)
    resumed = Watch(*tuple(watch))  # what a checkpoint holds: three numbers
    for metric in second:
        watch, resumed = trick.observe(watch, metric), trick.observe(resumed, metric)
    assert watch == resumed


def test_what_is_remembered_is_not_changed_and_progress_changes_nothing():
    trick, watch = Plateau(patience=1), Watch(0.5, 0.9, 0)
    assert trick.observe(watch, 0.8) == Watch(0.25, 0.9, 0)
    assert watch == Watch(0.5, 0.9, 0)
    assert trick.factor(0.3) == trick.factor(1.0) == 1


def test_not_a_number_is_no_improvement():
    assert observed(Plateau(patience=1), [math.nan, 0.5, math.nan]) == [0.5, 0.5, 0.25]


def test_divide_by_1_is_off():
    assert set(observed(Plateau(**Plateau.OFF), [0.5] * 20)) == {1.0}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"divide_by": 0.5}, "divide_by"),
        ({"divide_by": math.nan}, "divide_by"),
        ({"patience": 0}, "patience"),
        ({"threshold": -0.1}, "threshold"),
        ({"least": 2.0}, "least"),
    ],
)
def test_outside_is_refused(options, word):
    with pytest.raises(ConvclinicError, match=f"plateau's {word}"):
        Plateau(**options)
