"""What the labels of the training batches tell: how many of each class, and whether they come shuffled."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from convclinic.clinic.signals import Labels

LATEST = 32  # measured batches whose predictions are kept
SURE = 0.9  # probability from which a prediction counts as sure


class LabelWatch:
    """Gathers `Labels` batch by batch."""

    def __init__(self, classes: int | None) -> None:
        self.counts = np.zeros(classes or 0, np.int64)
        self.batches = self.ordered = self.single = self.several = 0
        self.agreeing = self.pairs = 0.0
        self.latest: deque[tuple[NDArray[np.int64], NDArray[np.int64], float]] = deque(maxlen=LATEST)

    def see(self, labels: NDArray[np.int64]) -> float:
        """The labels of one batch, in the order in which they came. Negative ones are left aside. Returns
        their entropy in nats."""
        if len(labels) and labels.min() < 0:
            labels = labels[labels >= 0]
        if not len(labels):
            return math.nan
        counts = np.bincount(labels, minlength=len(self.counts))
        if len(counts) > len(self.counts):
            self.counts = np.pad(self.counts, (0, len(counts) - len(self.counts)))
        self.counts += counts
        self.batches += 1
        there = counts[counts > 0]
        if len(labels) < 2:
            return 0.0
        self.agreeing += float((there * (there - 1)).sum())
        self.pairs += len(labels) * (len(labels) - 1)
        if len(there) == 1:
            self.single += 1
        else:
            self.several += 1
            self.ordered += bool((labels[1:] >= labels[:-1]).all())
        shares = there / len(labels)
        return float(-(shares * np.log(shares)).sum())

    def predicted(self, labels: NDArray[np.int64], predictions: NDArray[np.int64], sure_wrong: float) -> None:
        """What the net made of a measured batch; `sure_wrong` counts in [0, 1]."""
        self.latest.append((labels, predictions, sure_wrong))

    def signal(self) -> Labels:
        if not self.batches:
            return Labels()
        n = float(self.counts.sum())
        total = float((self.counts * (self.counts - 1.0)).sum())
        across = n * (n - 1) - self.pairs
        overall = (total - self.agreeing) / across if across > 0 else math.nan
        size = len(self.counts)
        confusion = np.zeros((size, size), np.int64)
        for labels, predictions, _ in self.latest:
            here = (labels >= 0) & (labels < size) & (predictions < size)
            np.add.at(confusion, (labels[here], predictions[here]), 1)
        sure = [share for _, _, share in self.latest]
        return Labels(
            tuple(self.counts.tolist()),
            self.batches,
            self.agreeing / self.pairs if self.pairs else math.nan,
            overall,
            self.ordered / self.several if self.several else 0.0,
            self.single / self.batches,
            confusion,
            float(np.mean(sure)) if sure else math.nan,
        )
