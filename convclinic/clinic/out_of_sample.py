"""Probabilities of training images that do not simply repeat their labels, from the trained net's features.

What a net says of its own training images repeats their labels, wrong ones included. Probabilities that are
truly out of sample take a net for each fold (`convclinic.study`). These two are cheap and blunter: their own
vote leaves the image out, but the net that made the features has seen its label, so the longer it trained and
the better it fits, the more wrong labels it hides. Use them on a net that generalises as well as it fits.

Measured on 8,000 training images of Fashion-MNIST with 421 random labels planted, and 4,000 validation images
with 187, after 5 and after 15 epochs: the share of planted labels that are suspected (recall), and of the
suspects that were planted (precision; clean data have suspects too).

                            recall            precision
neighbours                  92 %, 90 %        70 %, 79 %
probe                       90 %, 83 %        75 %, 84 %
the net itself (train)      88 %, 81 %        80 %, 87 %
the net, validation         93 %, 98 %        72 %, 64 %

By the probe the share of random labels comes out too low: 3.9 % after 5 epochs and 1.9 % after 15, of 5.3 %.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convclinic.clinic.label_doubts import Floats, Ints

_BLOCK = 1024  # rows compared with all others at once
_LEAST = 1e-12


def nearest_probabilities(features: Floats, labels: Ints, classes: int, neighbours: int = 50) -> Floats:
    """Probabilities (n, k) of training images from their nearest others by cosine of `features` (n, d).

    Each image is left out of its own vote. Classes without a vote tie: `random_labels` finds none in them.
    """
    n = len(features)
    neighbours = min(neighbours, n - 1)
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), _LEAST)
    votes = np.full((n, classes), 1.0 / classes)  # one vote is spread over all: no class is impossible
    for start in range(0, n, _BLOCK):
        rows = np.arange(start, min(n, start + _BLOCK))
        likeness = unit[rows] @ unit.T
        likeness[np.arange(len(rows)), rows] = -np.inf
        near = np.argpartition(-likeness, neighbours - 1, axis=1)[:, :neighbours]
        np.add.at(votes, (rows[:, None], labels[near]), 1.0)
    return votes / (neighbours + 1)


def probed_probabilities(
    features: Floats, labels: Ints, classes: int, folds: int = 5, seed: int = 0
) -> Floats:
    """Probabilities (n, k) of training images from logistic regression on `features` (n, d), fold by fold.

    Out of fold for the regression, not for the net that made the features: see the head of this file.
    """
    fold = np.random.default_rng(seed).permutation(len(labels)) % folds
    probabilities = np.zeros((len(labels), classes))
    for held in range(folds):
        rest, here = fold != held, fold == held
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, C=0.1, tol=1e-3))
        probe.fit(features[rest], labels[rest])
        probabilities[np.ix_(here, probe.classes_.astype(int))] = probe.predict_proba(features[here])
    return probabilities
