"""Doubtful labels, confused classes and leaks: planted in digits, and absent from clean ones."""

from __future__ import annotations

import json
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from convclinic.clinic.data_health import confused_classes, examine, worst_images
from convclinic.clinic.label_doubts import label_suspects, random_labels
from convclinic.clinic.leaks import Leak, leakage_suspects
from convclinic.clinic.out_of_sample import nearest_probabilities, probed_probabilities
from convclinic.ground.errors import ConvclinicError

NAMES = tuple("0123456789")


class Case(NamedTuple):
    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    wrong: NDArray[np.bool_]
    probabilities: NDArray[np.float64]


@cache
def digits(noise: float, pixels: int = 64) -> Case:
    """Digits of which a share `noise` has another label at random, and their out-of-fold probabilities."""
    features, labels = load_digits(return_X_y=True)
    features, labels = features[:, :pixels] / 16, labels.astype(np.int64)
    rng = np.random.default_rng(3)
    wrong = rng.random(len(labels)) < noise
    labels = np.where(wrong, (labels + rng.integers(1, 10, len(labels))) % 10, labels)
    probe = LogisticRegression(max_iter=300, C=0.3)
    probabilities = cross_val_predict(probe, features, labels, cv=4, method="predict_proba")
    return Case(features, labels, wrong, probabilities)


def test_suspects_are_mostly_the_planted_labels() -> None:
    case = digits(0.05)
    suspects = label_suspects(case.labels, case.probabilities)
    found = case.wrong[suspects.indices]
    assert found.sum() >= 0.9 * case.wrong.sum()  # recall
    assert found.mean() >= 0.75  # precision
    assert found[:20].mean() >= 0.9
    assert (np.diff(suspects.confidence) >= 0).all()
    assert (suspects.suggested != case.labels[suspects.indices]).all()
    assert suspects.expected >= 0.8 * case.wrong.sum()


def test_thresholds_and_joint_are_those_of_confident_learning() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    p = np.array([0.9, 0.88, 0.02, 0.3, 0.1])
    suspects = label_suspects(labels, np.stack([p, 1 - p], axis=1))
    np.testing.assert_allclose(suspects.thresholds, [0.6, 0.8])  # means of 0.9 0.88 0.02, and of 0.7 0.9
    assert suspects.joint.tolist() == [[2, 1], [0, 1]]
    assert suspects.indices.tolist() == [2]
    assert suspects.suggested.tolist() == [1]
    assert suspects.expected == pytest.approx(1.0)  # a third of three


def test_an_absent_class_is_never_suggested() -> None:
    case = digits(0.05)
    more = np.hstack([case.probabilities, np.full((len(case.labels), 1), 0.9)])
    assert not (label_suspects(case.labels, more).suggested == 10).any()


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.2])
def test_share_of_random_labels_is_in_its_interval(noise: float) -> None:
    case = digits(noise)
    found = random_labels(case.labels, case.probabilities)
    assert found is not None
    assert found.low < case.wrong.mean() < found.high
    assert abs(found.share - case.wrong.mean()) < 0.5 * noise


def test_random_labels_are_told_and_clean_ones_are_not() -> None:
    noisy, clean = digits(0.1), digits(0.0)
    finding = examine(noisy.labels, noisy.probabilities, NAMES).findings[0]
    assert finding.cause == "label_noise"
    assert finding.severity == "warning"
    assert len(finding.examples) == 20
    assert not examine(clean.labels, clean.probabilities, NAMES).findings


def test_a_weak_net_on_clean_labels_accuses_nobody() -> None:
    case = digits(0.0, pixels=14)  # the upper rows alone
    right = (case.probabilities.argmax(1) == case.labels).mean()
    assert right < 0.6
    assert not examine(case.labels, case.probabilities, NAMES).findings


def test_few_classes_or_images_are_not_judged() -> None:
    case = digits(0.2)
    assert random_labels(case.labels[:100], case.probabilities[:100]) is None
    three = case.probabilities[:, :3] / case.probabilities[:, :3].sum(1, keepdims=True)
    assert random_labels(case.labels % 3, three) is None


def test_confused_pair_stands_out_both_ways_and_even_mistakes_do_not() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 400)
    predictions = labels.copy()
    stray = rng.random(len(labels)) < 0.1
    predictions[stray] = (labels[stray] + rng.integers(1, 5, stray.sum())) % 5
    assert confused_classes(labels, predictions, 5) == ()
    predictions[:80] = 1  # of 400 of class 0
    pair = confused_classes(labels, predictions, 5)[0]
    assert (pair.first, pair.second, pair.of, pair.back_of) == (0, 1, 400, 400)
    assert pair.count >= 80 > pair.back
    assert pair.chance < pair.low < pair.count / pair.of < pair.high


def test_a_class_that_draws_all_mistakes_is_no_confusion_of_one_class() -> None:
    """Everything that goes wrong is called 0: that is a bias of the net, said once by its precision."""
    labels = np.repeat(np.arange(4), 300)
    predictions = np.where(np.arange(len(labels)) % 10 == 0, 0, labels)
    assert confused_classes(labels, predictions, 4) == ()


def test_worst_images_have_the_highest_loss() -> None:
    labels = np.array([0, 1, 0, 1])
    p = np.array([0.9, 0.2, 0.3, 0.99])
    assert worst_images(labels, np.stack([p, 1 - p], 1), most=2).tolist() == [3, 2]


@pytest.mark.parametrize("judge", [nearest_probabilities, probed_probabilities])
def test_training_images_are_judged_without_their_own_vote(judge: object) -> None:
    case = digits(0.05)
    probabilities = judge(case.features, case.labels, 10)  # type: ignore[operator]
    np.testing.assert_allclose(probabilities.sum(1), 1)
    suspects = label_suspects(case.labels, probabilities)
    found = case.wrong[suspects.indices]
    assert found.sum() >= 0.8 * case.wrong.sum()
    assert found[:20].mean() >= 0.9


def scene(seed: int, side: int = 32) -> NDArray[np.uint8]:
    """An image with structure of all sizes, unlike any of another seed."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.integers(0, 200, (8, 8)), np.ones((side // 8, side // 8)))
    return (coarse + rng.integers(0, 50, (side, side))).astype(np.uint8)[..., None]


def test_copies_across_the_split_are_found_and_others_left_alone() -> None:
    images = np.stack([scene(i) for i in range(60)])
    parts = np.repeat([0, 1, 2], 20)
    images[25] = images[3]  # the same pixels, in validation
    images[45] = np.clip(images[7].astype(int) + 20, 0, 255) // 8 * 8  # a brighter, coarser copy, in test
    images[11] = images[12]  # both train: no leak
    groups = np.arange(60)  # as the check-up finds them
    groups[[25, 45, 11]] = 3, 7, 12
    groups[[30, 31]] = 9  # of one person, whose photo 9 trains: another picture
    leaks = leakage_suspects(lambda positions: images[positions], parts, groups)
    assert [(leak.train, leak.evaluated) for leak in leaks] == [(3, 25), (7, 45)]
    assert leaks[0].likeness == pytest.approx(1.0) and 0.98 < leaks[1].likeness < 0.9999


@pytest.mark.parametrize(("n", "severity"), [(1797, "info"), (150, "warning")])
def test_a_leak_is_as_grave_as_the_share_of_copies(n: int, severity: str) -> None:
    case = digits(0.0)
    health = examine(
        case.labels[:n], case.probabilities[:n], NAMES, leaks=[Leak(3, 25, 1.0), Leak(7, 45, 0.99)]
    )
    assert [(f.cause, f.severity) for f in health.findings] == [("train_test_leak", severity)]


def test_results_are_plain_data() -> None:
    case = digits(0.1)
    data = json.loads(json.dumps(examine(case.labels, case.probabilities, NAMES).to_dict(most=5)))
    assert len(data["suspects"]) == 5 < data["suspected"]
    assert data["random_labels"]["low"] < data["random_labels"]["share"]


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [
        (np.array([0, 5]), np.full((2, 2), 0.5)),
        (np.array([0]), np.full((2, 2), 0.5)),
        (np.array([0, 1]), np.array([[np.nan, 1], [0, 1]])),
        (np.array([0, 1]), np.array([[-3.0, 4.0], [0, 1]])),
    ],
)
def test_what_does_not_fit_is_refused(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> None:
    with pytest.raises(ConvclinicError):
        examine(labels, probabilities, ("a", "b"))
