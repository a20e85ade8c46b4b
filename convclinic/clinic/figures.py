"""The three figures of a run, read as a practitioner reads them.

1  loss by epoch: its shape tells the LR
2  loss of every mini-batch: the same at a finer grain, and the width of the band tells the batch size
3  training and validation accuracy: the gap tells overfitting, a low level without a gap too little capacity

A shape is what is seen and no verdict: hard data look like a high LR, and the advice says what to try first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from convclinic.clinic.epochs import Columns, columns, recent, validation_noise
from convclinic.clinic.signals import Floats, Signals
from convclinic.kinds import Evidence

LEAST_EPOCHS, LEAST_STEPS = 4, 24  # points without which a curve has no shape
BINS = 10  # stretches of steps that stand for epochs where those are few
BLOWN = 1.15  # of the start: a loss that ends above it has exploded
FELL = 0.8  # of the start: a loss that was below it had begun to learn
SMOOTH = 8  # batches over which a loss must have been so low
JUMP = 0.06  # of the start: mean rise between neighbours that makes a curve odd
HARDLY = 0.03  # of the start: a fall below it is none,
CREEPS = 0.002  # unless it is as steady as only a far too low LR makes it
LOW_END = 0.35  # of the start: ends below it are good whatever the shape
HALF = 0.62  # share of the whole fall that a nearly straight line has made at half time, at most
STRAIGHT_FIT = 0.93  # share of the variance that a straight line explains
EARLY = 0.85  # share of the fall made in the first quarter: fast, then stuck
STUCK = 0.04  # of the start: fall over the last half
ABSURD = 1000.0  # times ln K: no sum over a batch is so large
BAND = 0.12  # of the start: standard deviation about the trend that makes the band wide
GAP, LOW_LEVEL = 0.1, 0.7
LARGE_BATCH = 64  # images from which on a wide band is not the batch's fault


@dataclass(frozen=True)
class Figure:
    """One figure as read. `shape` is one or a few words, `advice` empty where all is well."""

    figure: Literal[1, 2, 3]
    name: str
    shape: str
    advice: str = ""
    evidence: tuple[Evidence, ...] = ()

    @property
    def readable(self) -> bool:
        return self.shape != TOO_SHORT


TOO_SHORT = "too short to read"
NAMES = {1: "loss by epoch", 2: "loss by mini-batch", 3: "training and validation accuracy"}
ADVICE = {
    "very high LR": "lower the LR tenfold; where the loss is no number, look for broken images too",
    "high LR": "lower the LR three- to tenfold, or let it fall in time",
    "low LR": "raise the LR three- to tenfold",
    "hardly falls": "the LR is far too high or far too low: try both, and fit one batch first",
    "good, still falling": "train for longer",
    "levels off high": "a larger net, or a higher LR that falls in time",
    "wide band": "larger batches, or a lower LR",
    "wide band, large batches": "lower the LR",
    "gap": "more regularisation, more augmentation or more images",
    "gap, and validation falls": "more regularisation, more augmentation or more images; keep the best epoch",
    "no gap, low level": "more capacity or longer training",
    "no gap, low level, rising": "train for longer",
    "validation above training": "weaker augmentation or dropout, if training accuracy is low",
    TOO_SHORT: "",
}


def read(signals: Signals) -> tuple[Figure, ...]:
    """The figures that can be drawn from `signals`, in their order; none for a curve that is absent."""
    figures = (by_epoch(signals), by_batch(signals), accuracies(signals))
    return tuple(figure for figure in figures if figure is not None)


def by_epoch(signals: Signals) -> Figure | None:
    """Figure 1. Where there are few epochs, ten equal stretches of the steps stand for them."""
    table = columns(signals)
    losses = table.train_loss
    losses = (
        losses[: len(losses) - int(np.isnan(losses[::-1]).cumprod().sum())] if _finite(losses) else losses[:0]
    )
    source = "epochs"
    if _finite(losses) < LEAST_EPOCHS and len(signals.steps) >= LEAST_STEPS:
        losses, source = stretches(signals.steps.loss), "tenths of the steps"
    if signals.non_finite is not None:
        return _figure(1, "very high LR", Evidence("loss", "not a number", "finite", signals.non_finite.step))
    if not len(losses):
        return None
    if len(losses) < LEAST_EPOCHS:
        return _figure(1, TOO_SHORT, Evidence("epochs", len(losses), f"at least {LEAST_EPOCHS}"))
    if not len(signals.steps) and _killed(losses, signals.floor):
        return _figure(
            1, "very high LR", Evidence("loss of the first epoch", float(losses[0]), "near ln K", 1)
        )
    return _figure(1, *_of_curve(losses, _start(signals, losses), source))


def by_batch(signals: Signals) -> Figure | None:
    """Figure 2."""
    losses = signals.steps.loss
    if not len(losses):
        return None
    if len(losses) < LEAST_STEPS:
        return _figure(2, TOO_SHORT, Evidence("mini-batches", len(losses), f"at least {LEAST_STEPS}"))
    start = _start(signals, losses)
    trend = stretches(losses)
    shape, evidence = _of_curve(trend, start, "tenths of the steps")
    if (
        shape == "hardly falls"
        and np.convolve(losses, np.full(SMOOTH, 1 / SMOOTH), "valid").min() < FELL * start
    ):
        shape = "very high LR"  # it fell within the first tenth, before a large update killed the net
    if shape in ("very high LR", "hardly falls", "low LR"):
        return _figure(2, shape, evidence)
    width = band(losses) / start
    seen = Evidence("standard deviation about the trend over the first loss", width, f"below {BAND}")
    if width > BAND:
        size = float(np.nanmedian(signals.steps.size)) if _finite(signals.steps.size) else math.nan
        return _figure(2, "wide band, large batches" if size >= LARGE_BATCH else "wide band", seen)
    return _figure(2, shape, evidence, seen)


def accuracies(signals: Signals) -> Figure | None:
    """Figure 3."""
    table = columns(signals)
    train, val = table.known("train_accuracy", "val_accuracy")
    if not len(val):
        return None
    fit, level, gaps = recent(train), recent(val), train - val
    gap, unsure = recent(gaps), validation_noise(level, signals)
    seen = (
        Evidence("training accuracy", fit, "high", _last(table)),
        Evidence("validation accuracy", level, f"within {GAP + unsure:.2f} of training", _last(table)),
    )
    if len(val) < LEAST_EPOCHS - 1:
        return _figure(3, TOO_SHORT, *seen)
    if gap > GAP + unsure:
        falls = level < float(val.max()) - unsure
        return _figure(3, "gap, and validation falls" if falls else "gap", *seen)
    if gap < -GAP - unsure:
        return _figure(3, "validation above training", *seen)
    if level < LOW_LEVEL:
        rising = len(val) >= 2 * 3 and recent(val) > float(np.median(val[-6:-3])) + 0.02
        return _figure(3, "no gap, low level, rising" if rising else "no gap, low level", *seen)
    return _figure(3, "good", *seen)


def stretches(losses: Floats, n: int = BINS) -> Floats:
    """Means of `n` equal stretches."""
    return np.array([float(np.mean(part)) for part in np.array_split(losses, n) if len(part)])


def band(losses: Floats) -> float:
    """Standard deviation about the trend, from neighbours' differences, where it is widest of four quarters.

    Robust (by quartiles), so that single spikes do not widen it; what is left of the fall cancels.
    """
    widths = [0.0]
    for part in np.array_split(losses, 4):
        steps = np.diff(part[np.isfinite(part)])
        if len(steps) >= 4:
            low, high = np.percentile(steps, (25, 75))
            widths.append(float(high - low) / 1.349 / math.sqrt(2))
    return max(widths)


def _of_curve(losses: Floats, start: float, source: str) -> tuple[str, Evidence]:
    """Shape of a loss curve that begins at `start`."""
    if not np.isfinite(losses).all():
        return "very high LR", Evidence(f"loss over {source}", "not a number", "finite")
    end = float(np.median(losses[-max(1, len(losses) // 4) :]))
    against = float(np.maximum(np.diff(losses), 0).mean()) / start
    level = Evidence(f"last loss over the first, by {source}", end / start, f"below {LOW_END}")
    if end > BLOWN * start or (losses.max() > 2 * start and end > LOW_END * start):
        return "very high LR", level
    if against > JUMP and end > LOW_END * start:
        return "very high LR", Evidence("mean rise between neighbours over the first loss", against, "near 0")
    if losses.min() < FELL * start and end > (1 - HARDLY) * start:
        return "very high LR", level  # it had learnt something: a large update has killed the net
    straight, steady = _straight(losses)
    if start - end < HARDLY * start:
        return "low LR" if steady and losses[0] - losses[-1] > CREEPS * start else "hardly falls", level
    return "low LR" if straight and end > LOW_END * start else _bend(losses, start, end), level


def _killed(losses: Floats, floor: float) -> bool:
    """Whether the first epoch's mean tells of an explosion after which nothing was learnt."""
    if not losses[0] > 2 * floor:
        return False
    return 0.9 < recent(losses) / floor < 1.5 or losses[0] > ABSURD * floor


def _bend(losses: Floats, start: float, end: float) -> str:
    """What a curve that falls at first does later."""
    if end < LOW_END * start:
        return "good"
    n = len(losses)
    quarter = float(np.mean(losses[max(1, n // 4) : max(2, n // 2)]))
    half = float(np.mean(losses[n // 2 : n // 2 + max(1, n // 4)]))
    if half - end > STUCK * start:
        return "good, still falling"
    return "high LR" if (start - quarter) / (start - end) > EARLY else "levels off high"


def _straight(losses: Floats) -> tuple[bool, bool]:
    """Whether the curve falls like a straight line, or bends downwards; and whether it falls all along."""
    x = np.arange(len(losses), dtype=np.float64)
    variance = float(losses.var())
    if variance <= 0:
        return False, False
    slope, offset = np.polyfit(x, losses, 1)
    explained = 1 - float(((losses - slope * x - offset) ** 2).mean()) / variance
    middle = float(np.interp(x[-1] / 2, x, losses))
    share = (float(losses[0]) - middle) / max(float(losses[0] - losses[-1]), 1e-12)
    steady = slope < 0 and explained > STRAIGHT_FIT
    return steady and share < HALF, steady


def _start(signals: Signals, losses: Floats) -> float:
    """Where the loss began: the first batch's, at least that of a net that learnt nothing."""
    first = signals.steps.loss[0] if len(signals.steps) and signals.steps.step[0] <= 2 else losses[0]
    known = [value for value in (float(first), signals.floor) if math.isfinite(value) and value > 0]
    return max(known, default=1.0)


def _finite(values: Floats) -> int:
    return int(np.isfinite(values).sum())


def _last(table: Columns) -> int | None:
    return int(table.step[-1]) if len(table) and math.isfinite(table.step[-1]) else None


def _figure(figure: Literal[1, 2, 3], shape: str, *evidence: Evidence) -> Figure:
    return Figure(figure, NAMES[figure], shape, ADVICE.get(shape, ""), evidence)
