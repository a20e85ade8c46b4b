"""Linear classifiers on fixed features: logistic regression, ridge regression and linear SVM of scikit-learn.

    head = fit_head("logistic", features, labels, n_classes=6, groups=groups, seed=0)
    head.scores.balanced_accuracy    # by cross-validation, at the regularisation that was chosen by it
    net.head.load_state_dict(head.linear().state_dict())

Features are standardised first, and that is folded into the weights afterwards: a head is one matrix and one
bias, as in `nn.Linear`. Its scale is set so that a softmax of its outputs is calibrated on images held out,
which turns the margins of an SVM into probabilities.

Source    Cortes and Vapnik 1995 (SVM); Hoerl and Kennard 1970 (ridge); temperature: Guo et al. 2017,
          arXiv:1706.04599; linear SVM on features of a net: Sharif Razavian et al. 2014, arXiv:1403.6382
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.svm import LinearSVC
from torch import nn

from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.ground.stats import balanced_accuracy, confusion, fit_temperature

FOLDS = 5
STRENGTHS = {  # C of scikit-learn, weakest fit first; ridge has 1 / alpha
    "logistic": (1e-3, 1e-2, 1e-1, 1.0),
    "svm": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
    "linear": (1e-4, 1e-3, 1e-2, 1e-1),
}
KINDS = tuple(STRENGTHS)
NEVER = -1e4  # the logit of a class without training images

Floats: TypeAlias = "NDArray[np.floating]"
Ints: TypeAlias = "NDArray[np.integer]"
Fold: TypeAlias = "tuple[NDArray[np.intp], NDArray[np.intp]]"


@dataclass(frozen=True)
class Scores:
    """What a head reaches on images that it was not fitted on: labels (n,), logits (n, k) of
    cross-validation."""

    labels: NDArray[np.int64]
    logits: NDArray[np.float64]

    @property
    def right(self) -> NDArray[np.bool_]:
        return self.logits.argmax(1) == self.labels

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes."""
        return balanced_accuracy(confusion(self.labels, self.logits.argmax(1), self.logits.shape[1]))

    @property
    def weights(self) -> NDArray[np.float64]:
        """(n,) what each image counts in the balanced accuracy; they sum to one."""
        counts = np.bincount(self.labels, minlength=self.logits.shape[1])
        return 1 / (counts[self.labels] * (counts > 0).sum())

    @property
    def standard_error(self) -> float:
        """Of the balanced accuracy, over images."""
        return _error(self.right.astype(float), self.labels, self.weights)


def gain(one: Scores, other: Scores) -> tuple[float, float]:
    """Balanced accuracy of `one` above `other` on the same images, and the standard error of this difference,
    image by image."""
    difference = one.right.astype(float) - other.right.astype(float)
    return float((one.weights * difference).sum()), _error(difference, one.labels, one.weights)


def _error(values: Floats, labels: Ints, weights: Floats) -> float:
    """Standard error of the weighted sum of `values`, each about the mean of its class."""
    counts = np.bincount(labels)
    centred = values - (np.bincount(labels, values) / np.maximum(counts, 1))[labels]
    spare = counts / np.maximum(counts - 1, 1)
    return float(np.sqrt((spare[labels] * (weights * centred) ** 2).sum()))


@dataclass(frozen=True)
class Head:
    """weight (k, c) and bias (k,) on raw features; `strength` is C, or 1 / alpha for ridge."""

    kind: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    strength: float
    scores: Scores

    def logits(self, features: Floats) -> NDArray[np.float32]:
        """(n, k) of features (n, c)."""
        return np.asarray(features, np.float32) @ self.weight.T + self.bias

    def linear(self) -> nn.Linear:
        """The same map as a layer of a net."""
        layer = nn.Linear(self.weight.shape[1], self.weight.shape[0])
        layer.load_state_dict({"weight": torch.from_numpy(self.weight), "bias": torch.from_numpy(self.bias)})
        return layer


def fit_head(
    kind: str,
    features: Floats,
    labels: Ints,
    n_classes: int,
    *,
    groups: Ints | None = None,
    seed: int = 0,
) -> Head:
    """The head of this kind on features (n, c) and labels (n,), its regularisation chosen by
    cross-validation.

    groups (n,): images of one group are never parted between folds. Raises ConvclinicError for an unknown
    kind, for fewer than two classes, and where the images are too few to hold any out.
    """
    scores, strength = validate(kind, features, labels, n_classes, groups=groups, seed=seed)
    weight, bias = _fitted(kind, features, labels, n_classes, strength)
    scale = _scale(scores)
    return Head(
        kind, (weight / scale).astype(np.float32), (bias / scale).astype(np.float32), strength, scores
    )


def _scale(scores: Scores) -> float:
    """What logits are divided by to be calibrated on the images held out."""
    own = scores.logits[np.arange(len(scores.labels)), scores.labels]
    known = own > NEVER / 2  # where the class was among the training images of the fold
    logits, labels = scores.logits[known], scores.labels[known]
    spread = float(logits[logits > NEVER / 2].std()) or 1.0  # ridge's margins are small: search about them
    return spread * fit_temperature(labels, logits / spread)


def validate(
    kind: str,
    features: Floats,
    labels: Ints,
    n_classes: int,
    *,
    groups: Ints | None = None,
    seed: int = 0,
    strengths: Sequence[float] | None = None,
) -> tuple[Scores, float]:
    """Cross-validated scores at the best strength, and that strength. Raises as `fit_head` does."""
    if kind not in STRENGTHS:
        raise ConvclinicError(f"no head '{kind}'", fix=nearest(kind, KINDS))
    labels = np.asarray(labels, np.int64)
    grid = tuple(strengths or STRENGTHS[kind])
    logits = np.full((len(grid), len(labels), n_classes), NEVER)
    for train, test in folds(labels, groups, seed):
        fits = _path(kind, features[train], labels[train], n_classes, grid)
        for position, (weight, bias) in enumerate(fits):
            logits[position][test] = features[test] @ weight.T + bias
    tried = [Scores(labels, values) for values in logits]
    best = max(range(len(grid)), key=lambda i: (round(tried[i].balanced_accuracy, 9), -grid[i]))
    return tried[best], grid[best]


def folds(labels: Ints, groups: Ints | None, seed: int) -> list[Fold]:
    """(train, test) positions of at most five folds: classes keep their shares, groups are not parted.

    Raises ConvclinicError when there are fewer than two classes, or none has two groups.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if groups is not None:
        counts = np.array([len(np.unique(np.asarray(groups)[labels == k])) for k in classes])
    if len(classes) < 2 or counts.max() < 2:
        raise ConvclinicError(
            "there are too few images to hold any out", fix="give two of each class or more"
        )
    n = int(np.clip(counts.min(), 2, FOLDS))
    single = groups is None or len(np.unique(groups)) == len(labels)
    splitter = (StratifiedKFold if single else StratifiedGroupKFold)(n, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a class with fewer images than folds: it is known
        return [fold for fold in splitter.split(np.zeros(len(labels)), labels, groups) if len(fold[1])]


def _fitted(
    kind: str, features: Floats, labels: Ints, n_classes: int, strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return next(iter(_path(kind, features, np.asarray(labels), n_classes, (strength,))))


def _path(
    kind: str, features: Floats, labels: Ints, n_classes: int, strengths: Sequence[float]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """weight (k, c) and bias (k,) on raw features for each strength; each fit starts from the one before.

    With fewer images than features the solution lies in the span of the images, so that it is sought there:
    penalties on the length of the weights do not see the rotation.
    """
    present = np.unique(labels)
    if len(present) == 1:  # a fold whose other classes are held out
        yield from (_always(int(present[0]), n_classes, features.shape[1]) for _ in strengths)
        return
    mean, spread = features.mean(0), features.std(0)
    constant = spread <= 1e-6 * max(float(spread.max()), 1e-30)
    spread = np.where(constant, np.inf, spread)  # they are left out
    scaled = ((features - mean) / spread).astype(np.float32)
    basis = None
    if len(scaled) < scaled.shape[1]:
        basis = np.linalg.qr(scaled.T)[0]
        scaled = scaled @ basis
    model = _model(kind)
    for strength in strengths:
        model.set_params(**({"alpha": 1 / strength} if kind == "linear" else {"C": strength}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # cross-validation judges what was reached
            model.fit(scaled, labels)
        rows, offsets = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
        if len(present) == 2:  # scikit-learn has one row for two classes: the difference of theirs
            rows, offsets = np.concatenate([-rows, rows]) / 2, np.concatenate([-offsets, offsets]) / 2
        rows = (rows if basis is None else rows @ basis.T) / spread
        weight, bias = np.zeros((n_classes, features.shape[1])), np.full(n_classes, NEVER)
        weight[present], bias[present] = rows, offsets - rows @ mean
        yield weight, bias


def _always(label: int, n_classes: int, n_features: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    bias = np.full(n_classes, NEVER)
    bias[label] = 0.0
    return np.zeros((n_classes, n_features)), bias


def _model(kind: str) -> Any:
    if kind == "logistic":
        return LogisticRegression(max_iter=300, tol=1e-3, warm_start=True)
    return LinearSVC(max_iter=300, tol=1e-3) if kind == "svm" else RidgeClassifier()
