"""Which of several models to join, and with which weights: from their probabilities on validation images.

    weights = greedy(probabilities, labels)                   # (m,)
    value = estimated(greedy, probabilities, labels, seed)    # such a choice, on images it was not made on
    diversity(probabilities), gained(joint, single, labels)

Pure. Source: the mean of probabilities: Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty
Estimation using Deep Ensembles, 2017, arXiv:1612.01474; greedy selection with replacement: Caruana et al.,
Ensemble Selection from Libraries of Models, 2004
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from convclinic.ground.stats import fit_temperature

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
    losses = list[float]()
    for one, other in _halves(len(labels), seed):
        weights = weigh(probabilities[:, one], labels[one])
        losses.append(log_loss(mixed(weights, probabilities[:, other]), labels[other]))
    return float(np.mean(losses))


def tempered(logits: Floats, labels: Ints, seed: int) -> float:
    """The log loss of logits (n, k) of a classifier that was fitted elsewhere: its temperature is chosen on
    the same halves as `estimated` takes, and judged by the other."""
    losses = list[float]()
    for one, other in _halves(len(labels), seed):
        scaled = logits[other] / fit_temperature(labels[one], logits[one])
        exponents = np.exp(scaled - scaled.max(1, keepdims=True))
        losses.append(log_loss(exponents / exponents.sum(1, keepdims=True), labels[other]))
    return float(np.mean(losses))


def _halves(n: int, seed: int) -> Iterator[tuple[Ints, Ints]]:
    """(chosen on, judged by): both halves of n images in turn, several times."""
    rng = np.random.default_rng(seed)
    for _ in range(HALVES):
        order = rng.permutation(n)
        yield order[::2], order[1::2]
        yield order[1::2], order[::2]


def shares(inputs: Sequence[Floats], weight: Floats) -> Floats:
    """(m,) how much each member moves the logits of a linear classifier, summing to one: the spread over
    images of its part of them. inputs are (n, d) of each member, weight (k, d of all) has them in that order.

    >>> shares([np.array([[0.0], [1.0]]), np.array([[0.0], [3.0]])], np.array([[1.0, 1.0]])).tolist()
    [0.25, 0.75]
    """
    ends = np.cumsum([0, *(part.shape[1] for part in inputs)]).tolist()
    columns = [weight[:, begin:end] for begin, end in itertools.pairwise(ends)]
    moved = [part @ own.T for part, own in zip(inputs, columns, strict=True)]
    spreads = np.array([np.sqrt(one.var(0).sum()) for one in moved], np.float64)
    return spreads / max(float(spreads.sum()), LEAST)


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
