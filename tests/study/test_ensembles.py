"""Which models to join: golden values, and choices on made probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convclinic.study.ensembles import (
    best_single,
    diversity,
    equal,
    estimated,
    gained,
    greedy,
    log_loss,
    mixed,
    shares,
    tempered,
)


def noisy(m: int, n: int = 400, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (m, n, k) of models that err independently, and labels (n,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    logits = rng.standard_normal((m, n, k)) * 1.5
    logits[:, np.arange(n), labels] += 1.0
    exponent = np.exp(logits)
    return exponent / exponent.sum(2, keepdims=True), labels


def test_golden_values() -> None:
    probabilities = np.array([[[0.8, 0.2], [0.4, 0.6]], [[0.6, 0.4], [0.1, 0.9]]])
    labels = np.array([0, 1])
    assert equal(probabilities, labels).tolist() == [0.5, 0.5]
    mean = mixed(equal(probabilities, labels), probabilities)
    np.testing.assert_allclose(mean, [[0.7, 0.3], [0.25, 0.75]])
    assert log_loss(mean, labels) == pytest.approx(-(math.log(0.7) + math.log(0.75)) / 2)
    assert best_single(probabilities, labels).tolist() == [0.0, 1.0]
    assert diversity(probabilities) == 0.0
    assert diversity(np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.8, 0.2]]])) == 0.5


def test_joining_models_that_err_independently_helps_and_is_seen_to() -> None:
    probabilities, labels = noisy(5)
    joint, single = mixed(equal(probabilities, labels), probabilities), probabilities[0]
    gain, low, high = gained(joint, single, labels)
    assert gain == pytest.approx((joint.argmax(1) == labels).mean() - (single.argmax(1) == labels).mean())
    assert 0 < low < gain < high
    assert estimated(equal, probabilities, labels, 0) < estimated(best_single, probabilities, labels, 0)


def test_greedy_leaves_out_what_harms() -> None:
    probabilities, labels = noisy(4)
    probabilities[3] = 1 / 3
    probabilities[3, :, 0] = 0.9
    probabilities[3, :, 1:] = 0.05
    weights = greedy(probabilities, labels)
    assert weights.sum() == pytest.approx(1.0) and weights[3] < 0.05
    assert log_loss(mixed(weights, probabilities), labels) <= log_loss(probabilities.mean(0), labels)


def test_what_a_choice_is_worth_is_judged_on_other_images() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 60)
    noise = rng.dirichlet([1.0, 1.0], (40, 60))  # forty models that know nothing
    chosen = log_loss(mixed(greedy(noise, labels), noise), labels)
    assert estimated(greedy, noise, labels, 0) > chosen + 0.05


def test_a_classifier_is_judged_at_a_temperature_chosen_on_other_images() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 600)
    logits = rng.standard_normal((600, 3))
    logits[np.arange(600), labels] += 1.0
    right = tempered(logits, labels, 0)
    assert tempered(10 * logits, labels, 0) == pytest.approx(right, rel=0.01)  # its scale does not matter
    exponent = np.exp(logits)
    assert right == pytest.approx(log_loss(exponent / exponent.sum(1, keepdims=True), labels), rel=0.05)
    few = rng.standard_normal((12, 3)) * 4  # knows nothing: on twelve images any temperature is luck
    own = min(
        log_loss(np.exp(few / t) / np.exp(few / t).sum(1, keepdims=True), labels[:12])
        for t in np.geomspace(0.05, 20, 400)
    )
    assert tempered(few, labels[:12], 0) > own


def test_a_members_share_is_the_spread_of_its_part_of_the_logits() -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((50, 2)), rng.standard_normal((50, 3)) + 100.0, np.full((50, 1), 7.0)]
    weight = rng.standard_normal((4, 6))
    weight[:, 2:5] = 0.0
    # a constant moves nothing, whatever its weight
    np.testing.assert_allclose(shares(inputs, weight), [1.0, 0.0, 0.0], atol=1e-9)
    weight[:, 2:5] = 1.0
    parts = [np.sqrt((inputs[0] @ weight[:, :2].T).var(0).sum()), 2 * inputs[1].sum(1).std()]
    np.testing.assert_allclose(shares(inputs, weight), [*(np.array(parts) / sum(parts)), 0.0], atol=1e-9)
