import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize, special
from scipy import stats as scipy_stats
from sklearn import metrics

from convclinic.ground.stats import (
    balanced_accuracy,
    calibration,
    confusion,
    fit_temperature,
    per_class,
    reject_threshold,
    wilson,
)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [  # Newcombe, Two-sided confidence intervals for the single proportion, 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_has_the_published_values(hits, n, low, high):
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(case):
    hits, n = case
    expected = scipy_stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    low, high = wilson(hits, n)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert 0 <= low <= hits / n + 1e-12
    assert hits / n - 1e-12 <= high <= 1


def test_wilson_knows_nothing_without_data_and_more_with_more():
    assert wilson(0, 0) == (0.0, 1.0)
    narrow, wide = wilson(90, 100), wilson(9, 10)
    assert narrow[1] - narrow[0] < wide[1] - wide[0]
    assert wilson(50, 100, z=1.0)[0] > wilson(50, 100, z=2.0)[0]


labels = st.integers(1, 60).flatmap(
    lambda n: st.tuples(hnp.arrays(np.int64, n, elements=st.integers(0, 3)),
                        hnp.arrays(np.int64, n, elements=st.integers(0, 3)))
)  # fmt: skip


@settings(deadline=None, derandomize=True)
@given(labels)
def test_counts_and_scores_agree_with_scikit_learn(case):
    targets, predictions = case
    matrix = confusion(targets, predictions, 4)
    assert np.array_equal(matrix, metrics.confusion_matrix(targets, predictions, labels=range(4)))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        targets, predictions, labels=range(4), zero_division=0
    )
    for k, row in enumerate(per_class(matrix)):
        assert row["support"] == support[k]
        assert (row["precision"] or 0) == pytest.approx(precision[k])
        assert (row["recall"] or 0) == pytest.approx(recall[k])
        assert (row["f1"] or 0) == pytest.approx(f1[k])
        assert (row["precision"] is None) == (k not in predictions)
        assert (row["recall"] is None) == (k not in targets)
        assert (row["f1"] is None) == (k not in targets)
    present = support > 0
    assert balanced_accuracy(matrix) == pytest.approx(recall[present].mean())


def test_rows_are_true_classes():
    assert confusion(np.array([0, 0, 1]), np.array([1, 1, 1]), 3).tolist() == [[0, 2, 0], [0, 1, 0], [0] * 3]


def test_balanced_accuracy_of_nothing():
    assert balanced_accuracy(np.zeros((3, 3), np.int64)) == 0.0
    assert balanced_accuracy(np.array([[8, 2], [0, 1]])) == pytest.approx(0.9)


def test_calibration_by_hand():
    probabilities = np.array([[0.95, 0.05], [0.92, 0.08], [0.4, 0.6], [0.32, 0.68], [0.0, 1.0]])
    targets = np.array([0, 1, 1, 0, 1])
    made = calibration(targets, probabilities, bins=10)
    # bins: 0.6 and 0.68 (1 of 2 right), then 0.95, 0.92 and 1.0 (2 of 3 right)
    assert [point["count"] for point in made["points"]] == [2, 3]
    assert [point["confidence"] for point in made["points"]] == pytest.approx([0.64, 0.95667], abs=1e-5)
    assert [point["accuracy"] for point in made["points"]] == pytest.approx([0.5, 2 / 3])
    assert made["ece"] == pytest.approx(2 / 5 * 0.14 + 3 / 5 * 0.29, abs=1e-9)


def test_certain_and_right_is_calibrated_and_certain_and_wrong_is_not():
    probabilities = np.eye(3)
    assert calibration(np.arange(3), probabilities)["ece"] == 0
    assert calibration(np.roll(np.arange(3), 1), probabilities)["ece"] == 1


def drawn(seed, n=200, k=4, scale=3.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k)) * scale
    targets = np.where(rng.random(n) < 0.6, logits.argmax(1), rng.integers(0, k, n))
    return targets, logits


def log_loss(targets, logits, temperature):
    return -special.log_softmax(logits / temperature, axis=1)[np.arange(len(targets)), targets].mean()


@pytest.mark.parametrize("scale", [0.2, 1.0, 10.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_temperature_is_the_one_scipy_finds(seed, scale):
    targets, logits = drawn(seed, scale=scale)
    found = optimize.minimize_scalar(
        lambda t: log_loss(targets, logits, math.exp(t)),
        bounds=(math.log(0.05), math.log(20)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert fit_temperature(targets, logits) == pytest.approx(math.exp(found.x), rel=1e-4)


def test_the_temperature_scales_with_the_logits_and_ignores_their_offset():
    targets, logits = drawn(1)
    base = fit_temperature(targets, logits)
    assert fit_temperature(targets, 2 * logits) == pytest.approx(2 * base, rel=1e-5)
    assert fit_temperature(targets, logits + 1e4) == pytest.approx(base, rel=1e-5)


def test_the_temperature_stays_in_its_bounds():
    targets = np.arange(10) % 2
    right = np.eye(2)[targets]
    assert fit_temperature(targets, right) == pytest.approx(0.05, rel=1e-6)
    assert fit_temperature(1 - targets, 100 * right) == pytest.approx(20, rel=1e-6)
    assert math.isfinite(fit_temperature(targets, 1e5 * right))  # no overflow


@st.composite
def answers(draw):
    n = draw(st.integers(1, 40))
    # few distinct values, so that ties are common
    top = draw(hnp.arrays(np.float64, n, elements=st.sampled_from([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])))
    targets = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 1)))
    return targets, np.stack([top, 1 - top], 1)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(answers(), st.floats(0, 1))
def test_the_reject_threshold_keeps_its_word(case, wanted):
    targets, probabilities = case
    made = reject_threshold(targets, probabilities, wanted)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == targets

    def at(threshold):
        kept = confidence >= threshold
        return right[kept].mean(), kept.mean()

    accuracy, coverage = at(made["threshold"])
    assert made["accuracy"] == pytest.approx(accuracy)
    assert made["coverage"] == pytest.approx(coverage)
    options = {float(c): at(c) for c in confidence}
    enough = [c for c, (accuracy, _) in options.items() if accuracy >= wanted]
    if enough:
        assert made["threshold"] == min(enough)
    else:
        best = max(accuracy for accuracy, coverage in options.values() if coverage >= 0.1)
        assert made["accuracy"] == pytest.approx(best)
        assert made["coverage"] >= 0.1


def test_asking_for_more_accuracy_answers_fewer():
    targets, logits = drawn(0, n=500)
    probabilities = special.softmax(logits, axis=1)
    made = [reject_threshold(targets, probabilities, wanted) for wanted in (0.0, 0.7, 0.75, 0.8)]
    thresholds = [item["threshold"] for item in made]
    assert made[0]["coverage"] == 1
    assert thresholds == sorted(thresholds)
