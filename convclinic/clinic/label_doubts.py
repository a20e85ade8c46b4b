"""Which labels are doubtful, from probabilities of images that the net did not learn from.

The thresholds by class and the number of labels to expect are those of confident learning (Northcutt et al.,
2021, arXiv:1911.00068). Its list of suspects is not: it asks that another class be confident, which on
Fashion-MNIST with 5 % random labels found 78 % of them, at a precision of 45 %. Here an image is suspected if
its label gets less than a tenth of the confidence that is usual in its class and another class comes first:
93 % at 72 %. On clean data too that lists the net's honest mistakes, so it ranks images to look at and proves
nothing.

How many labels are wrong at random is estimated apart (`random_labels`): an honest mistake puts the right
class close behind, a random label is as likely to come last as second. Flips between two like classes look
like mistakes of the net: they are listed, not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.stats import confusion, wilson

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

DOUBT = 0.1  # of the confidence usual in its class that a suspected label falls short of
SURER = 0.5  # share of the images, the surest, that random labels are counted among: elsewhere any net errs
FEWEST_CLASSES = 4  # with less there is no lower half of the ranking beside the runner-up
FEWEST_IMAGES = 200
SURE_Z = 2.58  # 99 %: of all runs on clean data one in a hundred may be told wrongly


@dataclass(frozen=True)
class LabelSuspects:
    """Images whose label is doubted, the most doubtful first.

    indices (m,); suggested (m,) the class that speaks against the label; confidence (m,) the probability of
    the label itself; thresholds (k,) the usual confidence of each class; joint (k, k) images by label and by
    the class they confidently show; expected: labels that do not match, the net's own mistakes included.
    """

    indices: Ints
    suggested: Ints
    confidence: Floats
    thresholds: Floats
    joint: Ints
    expected: float


@dataclass(frozen=True)
class RandomLabels:
    """Share of labels that are wrong at random, with its 99 % interval; far: labels in the lower half of the
    ranking, among `images`, the surer ones, of which the net names `accuracy` as they are labelled."""

    share: float
    low: float
    high: float
    far: int
    images: int
    accuracy: float


def label_suspects(labels: Ints, probabilities: Floats) -> LabelSuspects:
    """Labels (n,) that do not fit the out-of-sample probabilities (n, k).

    A class's threshold is the mean probability it gets on images labelled so. An image confidently shows, of
    the classes above their threshold, the likeliest; `joint` counts these.
    """
    n, k = checked(labels, probabilities)
    counts = np.bincount(labels, minlength=k)
    sums = np.bincount(labels, probabilities[np.arange(n), labels], minlength=k)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)  # an absent class is never shown
    above = np.where(probabilities >= thresholds, probabilities, -1.0)
    shown = above.argmax(1)
    confident = above[np.arange(n), shown] >= 0
    joint = confusion(labels[confident], shown[confident], k)
    share_off = 1 - np.diag(joint) / np.maximum(joint.sum(1), 1)
    expected = float((share_off * counts)[joint.sum(1) > 0].sum())
    own = probabilities[np.arange(n), labels]
    first = np.where(counts > 0, probabilities, -1.0).argmax(1)
    doubted = np.flatnonzero((first != labels) & (own < DOUBT * thresholds[labels]))
    order = doubted[np.argsort(own[doubted], kind="stable")]
    return LabelSuspects(order, first[order], own[order], thresholds, joint, expected)


def random_labels(labels: Ints, probabilities: Floats) -> RandomLabels | None:
    """How many labels are wrong at random, from out-of-sample probabilities (n, k); None if untellable.

    A random label falls with equal odds on each place of the ranking but the first, a mistake of the net on
    the second or third. So the labels in the lower half are counted, and scaled up to all places.
    """
    n, k = checked(labels, probabilities)
    if k < FEWEST_CLASSES or n < FEWEST_IMAGES:
        return None
    surer = np.argsort(-probabilities.max(1), kind="stable")[: max(1, round(SURER * n))]
    label, rows = labels[surer], probabilities[surer]
    own = rows[np.arange(len(surer)), label][:, None]
    rank = (rows > own).sum(1)  # of equals the best place: ties never accuse
    first = (k + 1) // 2
    far, scale = int((rank >= first).sum()), (k - 1) / (k - first)
    low, high = (min(1.0, scale * end) for end in wilson(far, len(surer), SURE_Z))
    return RandomLabels(
        min(1.0, scale * far / len(surer)), low, high, far, len(surer), float((rank == 0).mean())
    )


def checked(labels: Ints, probabilities: Floats) -> tuple[int, int]:
    """Number of images and of classes. Raises ConvclinicError where the two do not fit together."""
    if probabilities.ndim != 2 or len(labels) != len(probabilities):
        raise ConvclinicError(f"{len(labels)} labels for probabilities of shape {probabilities.shape}")
    n, k = probabilities.shape
    if not np.isfinite(probabilities).all() or (n and (probabilities.min() < 0)):
        raise ConvclinicError("probabilities must be finite and not negative", fix="apply softmax to logits")
    if n and not 0 <= int(labels.min()) <= int(labels.max()) < k:
        raise ConvclinicError(f"labels run from {labels.min()} to {labels.max()}", fix=f"use 0 to {k - 1}")
    return n, k
