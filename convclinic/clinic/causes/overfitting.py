"""Overfitting: the net learns the training images by heart, and gets worse on others.

Looks at  training and validation accuracy and validation loss by epoch
Why       every net that fits well has some gap, so a gap of 0.1 alone says nothing. A warning needs a gap
          that is beyond the noise of the validation set, and harm: a validation loss that has risen by a
          quarter from its best, or training that is done while validation stands still
Confused  not_shuffled and labels_shuffled (the batches tell), batch norm's running statistics that do not fit
          (evaluation mode is then as bad on training images), lr_too_high (training is then poor as well)
Source    Prechelt, Early stopping - but when?, 1998; Zhang et al., 2017, arXiv:1611.03530; interval of a
          proportion: Agresti and Coull, 1998
"""

from __future__ import annotations

import math

import numpy as np

from convclinic.clinic.epochs import Columns, columns, recent, validation_noise
from convclinic.clinic.signals import Floats, Signals
from convclinic.kinds import Evidence, Finding, Severity

EXPLAINS = ()
LEAST = 3  # epochs before a trend can be seen
GAP = 0.15  # of accuracy: fine-grained sets and small ones reach 0.1 on the way to their best validation
WIDE = 0.2  # the same where no loss tells of harm
EXTREME = 0.3  # the same before there is a trend
SLIGHT = 0.05
RISEN = 1.25  # validation loss over its best: rises below that come and go with the LR
SOARED = 1.5
LEARNT = 0.95  # training accuracy of a net that has nothing left to learn
SLIGHTLY_RISEN = 1.1
SORTED = (
    0.1  # more often than by chance two labels of a batch agree: then the order of the images is at fault
)
PERFECT, DONE, HELD = (
    0.99,
    12,
    0.08,
)  # so many epochs of nothing but learning by heart make a gap of 0.08 count
STILL = 5  # epochs over which validation must have stood still
HALF = 0.5  # of the validation loss: evaluation mode alone makes so much of it
LONE_LOSS = 0.4  # validation loss below this costs little accuracy, however much it has risen


def judge(signals: Signals) -> Finding | None:
    table = columns(signals)
    if not len(table) or _rivals(signals, table):
        return None
    train, val, step = table.known("train_accuracy", "val_accuracy", "step")
    if not len(val):
        return _of_losses(table)
    rise, best, _ = _rise(table)
    gaps = train - val
    now = LEAST if len(val) >= LEAST else len(val)
    gap, fit = recent(gaps, now), recent(train, now)
    noise = validation_noise(recent(val, now), signals)
    still = _still(val)
    severity, confidence = _grade(gap - noise, rise, fit, still, int((train >= PERFECT).sum()), len(val))
    if severity is None:
        return None
    wide = np.flatnonzero(gaps > max(SLIGHT, gap / 2))
    first = int(step[wide[0]] if len(wide) else step[-1])
    evidence = [Evidence("training minus validation accuracy", gap, f"below {GAP + noise:.2f}", first)]
    if math.isfinite(rise) and rise > 1:
        evidence.append(Evidence("validation loss over its best", rise, f"below {RISEN}", best))
    if still:
        evidence.append(Evidence("best validation accuracy", float(val.max()), "still rising"))
    told = f", and its loss is {rise:.1f} times its best" if math.isfinite(rise) and rise > 1.1 else ""
    return Finding(
        "overfitting",
        severity,
        confidence,
        evidence=tuple(evidence),
        ruled_out=("underfitting: the training images are fitted well",),
        remedies=_REMEDIES,
        step=first,
        reference="Zhang et al., 2017, arXiv:1611.03530",
        summary=f"training accuracy is {fit:.1%}, validation {recent(val, now):.1%}{told}",
    )


_REMEDIES = (
    "augment.shift.pixels=2",
    "mix.mixup.alpha=0.2",
    "regularise.label_smoothing.smoothing=0.1",
    "more images, stronger augmentation, weight decay or a smaller net; or keep the best epoch's weights",
)


def _grade(
    gap: float, rise: float, fit: float, still: bool, done: int, n: int
) -> tuple[Severity | None, float]:
    """`gap` is what is left of it after the noise; `done` epochs found nothing left to learn."""
    if n < LEAST:
        return ("warning", 0.6) if gap > EXTREME and fit >= LEARNT else (None, 0.0)
    if gap > GAP and (rise > SOARED or (rise > RISEN and fit >= LEARNT)):
        return "warning", 0.9 if rise > SOARED and fit >= LEARNT else 0.75
    if gap > WIDE and fit >= LEARNT and still:
        return "warning", 0.7
    if gap > HELD and done >= DONE and still:
        return "warning", 0.6
    if (gap > GAP and (rise > SLIGHTLY_RISEN or still)) or (gap > SLIGHT and rise > SOARED):
        return "info", 0.6
    return None, 0.0


def _rise(table: Columns) -> tuple[float, int | None, float]:
    """The latest validation losses over the best, its step, and the best itself; NaN for two epochs more."""
    losses, steps = table.known("val_loss", "step")
    if len(losses) < LEAST:
        return math.nan, None, math.nan
    best = int(losses.argmin())
    after = losses[best + 1 :]
    if len(after) < LEAST - 1 or losses[best] <= 0:
        return math.nan, None, math.nan
    return recent(after) / float(losses[best]), int(steps[best]), float(losses[best])


def _still(val: Floats) -> bool:
    """Whether the last epochs were no better than those before them."""
    return len(val) >= STILL and bool(np.median(val[-STILL // 2 :]) <= val[: -STILL // 2].max())


def _rivals(signals: Signals, table: Columns) -> bool:
    """Whether a gap has another reason."""
    labels, data = signals.labels, signals.data_probe
    if labels.single > SORTED or labels.within - labels.overall > SORTED:
        return True
    if data is not None and max(data.accuracy, data.nearest) <= data.chance + data.noise:
        return True  # the labels tell nothing: what the net learns by heart is noise
    (losses,) = table.known("val_loss")
    probe = signals.probes[-1] if signals.probes else None
    if probe is None or not len(losses) or not probe.evaluated > 0:
        return False
    # the probe batch is of training images: evaluation mode itself is what fails on them
    return probe.evaluated > 1.5 * probe.cross_entropy + 0.1 and probe.evaluated > HALF * recent(losses)


def _of_losses(table: Columns) -> Finding | None:
    """Without accuracies a risen loss says little: only where it is high and training went on."""
    rise, best, least = _rise(table)
    train, val = table.known("train_loss", "val_loss")
    if best is None or not rise > SLIGHTLY_RISEN:
        return None
    at_best = int(val.argmin())
    went_on = train[-1] < 0.7 * train[min(at_best, len(train) - 1)] and recent(train) < 0.5 * recent(val)
    if not went_on:
        return None
    harmed = rise > SOARED and least > LONE_LOSS
    return Finding(
        "overfitting",
        "warning" if harmed else "info",
        0.6 if harmed else 0.5,
        evidence=(
            Evidence("validation loss over its best", rise, f"below {RISEN}", best),
            Evidence("training loss", recent(train), "near the validation loss"),
        ),
        remedies=_REMEDIES,
        step=best,
        reference="Prechelt, 1998",
        summary=f"the validation loss is {rise:.1f} times its best while the training loss goes on falling",
    )
