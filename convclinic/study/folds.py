"""Cross-validation: who is tested when, and what the folds say together. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.model_selection import StratifiedGroupKFold

from convclinic.ground import stats
from convclinic.ground.errors import ConvclinicError
from convclinic.study.comparing import columns

FEWEST = 3  # folds: one tests, one validates, the others train


def check(n_folds: int) -> None:
    """Raise ConvclinicError for too few folds."""
    if n_folds < FEWEST:
        raise ConvclinicError(f"--folds must be at least {FEWEST}, not {n_folds}", fix="5 and 10 are usual")


def parts(
    labels: NDArray[np.int64], groups: NDArray[np.int64], n_folds: int, seed: int, classes: Sequence[str]
) -> list[NDArray[np.int8]]:
    """For each fold the part of every image (n,): 0 train, 1 validation, 2 test.

    Every image is in the test part once. The next fold validates, so that nothing is chosen on a test image.
    Classes keep their shares and groups (copies, and images that belong together) are not parted. Raises
    ConvclinicError where a class has fewer groups than there are folds.
    """
    check(n_folds)
    place = places(labels, groups, n_folds, seed, classes, FEWEST)
    out: list[NDArray[np.int8]] = []
    for fold in range(n_folds):
        part = np.zeros(len(labels), np.int8)
        part[place == (fold + 1) % n_folds] = 1
        part[place == fold] = 2
        out.append(part)
    return out


def places(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    n_folds: int,
    seed: int,
    classes: Sequence[str],
    fewest: int,
) -> NDArray[np.int64]:
    """The fold (n,) of every image: classes keep their shares and groups are not parted.

    Raises ConvclinicError where a class has fewer groups than there are folds; fewest folds would do.
    """
    for k, name in enumerate(classes):
        have = len(np.unique(groups[labels == k]))
        if have < n_folds:
            raise ConvclinicError(
                f"class '{name}' has {have} images that do not belong together, too few for {n_folds} folds",
                fix=f"give --folds {have}" if have >= fewest else "add images of it, or leave it out",
            )
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    place = np.empty(len(labels), np.int64)
    for fold, (_, tested) in enumerate(folds.split(labels, labels, groups)):
        place[tested] = fold
    return place


@dataclass(frozen=True)
class Together:
    """What the folds reach: accuracies (k,) of each on its test part, the confusion matrix over all images,
    and a 95 % interval of the mean accuracy that minds that training parts overlap."""

    accuracies: tuple[float, ...]
    balanced: tuple[float, ...]
    matrix: NDArray[np.int64]
    interval: tuple[float, float]

    @property
    def accuracy(self) -> float:
        return statistics.fmean(self.accuracies)

    @property
    def balanced_accuracy(self) -> float:
        return statistics.fmean(self.balanced)

    @property
    def spread(self) -> float:
        return statistics.stdev(self.accuracies)

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.interval),
            "accuracy_spread": self.spread,
            "balanced_accuracy": self.balanced_accuracy,
            "folds": [
                {"accuracy": a, "balanced_accuracy": b}
                for a, b in zip(self.accuracies, self.balanced, strict=True)
            ],
            "per_class": [
                {"class": name, **row}
                for name, row in zip(classes, stats.per_class(self.matrix), strict=True)
            ],
            "confusion": self.matrix.tolist(),
        }


def together(matrices: Sequence[NDArray[np.int64]]) -> Together:
    """From each fold's confusion matrix (classes, classes).

    Folds share most of their training images, so their spread understates that of new data: the variance of
    the mean is taken as (1 / k + n_test / n_train) s^2 (Nadeau and Bengio, Inference for the generalization
    error, 2003), with Student's t of k - 1.
    """
    accuracies = tuple(float(np.trace(m) / max(1, m.sum())) for m in matrices)
    balanced = tuple(stats.balanced_accuracy(m) for m in matrices)
    k = len(matrices)
    spread = statistics.stdev(accuracies)
    share = 1 / max(1, k - 2)  # tested over trained: one fold of k - 2
    half = float(student.ppf(0.975, k - 1)) * spread * math.sqrt(1 / k + share)
    mean = statistics.fmean(accuracies)
    interval = (max(0.0, mean - half), min(1.0, mean + half))
    return Together(accuracies, balanced, np.sum(matrices, axis=0), interval)


def table(found: Together, classes: Sequence[str]) -> str:
    """Folds, classes and the mean, as text."""
    folds = [("fold", "accuracy", "balanced")]
    for number, (a, b) in enumerate(zip(found.accuracies, found.balanced, strict=True)):
        folds.append((str(number), f"{a:.1%}", f"{b:.1%}"))
    rows = [("class", "images", "recall", "precision")]
    for name, row in zip(classes, stats.per_class(found.matrix), strict=True):
        recall, precision = (
            "-" if row[key] is None else f"{row[key]:.1%}" for key in ("recall", "precision")
        )
        rows.append((name, str(row["support"]), recall, precision))
    low, high = found.interval
    return (
        f"{columns(folds)}\n\n{columns(rows)}\n\naccuracy {found.accuracy:.1%} (95 % interval {low:.1%} to "
        f"{high:.1%}, standard deviation of the folds {found.spread:.1%}), "
        f"balanced {found.balanced_accuracy:.1%}, on {int(found.matrix.sum())} images, each tested once"
    )
