"""Underfitting: the net is too small, or too restrained, to fit even the images it trains on.

Looks at  training loss over the latter half of the run, training and validation accuracy, how well a copy
          fits one batch, the number of weights, and what a linear probe of thumbnails reaches
Why       a low accuracy alone says nothing: data may be hard or the run young. A warning needs a loss that
          has stopped falling (by less than 3 % over the latter half, with the LR still high) far above zero,
          no gap, and a reason: one batch cannot be fitted, fewer weights than a linear classifier of
          thumbnails, or an accuracy below that classifier's
Confused  lr_too_low (updates are tiny), lr_too_high (they are huge), over_regularised (decay, dropout),
          label_noise and labels_shuffled (thumbnails tell nothing), a schedule that has ended
Source    Goodfellow et al., Deep Learning, 2016, sections 5.2 and 11.3; one batch first: Karpathy, A recipe
          for training neural networks, 2019
"""

from __future__ import annotations

import math

import numpy as np

from convclinic.clinic.epochs import UNKNOWN_BATCH, columns, noise, recent, validation_noise
from convclinic.clinic.signals import Floats, Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = ("plateau",)
LEAST_STEPS, LEAST_EPOCHS = 120, 6  # before that a slow start looks the same,
LONG_STEPS, LONG_EPOCHS = 500, 10  # from which on one reason alone is enough for a warning
SURE_STEPS = 40  # unless the net is tiny and cannot fit one batch either
HALT = 0.03  # of the loss: less of a fall over the latter half is standing still
SLOW = 0.1  # the same where two reasons speak for it
ONE_BATCH, WEIGHTS = "accuracy of a copy on one batch", "number of weights"
HIGH = 0.4  # of the loss of a net that learnt nothing (ln K): below it the net fits
LEARNT = 0.9  # of it: above, nothing is learnt at all, which is another matter,
AT_FLOOR = 1.1  # unless the net has too few weights to learn anything
LOW = 0.8  # training accuracy
GAP = 0.05  # of accuracy, beyond noise
THUMBNAIL = 64  # pixels of the smallest picture that still shows what it is, per channel
POOR_FIT, POOR_LOSS = 0.9, 0.25  # of one batch by a copy: accuracy, and loss over the first
STEADY = (1e-5, 0.03)  # update over weights where the LR is neither far too low nor too high
STRONG_DECAY = (0.01, 0.3)  # weight decay of SGD and of Adam's kin from which on it may be what restrains
HEAVY_DROPOUT = 0.6
ENDED = 0.3  # of the highest LR: from there on standing still is the schedule's doing


def judge(signals: Signals) -> Finding | None:
    fit, val, images = _accuracies(signals)
    level, fall, step = _halt(signals)
    targets = signals.first.targets
    if targets is not None and targets.kind in ("soft", "multi"):
        return None  # mixed labels: neither accuracy nor loss can come near the ends
    if not fit < LOW or _rivals(signals):
        return None
    if math.isfinite(val) and fit - val > GAP + validation_noise(val, signals):
        return None
    reasons = _reasons(signals, fit, images)
    named = {item.signal for item in reasons}
    sure = {ONE_BATCH, WEIGHTS} <= named
    few = WEIGHTS in named and len(named) > 1
    if not sure and not fall < (HALT if len(reasons) < 2 else SLOW):
        return None
    long = signals.observed >= LONG_STEPS or len(signals.epochs) >= LONG_EPOCHS
    alarming = sure or len(reasons) > 1 or (bool(reasons) and long)
    top = signals.floor
    if math.isfinite(top) and not HIGH * top < level < (AT_FLOOR if few else LEARNT) * top:
        return None
    return Finding(
        "underfitting",
        "warning" if alarming else "info",
        min(0.85, 0.6 + 0.1 * len(reasons)) if reasons else 0.4,
        evidence=(
            Evidence("training accuracy", fit, f"above {LOW}", step),
            Evidence("relative fall of the loss over the latter half", fall, f"above {HALT}", step),
            *reasons,
        ),
        ruled_out=("overfitting: validation is no worse than training",) if math.isfinite(val) else (),
        remedies=("net=fast", "a wider or deeper net, less weight decay and dropout, weaker augmentation"),
        step=step,
        reference="Goodfellow et al., 2016, section 11.3",
        summary=f"the training loss is still {level:.2f}, with {fit:.0%} of the training images right"
        + (f": {reasons[0].signal} is {reasons[0].value:.4g}" if reasons else ""),
    )


def _accuracies(signals: Signals) -> tuple[float, float, float]:
    """Of training and validation lately, and the images behind the former."""
    table = columns(signals)
    (val,) = table.known("val_accuracy")
    batches, sizes = _late_batches(signals)
    (told,) = table.known("train_accuracy")
    if len(told) and not len(batches):
        return recent(told), recent(val), 10.0 * UNKNOWN_BATCH
    if not len(batches):
        return math.nan, math.nan, 0.0
    mean = float(np.average(batches, weights=sizes))
    return (max(mean, recent(told)) if len(told) else mean), recent(val), float(sizes.sum())


def _late_batches(signals: Signals) -> tuple[Floats, Floats]:
    """Accuracy and size of the batches measured in the last third of the run."""
    step, accuracy, size = signals.steps.step, signals.steps.accuracy, signals.steps.size
    if len(step) < SURE_STEPS or len(accuracy) != len(step):
        return np.empty(0), np.empty(0)
    late = (step > step[-1] * 2 / 3) & np.isfinite(accuracy)
    return accuracy[late], np.where(np.isfinite(size[late]), size[late], UNKNOWN_BATCH)


def _halt(signals: Signals) -> tuple[float, float, int | None]:
    """Level of the loss, its relative fall over the latter half of the run, and the half's first step."""
    steps = signals.steps
    losses, at, lr = steps.loss, steps.step, steps.lr
    if len(losses) < SURE_STEPS:
        table = columns(signals)
        losses, at = table.known("train_loss", "step")
        lr = table.lr
        if len(losses) < LEAST_EPOCHS:
            return math.nan, math.nan, None
    if not np.isfinite(losses).all() or _ended(lr):
        return math.nan, math.nan, None
    latter = losses[at > at[-1] / 2]
    middle = len(latter) // 2
    before, after = float(latter[:middle].mean()), float(latter[middle:].mean())
    error = float(np.hypot(latter[:middle].std(), latter[middle:].std())) / math.sqrt(max(1, middle))
    if before <= 0:
        return math.nan, math.nan, None
    # too noisy to tell, or too early (epochs are fewer than that)
    unsure = error > HALT * before or SURE_STEPS <= len(losses) < LEAST_STEPS
    fall = math.nan if unsure else (before - after) / before
    return after, fall, int(at[len(losses) - len(latter)])


def _ended(lr: Floats) -> bool:
    known = lr[np.isfinite(lr)]
    return len(known) > 0 and float(np.mean(known[-max(1, len(known) // 4) :])) < ENDED * float(known.max())


def _rivals(signals: Signals) -> bool:
    """Whether standing still has another reason than capacity."""
    data, setup = signals.data_probe, signals.setup
    if data is not None and max(data.accuracy, data.nearest) <= data.chance + data.noise:
        return True
    if setup is not None:
        strong = any(group.weight_decay >= STRONG_DECAY[group.adaptive] for group in setup.groups)
        if strong or any(p >= HEAVY_DROPOUT for _, p in setup.dropouts) or setup.missing:
            return True
        if setup.trainable < setup.parameters:
            return True  # frozen on purpose or not: another rule's business
    (ratio,) = signals.steps.known("ratio") if len(signals.steps) else (np.empty(0),)
    return len(ratio) > 0 and not STEADY[0] < float(np.median(ratio[-16:])) < STEADY[1]


def _reasons(signals: Signals, fit: float, images: float) -> list[Evidence]:
    found: list[Evidence] = []
    one = signals.preflight.one_batch if signals.preflight else None
    if one is not None and one.accuracy < POOR_FIT and one.last_loss > POOR_LOSS * one.first_loss:
        found.append(Evidence(ONE_BATCH, one.accuracy, f"above {POOR_FIT}"))
    inputs, setup = signals.first.inputs, signals.setup
    if inputs is not None and setup is not None and signals.classes and len(inputs.shape) == 4:
        linear = signals.classes * (THUMBNAIL * inputs.shape[1] + 1)
        if 0 < setup.parameters < linear:
            found.append(Evidence(WEIGHTS, setup.parameters, f"above {linear}"))
    data = signals.data_probe
    if data is not None and fit < data.accuracy - noise(fit, images) - data.noise:
        found.append(Evidence("training accuracy", fit, f"above {data.accuracy:.2f}, of a linear probe"))
    return found
