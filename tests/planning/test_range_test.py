import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convclinic.planning.range_test import read

STEPS = 60
FACTORS = [30 ** (2 * i / (STEPS - 1) - 1) for i in range(STEPS)]


def valley(falls_at, turns_at):
    """A loss that falls from 2 to 1 around one factor and climbs steeply from another on."""
    return [
        2 - 1 / (1 + math.exp(-4 * math.log(f / falls_at))) + max(0.0, math.log(f / turns_at)) ** 2 * 4
        for f in FACTORS
    ]


def noise(amount, seed):
    return (amount * np.random.default_rng(seed).normal(size=STEPS)).tolist()


def added(a, b):
    return [x + y for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize(("falls_at", "turns_at"), [(0.2, 2.0), (0.5, 5.0), (0.1, 1.0)])
def test_the_fall_and_the_turn_are_found(falls_at, turns_at):
    result = read(FACTORS, valley(falls_at, turns_at))
    assert result.steps == STEPS
    # smoothing looks back a few steps of a factor 1.12 each
    assert falls_at / 1.5 < result.steepest < falls_at * 3
    assert result.limit is not None
    assert turns_at * 1.2 < result.limit < turns_at * 4


@pytest.mark.parametrize(("falls_at", "turns_at"), [(0.2, 2.0), (0.5, 5.0), (0.1, 1.0)])
def test_a_clean_curve_is_believed_though_it_ends_in_a_climb(falls_at, turns_at):
    assert read(FACTORS, valley(falls_at, turns_at)).confidence > 0.5


def test_an_earlier_turn_is_an_earlier_limit():
    limits = [read(FACTORS, valley(0.1, turns_at)).limit for turns_at in (0.5, 1.0, 2.0, 4.0)]
    assert None not in limits
    assert limits == sorted(limits)
    assert len(set(limits)) == 4


def test_a_loss_that_only_falls_has_no_limit():
    result = read(FACTORS, valley(1.0, 1e9))
    assert result.limit is None
    assert result.confidence > 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [30, 59])
def test_a_loss_that_is_no_number_is_the_limit(bad, at):
    losses = [*valley(0.1, 1e9)[:at], bad]
    result = read(FACTORS[: at + 1], losses)
    assert result.limit == FACTORS[at]
    assert result.steps == at + 1
    assert math.isfinite(result.steepest)
    assert 0 < result.confidence <= 1


@pytest.mark.parametrize("finite", range(5))
def test_too_few_numbers_say_nothing(finite):
    losses = [1.0] * finite + [math.nan]
    result = read(FACTORS[: len(losses)], losses)
    assert result.confidence == 0
    assert result.limit in FACTORS[: len(losses)]


def test_a_flat_loss_says_nothing():
    result = read(FACTORS, [2.3] * STEPS)
    assert result.limit is None
    assert result.confidence < 0.1


def test_a_rising_loss_says_nothing_for_any_lr():
    result = read(FACTORS, [1.0 + 0.1 * i for i in range(STEPS)])
    assert result.confidence == 0
    assert result.limit is not None


@pytest.mark.parametrize("seed", range(5))
def test_noise_lowers_the_confidence(seed):
    curve = valley(0.3, 5.0)
    confidence = [read(FACTORS, added(curve, noise(amount, seed))).confidence for amount in (0, 0.1, 0.5)]
    assert confidence == sorted(confidence, reverse=True)
    flat = read(FACTORS, added([2.3] * STEPS, noise(0.1, seed)))
    assert flat.confidence < confidence[0]
    assert flat.limit is None


@pytest.mark.parametrize("seed", range(5))
def test_a_little_noise_hardly_moves_the_turn(seed):
    clean = read(FACTORS, valley(0.3, 3.0)).limit
    noisy = read(FACTORS, added(valley(0.3, 3.0), noise(0.03, seed))).limit
    assert clean is not None
    assert noisy is not None
    assert 0.7 < noisy / clean < 1.4


def test_a_spike_on_the_way_down_is_not_the_turn():
    curve = valley(1.0, 1e9)
    curve[10] = 6.0
    assert read(FACTORS, curve).limit is None


@settings(deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1e6) | st.sampled_from([math.nan, math.inf]), min_size=1, max_size=STEPS))
def test_any_curve_is_judged_within_bounds(losses):
    ends = next((i + 1 for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    losses = losses[:ends]  # the sweep stops at the first that is no number
    result = read(FACTORS[:ends], losses)
    assert 0 <= result.confidence <= 1
    assert result.steepest in FACTORS
    assert result.limit is None or result.limit in FACTORS
    assert result.steps == ends
