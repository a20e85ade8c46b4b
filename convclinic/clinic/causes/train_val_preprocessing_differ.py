"""Training and validation images reach the net in different scales, shifts or orders of channels.

Looks at  mean and standard deviation of each channel, of training and of validation batches as they go in;
          validation accuracy beside that of a linear probe on held-out training images
Why       augmentation moves the mean by a third of a standard deviation at most (crops with black borders,
          jitter), and the spread by a quarter: half of one, or a factor of two, needs another preprocessing.
          Forgotten division by 255, forgotten standardisation and other constants are all beyond that. Where
          means and spreads are equal (BGR after standardisation, turned images, other labels): a net that
          fits its training images, and does worse on validation than a linear probe of 8 x 8 thumbnails on
          training images that it has not seen, has learnt something else than what validation shows.
          Overfitting alone is not that bad
Confused  destructive_augmentation: there the spread differs about the same mean and training is poor, or the
          net does better on validation than on training images
Source    Sambasivan et al., Data cascades, 2021; a check for train-serve skew as in Breck et al., Data
          validation for machine learning, 2019
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from convclinic.clinic.epochs import columns, noise, recent, validation_noise
from convclinic.clinic.signals import Floats, Inputs, Signals
from convclinic.kinds import Evidence, Finding, Severity

LINEAR = 0.1  # of accuracy: so far below a linear probe of thumbnails, beyond noise
BALANCED = 3.0  # largest over smallest class, up to which an accuracy needs no recalls to be compared
UNFIT = 1.5, 0.1  # loss of the probe batch in evaluation mode over that in training mode: times, and plus
EXPLAINS = ("overfitting", "wrong_mode", "label_noise")
SHIFT = 0.5  # of a training standard deviation
SPREAD = 2.0  # ratio of the standard deviations, either way
FAR_SHIFT, FAR_SPREAD = 1.0, 2.8  # never augmentation: images that are scaled as no training image is
IMAGES = 32  # validation images at least; fewer may be bright by chance
PERMUTED = 5.0  # how much better the channels must fit in another order
COLOURED = (
    0.15  # standard deviations between the channels in their own order, below which order cannot be told
)
GAP, SLIGHT = (
    0.05,
    0.02,
)  # training minus validation accuracy: harm beyond noise, and harm where scales differ
STAYS, HIDDEN, SCALED = (
    0.2,
    1.5,
    4.0,
)  # another spread about a mean that stays is augmentation's
ENDS = 1.3  # times, by which an end lies elsewhere, in standard deviations
POOR = 0.7  # training accuracy
MANY = 1000.0  # training images behind an accuracy that the loop tells
SMALL = 1e-6


def judge(signals: Signals) -> Finding | None:
    seen = signals.evaluations
    train, val = seen.train, seen.inputs
    if train is None or val is None or not (train.finite and val.finite) or seen.images < IMAGES:
        return None
    if len(train.channel_stds) != len(val.channel_stds) or train.std < SMALL:
        return None
    shift, spread = differences(train, val)
    order = _order(train, val)
    scale = shift >= SHIFT or spread >= SPREAD
    if not scale and order is None:
        return _below_linear(signals)
    severity, confidence = _grade(signals, shift > FAR_SHIFT or spread > FAR_SPREAD, scale)
    evidence = [
        Evidence("mean of validation inputs", val.mean, f"near {train.mean:.3g}, as in training", seen.since),
        Evidence("spread of validation inputs", val.std, f"near {train.std:.3g}, as in training", seen.since),
    ]
    if order is not None and not scale:
        told = f"channels of validation images fit those of training images in the order {order}"
        evidence.append(Evidence("order of channels", str(order), str(tuple(sorted(order)))))
    else:
        told = (
            f"validation images have mean {val.mean:.3g} and spread {val.std:.3g}, "
            f"training images {train.mean:.3g} and {train.std:.3g}"
        )
    return Finding(
        "train_val_preprocessing_differ",
        severity,
        confidence,
        where="validation inputs",
        evidence=tuple(evidence),
        remedies=(
            "give validation the training set's preprocessing, with its constants, without augmentation",
        ),
        step=seen.since,
        reference="Breck et al., 2019",
        summary=told,
    )


def _below_linear(signals: Signals) -> Finding | None:
    """A net that fits, and does worse on validation than a linear probe on training images new to it."""
    data, table = signals.data_probe, columns(signals)
    fit, _ = table.known("train_accuracy", "val_accuracy")
    val = _as_in_training(signals)
    if data is None or len(fit) < 2 or len(val) < 2 or _unfit(signals):
        return None
    reached = recent(val)
    short = data.accuracy - data.noise - reached - validation_noise(reached, signals)
    if recent(fit) < data.accuracy - data.noise or short < LINEAR:
        return None
    return Finding(
        "train_val_preprocessing_differ",
        "warning",
        0.75,
        where="validation",
        evidence=(
            Evidence("validation accuracy", reached, f"above {data.accuracy:.2f}, of a linear probe"),
            Evidence("training accuracy", recent(fit), "near validation's"),
        ),
        ruled_out=("overfitting: a linear probe does better on training images that it has not seen",),
        remedies=(
            "look at a validation and a training image as the net receives them: channels, size, orientation",
            "compare the numbering of the classes of both",
        ),
        step=signals.evaluations.since,
        reference="Breck et al., 2019",
        summary=f"the net is right on {recent(fit):.0%} of the training and {reached:.0%} of the validation "
        f"images; a linear probe gets {data.accuracy:.0%} of training images that it has not seen",
    )


def _as_in_training(signals: Signals) -> Floats:
    """Validation accuracy by epoch, as it were with the training set's shares of the classes."""
    counts = np.asarray(signals.labels.counts, float)
    if not counts.any():
        return np.empty(0)
    told = [epoch for epoch in signals.epochs if epoch.val_accuracy is not None]
    recalls = [epoch.recalls for epoch in told if epoch.recalls and len(epoch.recalls) == len(counts)]
    if told and len(recalls) == len(told):
        table = np.array(recalls, float)
        return np.nan_to_num(table) @ counts / np.maximum(np.isfinite(table) @ counts, 1.0)
    if counts.max() > BALANCED * counts.min():
        return np.empty(0)
    return np.array([epoch.val_accuracy for epoch in told], float)


def _unfit(signals: Signals) -> bool:
    """Whether evaluation mode itself fails on training images, or was never seen on them."""
    times, plus = UNFIT
    probe = signals.probes[-1] if signals.probes else None
    return probe is None or not probe.evaluated < times * probe.cross_entropy + plus


def differences(train: Inputs, val: Inputs) -> tuple[float, float]:
    """Largest shift of a channel in training standard deviations, and the ratio of spreads, at least 1."""
    stds = np.maximum(np.array(train.channel_stds), max(SMALL, 0.05 * train.std))
    shifts = np.abs(np.array(val.channel_means) - np.array(train.channel_means)) / stds
    ratio = max(val.std, SMALL * train.std) / train.std
    return float(shifts.max()), max(ratio, 1 / ratio)


def hides(signals: Signals) -> bool:
    """Whether the spread differs and the mean does not, as noise or holes make it.

    Another preprocessing moves the ends along with the spread; noise and holes do not.
    """
    train, val = signals.evaluations.train, signals.evaluations.inputs
    if train is None or val is None or not (train.std > 0 and val.std > 0):
        return False
    shift, spread = differences(train, val)
    stays = shift * min(1.0, train.std / val.std) < STAYS
    moved = float(np.abs(np.log(_ends(train) / _ends(val))).max())
    return stays and HIDDEN < spread < SCALED and moved > math.log(ENDS)


def _ends(x: Inputs) -> Floats:
    """How far the darkest and the brightest value lie from the mean, in standard deviations."""
    return np.maximum(np.array([x.mean - x.low, x.high - x.mean]) / x.std, SMALL)


def _order(train: Inputs, val: Inputs) -> tuple[int, ...] | None:
    """The order of the validation's channels that fits far better than their own, if there is one."""
    n = len(train.channel_means)
    if n != 3:
        return None
    a, b = (np.array([x.channel_means, x.channel_stds]) / train.std for x in (train, val))
    apart = {order: float(np.abs(a - b[:, order]).max()) for order in itertools.permutations(range(n))}
    best = min(apart, key=lambda order: apart[order])
    own = apart[tuple(range(n))]
    return best if own > COLOURED and own > PERMUTED * max(apart[best], 0.01) else None


def _grade(signals: Signals, far: bool, scale: bool) -> tuple[Severity, float]:
    """What validation shows of it: no worse than training, it did no harm or is augmentation's doing.

    far: beyond all augmentation; scale: scales differ, and not only the order of channels.
    """
    table = columns(signals)
    train, val = table.known("train_accuracy", "val_accuracy")
    if not len(val):
        return ("warning", 0.75) if far else ("info", 0.5)
    fit, accuracy = recent(train), recent(val)
    (images,) = table.known("batch_images")
    unsure = validation_noise(accuracy, signals) + noise(fit, float(images[-1]) if len(images) else MANY)
    if hides(signals):
        return "info", 0.5
    if fit - accuracy > GAP + unsure:
        return "warning", 0.9
    return ("warning", 0.7) if scale and fit - accuracy > SLIGHT else ("info", 0.5)
