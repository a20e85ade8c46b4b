"""Statistics of classification, on plain numpy arrays.

Everywhere: `targets` (n,) integer class of each image, `probabilities` (n, k) rows summing to one.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer]
Floats = NDArray[np.floating]


def wilson(successes: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Interval of a proportion (Wilson 1927); right also near 0 and 1 and for small n.

    >>> low, high = wilson(98, 100)
    >>> round(low, 4), round(high, 4)
    (0.93, 0.9945)
    """
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def confusion(targets: Ints, predictions: Ints, n_classes: int) -> NDArray[np.int64]:
    """(k, k) counts: row is the true class, column the predicted one."""
    flat = targets.astype(np.int64) * n_classes + predictions.astype(np.int64)
    return np.bincount(flat, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def per_class(matrix: NDArray[np.int64]) -> list[dict[str, float | int | None]]:
    """Precision, recall, F1 and support of each class; None where it is not defined."""
    rows: list[dict[str, float | int | None]] = []
    for k in range(len(matrix)):
        hit, support, named = int(matrix[k, k]), int(matrix[k].sum()), int(matrix[:, k].sum())
        precision = hit / named if named else None
        recall = hit / support if support else None
        total = (precision or 0.0) + (recall or 0.0)
        f1 = 2 * (precision or 0.0) * (recall or 0.0) / total if total else (0.0 if support else None)
        rows.append({"precision": precision, "recall": recall, "f1": f1, "support": support})
    return rows


def balanced_accuracy(matrix: NDArray[np.int64]) -> float:
    """Mean recall over the classes that occur."""
    support = matrix.sum(1)
    present = support > 0
    return float((np.diag(matrix)[present] / support[present]).mean()) if present.any() else 0.0


def calibration(targets: Ints, probabilities: Floats, bins: int = 15) -> dict[str, object]:
    """Reliability curve and expected calibration error (Guo et al. 2017), equal-width bins."""
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == targets
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    points: list[dict[str, float | int]] = []
    error = 0.0
    for b in range(bins):
        inside = which == b
        count = int(inside.sum())
        if count:
            said, true = float(confidence[inside].mean()), float(correct[inside].mean())
            points.append({"confidence": said, "accuracy": true, "count": count})
            error += count / len(targets) * abs(said - true)
    return {"ece": error, "points": points}


def fit_temperature(targets: Ints, logits: Floats) -> float:
    """The temperature that minimises the log loss of `logits / T` (Guo et al. 2017), T in [0.05, 20].

    One number fitted on the validation split; it moves confidence, never the predicted class.
    """

    def loss(log_t: float) -> float:
        scaled = logits / math.exp(log_t)
        top = scaled.max(1, keepdims=True)
        log_sum = np.log(np.exp(scaled - top).sum(1)) + top[:, 0]
        return float((log_sum - scaled[np.arange(len(targets)), targets]).mean())

    low, high = math.log(0.05), math.log(20.0)
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(60):  # golden section: the loss is convex in 1/T, so unimodal in log T
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        if loss(a) < loss(b):
            high = b
        else:
            low = a
    return math.exp((low + high) / 2)


def reject_threshold(targets: Ints, probabilities: Floats, wanted: float) -> dict[str, float]:
    """The smallest confidence above which at least `wanted` of the answers are right.

    Returns threshold, coverage (share answered) and accuracy (of those answered). When no threshold
    reaches `wanted`, the one with the highest accuracy that still answers a tenth is taken.
    """
    confidence = probabilities.max(1)
    order = np.argsort(-confidence, kind="stable")
    correct = (probabilities.argmax(1) == targets)[order].astype(np.float64)
    accuracy = correct.cumsum() / np.arange(1, len(order) + 1)
    # a threshold cannot cut between equal confidences
    cut = np.append(np.diff(confidence[order]) < 0, True)
    good = np.flatnonzero(cut & (accuracy >= wanted))
    if len(good):
        last = int(good[-1])
    else:
        enough = np.flatnonzero(cut & (np.arange(1, len(order) + 1) >= len(order) / 10))
        last = int(enough[accuracy[enough].argmax()])
    return {
        "threshold": float(confidence[order][last]),
        "coverage": (last + 1) / len(order),
        "accuracy": float(accuracy[last]),
    }
