"""Rare classes are sacrificed: the net learns the frequent ones and misses the others.

Looks at  how many training images of each class came; the recall of rare and of frequent classes, on
          validation where it was told, else on the latest training batches; the share of the commonest
          prediction
Why       ten to one is usual for "imbalanced", but costs nothing where rare classes are recognised: the
          recall has to suffer, beyond its own interval. Two standard errors are taken off the ratio, as few
          images make any ratio. Rare classes are learnt later than others: up to twenty to one their recall
          must have stopped rising
Confused  not_shuffled (classes come in blocks); predicts_one_class in balanced data; hard classes that are
          frequent
Source    He and Garcia, Learning from Imbalanced Data, 2009; Buda et al., 2018, arXiv:1710.05381
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convclinic.clinic.causes._readings import LEAST, lately, percent
from convclinic.clinic.signals import Floats, Signals
from convclinic.ground.stats import wilson
from convclinic.kinds import Evidence, Finding, Severity

Mask = NDArray[np.bool_]

EXPLAINS = (
    "predicts_one_class",
    "plateau",
    "underfitting",
    "label_noise",
    "overfitting",
    "train_val_preprocessing_differ",
)
RATIO, EXTREME = 10.0, 20.0  # frequent to rare: worth a look, and never only a late start
FREQUENT = 1 / 3  # of the largest class
LEARNT, BEHIND = 0.4, 0.75  # recall of the frequent classes, and how much of it the rare ones reach at most
PATIENCE, RISES = 2, 0.1  # validations, and recall from one to the next that is still on its way
SUPPORT = 10  # images of rare classes, from which their recall says something
MAJORITY, ONE_ANSWER = 0.6, 0.95  # share of the largest class, and of the commonest prediction
EARLY = 64  # steps
BLOCKS = 0.5  # of the batches are of one class: then it is the order


@dataclass(frozen=True)
class _Recalls:
    rare: float
    rare_high: float  # end of its interval
    frequent: float
    told: bool  # by the validation


def judge(signals: Signals) -> Finding | None:
    counts = np.asarray(signals.labels.counts, float)
    if len(counts) < 2 or not counts.any() or signals.labels.single > BLOCKS:
        return None
    rare = np.array([_ratio(counts.max(), count) > RATIO for count in counts])
    frequent = counts >= FREQUENT * counts.max()
    if not rare.any():
        return None
    recalls = _told(signals, rare, frequent) or _trained(signals, rare, frequent)
    if recalls is not None and (recalls.told or len(signals.steps) > EARLY):
        behind = recalls.frequent >= LEARNT and recalls.rare_high < BEHIND * recalls.frequent
        extreme = max(_ratio(counts.max(), count) for count in counts) > EXTREME
        if behind and recalls.told and not extreme and _coming(signals, rare):
            return None
        return _behind(signals, counts, recalls) if behind else None
    return _early(signals, counts)


def _ratio(most: float, count: float) -> float:
    """The largest class over another, with two standard errors taken off for few images."""
    return max(0.0, most - 2 * math.sqrt(most)) / (count + 2 * math.sqrt(count) + 3)


def _told(signals: Signals, rare: Mask, frequent: Mask) -> _Recalls | None:
    recalls = next((epoch.recalls for epoch in reversed(signals.epochs) if epoch.recalls is not None), None)
    if recalls is None or len(recalls) != len(rare):
        return None
    values = np.asarray(recalls, float)
    if not (np.isfinite(values[rare]).any() and np.isfinite(values[frequent]).any()):
        return None
    low = float(np.nanmean(values[rare]))
    return _Recalls(low, low, float(np.nanmean(values[frequent])), True)


def _coming(signals: Signals, rare: Mask) -> bool:
    """Whether the rare classes are only later than the others: their recall still rises, or is new."""
    told = [np.asarray(epoch.recalls, float)[rare] for epoch in signals.epochs if epoch.recalls is not None]
    lately = [float(np.nanmean(recalls)) for recalls in told[-PATIENCE:]]
    return len(lately) < PATIENCE or lately[-1] > lately[0] + RISES


def _trained(signals: Signals, rare: Mask, frequent: Mask) -> _Recalls | None:
    confusion = signals.labels.confusion
    if confusion.shape != (len(rare), len(rare)):
        return None
    hits, support = np.diag(confusion), confusion.sum(1)
    n, m = int(support[rare].sum()), int(support[frequent].sum())
    if n < SUPPORT or m < SUPPORT:
        return None
    right = int(hits[rare].sum())
    return _Recalls(right / n, wilson(right, n)[1], float(hits[frequent].sum() / m), False)


def _behind(signals: Signals, counts: Floats, recalls: _Recalls) -> Finding:
    where = "validation" if recalls.told else "the latest training batches"
    text = f"on {where} {percent(recalls.rare)} of the images of rare classes are recognised, "
    text += f"{percent(recalls.frequent)} of those of frequent ones"
    evidence = Evidence(
        "recall of the rare classes", recalls.rare, f"near {recalls.frequent:.2f}, the frequent ones'"
    )
    return _finding(signals, counts, "warning", 0.88 if recalls.told else 0.75, evidence, text)


def _early(signals: Signals, counts: Floats) -> Finding | None:
    """Before recalls can be told: a majority that takes all the answers."""
    share, top = float(counts.max() / counts.sum()), lately(signals.steps.top)
    losses = signals.first.losses
    weighted = losses is not None and losses.weighted
    alarm = share > MAJORITY and top >= ONE_ANSWER and len(signals.steps) >= LEAST and not weighted
    text = f"the largest class has {percent(share)} of the images"
    if not alarm:
        evidence = Evidence(
            "largest over smallest class", float(counts.max() / max(1.0, counts.min())), f"up to {RATIO:g}"
        )
        return _finding(signals, counts, "info", 0.6, evidence, text)
    evidence = Evidence(
        "share of the commonest prediction", top, f"near {share:.2f}, the largest class's share"
    )
    return _finding(signals, counts, "warning", 0.62, evidence, f"{text}, and the net names hardly any other")


def _finding(
    signals: Signals, counts: Floats, severity: Severity, confidence: float, evidence: Evidence, text: str
) -> Finding:
    return Finding(
        cause="class_imbalance",
        severity=severity,
        confidence=confidence,
        where=f"class {int(counts.argmin())} ({counts.min():.0f} images of {counts.sum():.0f})",
        evidence=(evidence,),
        ruled_out=("not_shuffled: all classes come in between",) if severity == "warning" else (),
        remedies=("balance=up_sampling", "visit rare classes more often, or weigh the loss by class"),
        step=signals.observed or signals.first.step,
        reference="Buda et al., 2018, arXiv:1710.05381",
        summary=text,
    )
