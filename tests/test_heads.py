"""Linear heads: that they are scikit-learn's own, folded into one layer, and honestly judged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from convclinic.ground.errors import ConvclinicError
from convclinic.heads import KINDS, Scores, _fitted, fit_head, folds, gain, validate


def blobs(n: int = 120, k: int = 3, c: int = 20, apart: float = 1.0, seed: int = 0):
    """Features of k classes whose means differ in the first dimensions; scales differ by up to 1000."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % k
    features = draw.normal(size=(n, c)).astype(np.float32)
    features[np.arange(n), labels] += apart
    return features * np.geomspace(1, 1000, c).astype(np.float32) + 5, labels


REFERENCE = {
    "logistic": lambda c: LogisticRegression(C=c, max_iter=5000, tol=1e-8),
    "svm": lambda c: LinearSVC(C=c, max_iter=100000, tol=1e-8),
    "linear": lambda c: RidgeClassifier(alpha=1 / c),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_features", [8, 300], ids=["few features", "more features than images"])
def test_a_head_decides_as_scikit_learn_does(kind, n_features):
    features, labels = blobs(c=n_features, apart=3)
    new = blobs(c=n_features, apart=3, seed=1)[0]
    weight, bias = _fitted(kind, features, labels, 3, 0.01)
    scaler = StandardScaler().fit(features)
    reference = REFERENCE[kind](0.01).fit(scaler.transform(features), labels)
    expected = reference.decision_function(scaler.transform(new))
    found = new @ weight.T + bias
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
def test_two_classes_have_two_outputs_that_differ_by_the_margin(kind):
    features, labels = blobs(k=2, apart=3)
    weight, bias = _fitted(kind, features, labels, 2, 0.01)
    scaler = StandardScaler().fit(features)
    expected = REFERENCE[kind](0.01).fit(scaler.transform(features), labels)
    margin = expected.decision_function(scaler.transform(features))
    logits = features @ weight.T + bias
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], margin, atol=0.02 * np.abs(margin).max())


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_is_the_head(kind):
    features, labels = blobs()
    head = fit_head(kind, features, labels, 3)
    with torch.no_grad():
        found = head.linear()(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(found, head.logits(features), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_softmax_of_a_head_is_calibrated_on_new_images(kind):
    features, labels = blobs(600, apart=1.5)
    new, truth = blobs(3000, apart=1.5, seed=1)
    logits = fit_head(kind, features, labels, 3).logits(new).astype(np.float64)
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    confidence = probabilities.max(1).mean()
    assert abs(confidence - (logits.argmax(1) == truth).mean()) < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_cross_validation_foretells_new_images(kind):
    features, labels = blobs(300, apart=1.5)
    new, truth = blobs(3000, apart=1.5, seed=1)
    head = fit_head(kind, features, labels, 3)
    reached = float((head.logits(new).argmax(1) == truth).mean())
    assert abs(head.scores.accuracy - reached) < 4 * head.scores.standard_error
    assert head.scores.accuracy > 0.6


def test_noise_scores_like_chance():
    features, labels = blobs(300, apart=0.0)
    scores = validate("logistic", features, labels, 3)[0]
    assert abs(scores.balanced_accuracy - 1 / 3) < 4 * scores.standard_error


def test_groups_are_not_parted_so_that_a_copy_betrays_nothing():
    draw = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    labels = groups % 2
    features = draw.normal(size=(40, 60))[groups].astype(np.float32)  # each group's images are equal
    parted = validate("logistic", features, labels, 2)[0]
    whole = validate("logistic", features, labels, 2, groups=groups)[0]
    assert parted.balanced_accuracy > 0.95
    assert whole.balanced_accuracy < 0.7
    for train, test in folds(labels, groups, 0):
        assert not set(groups[train]) & set(groups[test])


def test_every_image_is_held_out_once_and_classes_keep_their_shares():
    labels = np.repeat([0, 1], [50, 25])
    parts = folds(labels, None, 0)
    assert sorted(np.concatenate([test for _, test in parts]).tolist()) == list(range(75))
    assert all(np.bincount(labels[test]).tolist() == [10, 5] for _, test in parts)


def test_folds_follow_the_smallest_class_and_one_lone_image_is_no_obstacle():
    assert len(folds(np.repeat([0, 1], [20, 3]), None, 0)) == 3
    features, labels = blobs(31, k=2, apart=3)
    labels[-1] = 2
    head = fit_head("logistic", features, labels, 3)
    assert np.isfinite(head.weight).all()
    assert head.scores.right[:-1].mean() > 0.7


def test_a_class_of_one_group_leaves_folds_of_a_single_class():
    features, labels = blobs(20, k=2, apart=3)
    groups = np.where(labels == 1, 100, np.arange(20) // 4)
    head = fit_head("svm", features, labels, 2, groups=groups)
    assert not head.scores.right[labels == 1].any()  # nobody can know a class before its only group is seen
    assert (head.logits(features).argmax(1) == labels).mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_feature_does_no_harm(kind):
    features, labels = blobs(apart=3)
    features[:, 5] = 7.0
    head = fit_head(kind, features, labels, 3)
    assert np.isfinite(head.weight).all()
    assert (head.weight[:, 5] == 0).all()


def test_a_class_without_images_is_never_the_answer():
    features, labels = blobs(apart=3)
    head = fit_head("logistic", features, labels, 5)
    assert head.weight.shape == (5, 20)
    assert set(head.logits(features).argmax(1)) == {0, 1, 2}


def test_the_strength_is_the_one_that_scores_best():
    features, labels = blobs(300, c=200, apart=1.0)
    strengths = (1e-4, 1e-2, 100.0)
    chosen, strength = validate("logistic", features, labels, 3, strengths=strengths)
    single = {s: validate("logistic", features, labels, 3, strengths=(s,))[0].accuracy for s in strengths}
    assert strength == max(single, key=lambda s: (single[s], -s))
    assert abs(chosen.accuracy - single[strength]) < 0.02


@pytest.mark.parametrize(
    ("kind", "labels", "said"),
    [
        ("logistik", [0, 1] * 5, "did you mean 'logistic'"),
        ("svm", [0] * 10, "too few"),
        ("svm", [0, 1], "too few"),
    ],
)
def test_what_cannot_be_fitted_is_refused(kind, labels, said):
    with pytest.raises(ConvclinicError, match=said):
        fit_head(kind, np.ones((len(labels), 3), np.float32), np.array(labels), 2)


def made(right: list[int], labels: list[int]) -> Scores:
    """Scores that are right where `right` says."""
    truth = np.array(labels)
    answers = np.where(np.array(right, bool), truth, 1 - truth)
    return Scores(truth, np.eye(2)[answers])


def test_scores_count_each_class_alike():
    scores = made([1, 1, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1])
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.balanced_accuracy == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert (scores.weights * scores.right).sum() == pytest.approx(scores.balanced_accuracy)


def test_the_standard_error_of_a_balanced_accuracy_is_that_of_repeated_draws():
    draw = np.random.default_rng(0)
    labels = np.repeat([0, 1], [200, 50])
    runs = [made((draw.random(250) < np.where(labels, 0.6, 0.9)).tolist(), labels) for _ in range(400)]
    spread = np.std([run.balanced_accuracy for run in runs])
    assert np.mean([run.standard_error for run in runs]) == pytest.approx(spread, rel=0.15)


def test_a_gain_is_paired_image_by_image():
    labels = [0] * 10 + [1] * 10
    one, other = made([1] * 16 + [0] * 4, labels), made([1] * 15 + [0] * 5, labels)
    value, error = gain(one, other)
    assert value == pytest.approx(0.05)
    assert error < one.standard_error
    assert gain(one, one) == (0.0, 0.0)
