"""The policies for rare classes compared: which of them lets the net recognise every class best here?

One plan and one number of steps for all; only the policy changes. The choice falls on validation images, by
balanced accuracy. The test part stays the same for every seed, and its scores are told of two policies
alone: the one chosen and none. Train and validation are divided anew for every seed, so that the intervals
count which images happened to be where.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convclinic.data.dataset import SPLIT_NAMES, Dataset
from convclinic.data.split import split
from convclinic.planning.balance import with_policy
from convclinic.recipe import Recipe
from convclinic.study.comparing import Contender, Mean, Outcome, Score, choose, columns, mean_of
from convclinic.tricks.balance.class_weights import ClassWeights
from convclinic.tricks.balance.down_sampling import DownSampling
from convclinic.tricks.balance.logit_adjustment import LogitAdjustment
from convclinic.tricks.balance.rare_crops import RareCrops
from convclinic.tricks.balance.two_part import TwoPart
from convclinic.tricks.balance.up_sampling import UpSampling
from convclinic.tricks.combine.none import Single

NONE = "none"
POLICIES: dict[str, tuple[Any, ...]] = {
    NONE: (),
    "up_sampling": (UpSampling(),),
    "down_sampling": (DownSampling(),),
    "class_weights": (ClassWeights(),),
    "logit_adjustment": (LogitAdjustment(),),
    "rare_crops": (RareCrops(),),
    "two_part": (TwoPart(),),
}
SHOWN = 20  # classes in the table of recalls, the rarest first; JSON has all


@dataclass(frozen=True)
class Row:
    """A policy on validation: balanced accuracy, its gain over no policy on the same seed, and for each class
    the recall and its gain; all in [0, 1], with Student's 95 % intervals over the seeds. Of no policy itself
    the gains are None, and of a class without validation images recall and gain."""

    label: str
    balanced_accuracy: Mean
    gain: Mean | None
    recalls: dict[str, Mean | None]
    recall_gains: dict[str, Mean | None]


@dataclass(frozen=True)
class Verdict:
    """The policy that validation chose; `clear` where the interval of its gain there lies above zero, which
    flatters the best of several a little. test: the balanced accuracy on test images of it and of no policy;
    gain: between them, paired by seed, which flatters nobody. Intervals are over seeds: of the training and
    of what it was given, not of which images the test part happens to hold."""

    chosen: str
    clear: bool
    test: dict[str, Mean]
    gain: Mean | None


def contenders(recipe: Recipe, only: Sequence[str] = ()) -> list[Contender]:
    """The recipe with each of the policies asked for, beside none; all where none is asked for. In one view:
    those of a planned recipe would cost time and change no comparison."""
    recipe = dataclasses.replace(recipe, combine=Single())
    labels = {NONE, *choose(only, list(POLICIES), "policy")}
    return [
        Contender(label, with_policy(recipe, policy)) for label, policy in POLICIES.items() if label in labels
    ]


def divided(data: Dataset, groups: NDArray[np.integer], seed: int) -> Dataset:
    """The data with train and validation parted anew for `seed`, groups (m,) kept whole; the test part stays.

    Seed 0, and any seed where the source gave the split, leaves all as it is; so does a division in which a
    class would lack training or validation images.
    """
    if seed == 0 or data.profile.given_split:
        return data
    test = SPLIT_NAMES.index("test")
    given = np.where(data.splits == test, test, -1)
    parts = split(data.labels, groups, given, seed)
    k = len(data.classes)
    for part in (0, 1):
        if (np.bincount(data.labels[parts == part], minlength=k) == 0).any():
            return data
    return dataclasses.replace(data, splits=parts)


def summary(outcomes: Sequence[Outcome], classes: Sequence[str]) -> list[Row]:
    """A row a policy, in the order of `POLICIES`, over the seeds that all of them have."""
    validation = {
        label: {seed: net.validation for seed, net in nets.items()}
        for label, nets in _shared(outcomes).items()
    }
    recalls = {name: _recall(k) for k, name in enumerate(classes)}

    def row(label: str, own: dict[int, Score]) -> Row:
        def gain(value: _Value) -> Mean | None:
            return None if label == NONE else _paired(own, validation[NONE], value)

        return Row(
            label,
            mean_of([score.balanced_accuracy for score in own.values()]),
            gain(_balanced),
            {name: _mean([recall(score) for score in own.values()]) for name, recall in recalls.items()},
            {name: gain(recall) for name, recall in recalls.items()},
        )

    return [row(label, own) for label, own in validation.items()]


def verdict(outcomes: Sequence[Outcome], rows: Sequence[Row]) -> Verdict:
    """The choice by `rows`, those of `summary`, and what the test images say about it."""
    best = max(rows, key=lambda row: row.balanced_accuracy.mean)
    clear = best.gain is not None and best.gain.low is not None and best.gain.low > 0
    policies = _shared(outcomes)
    test = {
        label: {seed: net.test for seed, net in policies[label].items()}
        for label in dict.fromkeys((NONE, best.label))
    }
    means = {
        label: mean_of([score.balanced_accuracy for score in own.values()]) for label, own in test.items()
    }
    gain = None if best.label == NONE else _paired(test[best.label], test[NONE], _balanced)
    return Verdict(best.label, clear, means, gain)


_Value: TypeAlias = Callable[[Score], float | None]


def _balanced(score: Score) -> float:
    return score.balanced_accuracy


def _recall(k: int) -> _Value:
    return lambda score: score.recalls[k]


def _shared(outcomes: Sequence[Outcome]) -> dict[str, dict[int, Outcome]]:
    """The nets of every policy by seed, over the seeds that all of them have."""
    found: dict[str, dict[int, Outcome]] = {}
    for one in outcomes:
        found.setdefault(one.label, {})[one.seed] = one
    seeds = sorted(set.intersection(*(set(own) for own in found.values())))
    return {label: {seed: found[label][seed] for seed in seeds} for label in POLICIES if label in found}


def _mean(values: Sequence[float | None]) -> Mean | None:
    present = [value for value in values if value is not None]
    return mean_of(present) if present else None


def _paired(own: Mapping[int, Score], other: Mapping[int, Score], value: _Value) -> Mean | None:
    """The mean of what `own` has more of `value` than `other` on the same seed."""
    pairs = [(value(own[seed]), value(other[seed])) for seed in own]
    return _mean([None if a is None or b is None else a - b for a, b in pairs])


def table(rows: Sequence[Row], found: Verdict, counts: Mapping[str, int]) -> str:
    """Three parts of text: the policies, the recalls of the rarest classes, the verdict. `counts` are those
    of the training images of each class."""
    head = ("policy", "n", "balanced accuracy", "sd", "95 % interval", "gain over none", "95 % interval")
    lines: list[tuple[str, ...]] = [head]
    for row in rows:
        mean, gain = row.balanced_accuracy, row.gain
        own = (str(mean.n), _percent(mean.mean), _percent(mean.spread), _interval(mean))
        paired = ("-", "-") if gain is None else (_percent(gain.mean, "+"), _interval(gain, "+"))
        lines.append((row.label, *own, *paired))
    rarest = sorted(counts, key=lambda name: counts[name])[:SHOWN]
    recalls: list[tuple[str, ...]] = [("recall of", "images", *(row.label for row in rows))]
    for name in rarest:
        cells = (row.recalls[name] for row in rows)
        shown = ("-" if one is None else f"{_percent(one.mean)} ({_percent(one.spread)})" for one in cells)
        recalls.append((name, str(counts[name]), *shown))
    more = len(counts) - len(rarest)
    note = f"{more} larger classes are left out here; --json has all\n" * bool(more)
    return f"validation, in %:\n{columns(lines)}\n\n{columns(recalls)}\n{note}\n{words(found)}"


def words(found: Verdict) -> str:
    """The verdict as sentences."""
    own = found.test[found.chosen]
    if found.gain is None:
        return f"no policy is best on validation; on test images it reaches {_percent(own.mean)} %"
    sure = (
        "clearly better than none"
        if found.clear
        else "but not clearly better than none: more seeds would tell"
    )
    return (
        f"{found.chosen} is best on validation, {sure}; on test images it reaches {_percent(own.mean)} %, "
        f"none {_percent(found.test[NONE].mean)} %: a gain of {_percent(found.gain.mean, '+')} points "
        f"({_interval(found.gain, '+')})"
    )


def _percent(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{100 * value:{sign}.2f}"


def _interval(mean: Mean, sign: str = "") -> str:
    """The interval in per cent, within what is possible: [0, 1], and for a difference (signed) [-1, 1]."""
    if mean.low is None or mean.high is None:
        return "-"
    low, high = max(mean.low, -1.0 if sign else 0.0), min(mean.high, 1.0)
    return f"{_percent(low, sign)} to {_percent(high, sign)}"
