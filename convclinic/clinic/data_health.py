"""The health of the data, as a trained net sees it: doubtful labels, confused classes, hard images, leaks.

Everything here asks for probabilities of images that the net did not learn from: `fit` gives those of the
validation and test images. Its training images are therefore not looked through: what a net says of them
repeats their labels. Out-of-fold probabilities of k nets cover all images; `out_of_sample` is a blunter way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from convclinic.clinic.label_doubts import (
    Floats,
    Ints,
    LabelSuspects,
    RandomLabels,
    checked,
    label_suspects,
    random_labels,
)
from convclinic.clinic.leaks import Leak
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.stats import confusion, wilson
from convclinic.kinds import Evidence, Finding

RELIABLE = (
    0.75  # of its surer answers the net must have so many right; below, it errs too much to judge labels
)
TOLD = 0.01  # of the labels surely wrong at random: one in a hundred, more than good collections have
PAIR_ODDS = 0.05  # of all pairs of classes together: that one is called confused by chance
LEAKED = 0.01  # of the evaluated images with a copy in training: as many as careful public sets hold
WHERE = "images that the net did not learn from"
_LEAST = 1e-12


@dataclass(frozen=True)
class ConfusedPair:
    """Images of `first` that are taken for `second`: `count` of `of`, and `back` of `back_of` the other way.

    low, high: interval of their share; chance: the share if the mistakes of `first` fell on the other classes
    as those of the remaining classes do.
    """

    first: int
    second: int
    count: int
    of: int
    back: int
    back_of: int
    low: float
    high: float
    chance: float


def worst_images(labels: Ints, probabilities: Floats, most: int = 24) -> Ints:
    """Indices of the images with the highest loss, the worst first."""
    n, _ = checked(labels, probabilities)
    losses = -np.log(np.maximum(probabilities[np.arange(n), labels], _LEAST))
    return np.argsort(-losses, kind="stable")[:most].astype(np.int64)


def confused_classes(labels: Ints, predictions: Ints, classes: int) -> tuple[ConfusedPair, ...]:
    """Pairs of classes that are confused more than chance explains, the most frequent first.

    Chance spreads the mistakes of a class over the others as the remaining classes' mistakes fall, with one
    more on each. The interval is as wide as it must be for all pairs together to err once in twenty times.
    """
    matrix = confusion(labels, predictions, classes)
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    into, of_class = wrong.sum(0), wrong.sum(1)
    z = NormalDist().inv_cdf(1 - PAIR_ODDS / max(2, classes * (classes - 1)) / 2)
    pairs: list[ConfusedPair] = []
    for first, second in np.argwhere(wrong > 1).tolist():
        count, of, mistakes = int(wrong[first, second]), int(matrix[first].sum()), int(wrong[first].sum())
        drawing = into[second] - count  # by the second class, of the mistakes of all classes but these two
        falling = into.sum() - of_class[first] - of_class[second] - into[first] + wrong[second, first]
        drawn = (drawing + 1) / (falling + classes - 1)
        chance = mistakes / of * float(drawn)
        low, high = wilson(count, of, z)
        if low > chance or classes == 2:
            back, back_of = int(wrong[second, first]), int(matrix[second].sum())
            pairs.append(ConfusedPair(first, second, count, of, back, back_of, low, high, chance))
    return tuple(sorted(pairs, key=lambda pair: (-pair.count, pair.first, pair.second)))


@dataclass(frozen=True)
class DataHealth:
    """All of it, JSON-ready by `to_dict`. Indices count the images that were examined; those of leaks the
    whole data set."""

    images: int
    classes: tuple[str, ...]
    suspects: LabelSuspects
    random: RandomLabels | None
    worst: Ints
    confused: tuple[ConfusedPair, ...]
    leaks: tuple[Leak, ...] = ()
    findings: tuple[Finding, ...] = ()

    def to_dict(self, most: int = 100) -> dict[str, Any]:
        """Plain data for the report; of the suspects the first `most`."""
        suspects = self.suspects
        return {
            "images": self.images,
            "suspected": len(suspects.indices),
            "expected": suspects.expected,
            "suspects": [
                {"index": i, "suggested": self.classes[c], "confidence": p}
                for i, c, p in zip(
                    suspects.indices[:most].tolist(),
                    suspects.suggested[:most].tolist(),
                    suspects.confidence[:most].tolist(),
                    strict=True,
                )
            ],
            "random_labels": None if self.random is None else dict(vars(self.random)),
            "worst": self.worst.tolist(),
            "confused": [
                {**vars(pair), "first": self.classes[pair.first], "second": self.classes[pair.second]}
                for pair in self.confused
            ],
            "leaks": [leak._asdict() for leak in self.leaks],
        }


def examine(
    labels: Ints,
    probabilities: Floats,
    classes: Sequence[str],
    names: Sequence[str] | None = None,
    leaks: Sequence[Leak] = (),
) -> DataHealth:
    """Everything this file knows of images (n,) that the net did not learn from, and what is worth telling.

    names (n,) of the images are for the findings; `leaks` comes from `leaks.leakage_suspects`.
    """
    n, k = checked(labels, probabilities)
    if len(classes) != k:
        raise ConvclinicError(f"{len(classes)} class names for {k} columns of probabilities")
    suspects, random = label_suspects(labels, probabilities), random_labels(labels, probabilities)
    confused = confused_classes(labels, probabilities.argmax(1).astype(np.int64), k)
    named: list[str] = [str(names[i]) if names else f"image {i}" for i in suspects.indices[:20].tolist()]
    found = (_label_noise(random, suspects, tuple(named)), _leak(leaks, n))
    return DataHealth(
        n,
        tuple(classes),
        suspects,
        random,
        worst_images(labels, probabilities),
        confused,
        tuple(leaks),
        tuple(finding for finding in found if finding is not None),
    )


def _label_noise(
    random: RandomLabels | None, suspects: LabelSuspects, examples: tuple[str, ...]
) -> Finding | None:
    """Told only of labels that are wrong at random: flips between two like classes cannot be told from honest
    mistakes of the net, and are listed as suspects without a claim."""
    if random is None or random.accuracy < RELIABLE or random.low <= TOLD:
        return None
    return Finding(
        "label_noise",
        "warning",
        0.85,
        where=WHERE,
        evidence=(
            Evidence(
                "labels in the lower half of the net's ranking",
                random.far,
                f"few of {random.images} sure answers",
            ),
            Evidence("labels that do not fit, mistakes of the net included", round(suspects.expected), "few"),
        ),
        remedies=(
            f"look through the {len(suspects.indices)} suspected images, from the top, and correct them",
            "regularise with label_smoothing, or mix with mixup, while they are not corrected",
        ),
        reference="Northcutt et al., 2021, arXiv:1911.00068",
        summary=f"about {100 * random.share:.1f} % of the labels are wrong "
        f"({100 * random.low:.1f} to {100 * random.high:.1f} %)",
        examples=examples,
    )


def _leak(leaks: Sequence[Leak], n: int) -> Finding | None:
    if not leaks:
        return None
    copies = len({leak.evaluated for leak in leaks})
    return Finding(
        "train_test_leak",
        "warning" if copies > LEAKED * n else "info",
        0.9,
        where=WHERE,
        evidence=(Evidence("evaluated images with a copy in training", copies, f"below {LEAKED:.0%}"),),
        remedies=("remove the copies from training, or keep copies in one part of the split",),
        summary=f"{copies} of {n} evaluated images show the same as a training image: scores are flattering",
    )
