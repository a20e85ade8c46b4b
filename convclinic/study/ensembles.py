"""Which of several models to join, and with which weights: from their probabilities on validation images.

    weights = greedy(probabilities, labels)                   # (m,)
    value = estimated(greedy, probabilities, labels, seed)    # such a choice, on images it was not made on
    diversity(probabilities), gained(joint, single, labels)

Pure. Source: the mean of probabilities: Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty
Estimation using Deep Ensembles, 2017, arXiv:1612.01474; greedy selection with replacement: Caruana et al.,
Ensemble Selection from Libraries of Models, 2004
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Ints: TypeAlias = "NDArray[np.int64]"
Weigher: TypeAlias = Callable[[Floats, Ints], Floats]

ROUNDS = 25  # of greedy selection, with replacement: weights in steps of 4 %
HALVES = 5  # times that validation is halved to tell what a choice is worth
LEAST = 1e-12


def equal(probabilities: Floats, labels: Ints) -> Floats:
    """(m,) the same weight for each of m models with probabilities (m, n, k)."""
    return np.full(len(probabilities), 1 / len(probabilities))


def greedy(probabilities: Floats, labels: Ints) -> Floats:
    """(m,) weights: models are added one by one, whichever lowers the log loss most, also again; the best
    round is taken.

    >>> right, wrong = np.array([[0.9, 0.1]]), np.array([[0.1, 0.9]])
    >>> greedy(np.stack([wrong, right]), np.array([0])).tolist()
    [0.0, 1.0]
    """
    counts, total = np.zeros(len(probabilities)), np.zeros_like(probabilities[0])
    best, weights = math.inf, equal(probabilities, labels)
    for number in range(1, ROUNDS + 1):
        losses = [log_loss((total + one) / number, labels) for one in probabilities]
        chosen = int(np.argmin(losses))
        counts[chosen] += 1
        total = total + probabilities[chosen]
        if losses[chosen] < best - 1e-12:
            best, weights = losses[chosen], counts / number
    return weights


def best_single(probabilities: Floats, labels: Ints) -> Floats:
    """(m,) all weight on the model with the lowest log loss."""
    weights = np.zeros(len(probabilities))
    weights[int(np.argmin([log_loss(one, labels) for one in probabilities]))] = 1.0
    return weights


def mixed(weights: Floats, probabilities: Floats) -> Floats:
    """(n, k) of weights (m,) and probabilities (m, n, k)."""
    return np.tensordot(weights, probabilities, 1)


def log_loss(probabilities: Floats, labels: Ints) -> float:
    """Mean over the images of probabilities (n, k)."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], LEAST)).mean())


def estimated(weigh: Weigher, probabilities: Floats, labels: Ints, seed: int) -> float:
    """The log loss of such weights on images that they were not chosen on: by halves of validation, each
    chosen on and judged by the other, several times."""
    rng, losses = np.random.default_rng(seed), list[float]()
    for _ in range(HALVES):
        order = rng.permutation(len(labels))
        for one, other in ((order[::2], order[1::2]), (order[1::2], order[::2])):
            weights = weigh(probabilities[:, one], labels[one])
            losses.append(log_loss(mixed(weights, probabilities[:, other]), labels[other]))
    return float(np.mean(losses))


def diversity(probabilities: Floats) -> float:
    """Share of images that two of the models answer differently, mean over all pairs of (m, n, k)."""
    answers = probabilities.argmax(2)
    pairs = [(a, b) for a in range(len(answers)) for b in range(a)]
    return float(np.mean([(answers[a] != answers[b]).mean() for a, b in pairs])) if pairs else 0.0


def gained(joint: Floats, single: Floats, labels: Ints) -> tuple[float, float, float]:
    """Accuracy of probabilities (n, k) above others' on the same images, and its 95 % interval, paired by
    image."""
    difference = (joint.argmax(1) == labels).astype(float) - (single.argmax(1) == labels)
    mean, half = float(difference.mean()), 1.96 * float(difference.std(ddof=1)) / math.sqrt(len(labels))
    return mean, mean - half, mean + half


METHODS: dict[str, Weigher] = {"mean": equal, "greedy": greedy, "single": best_single}
