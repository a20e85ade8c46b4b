"""Augmentation that destroys what the label stands on: the net sees little in training, and learns little.

Looks at  accuracy on the training batches against validation of one epoch before, and mean and spread of both
          kinds of input
Why       augmentation and dropout always make training batches harder, by about 10 points in good recipes. An
          epoch's training accuracy is therefore compared with the validation before it, less an allowance
          for dropout; a warning needs a clear difference of the inputs beside it, and a poor fit. Noise and
          holes change the spread about the same mean and leave the ends where they were, which no other
          preprocessing does: twice the spread is beyond all recipes
Confused  label_noise in the training set alone (the inputs are then alike), mixup and cutmix (the accuracy on
          mixed labels says nothing), over_regularised (dropout), train_val_preprocessing_differ (validation
          is then the worse one), underfitting (no such difference)
Source    DeVries and Taylor, 2017, arXiv:1708.04552 (too large holes harm); Cubuk et al., RandAugment, 2019,
          arXiv:1909.13719 (accuracy over strength)
"""

from __future__ import annotations

import numpy as np

from convclinic.clinic.causes._trend import course
from convclinic.clinic.causes.train_val_preprocessing_differ import POOR, differences, hides
from convclinic.clinic.epochs import UNKNOWN_BATCH, columns, noise, recent, validation_noise
from convclinic.clinic.signals import Floats, Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = (
    "overfitting",
    "underfitting",
    "plateau",
    "train_val_preprocessing_differ",
    "label_noise",
    "labels_shuffled",
    "dead_relu",
)
LEAST = 3  # epochs
WIDE = 0.2  # validation minus training accuracy that no usual recipe reaches
SOME = 0.05  # the same where the inputs differ as well
SHIFT, SPREAD = 0.3, 1.25  # beyond what flips, small crops and usual jitter do to mean and spread
CLEAR = 2.0  # the same ratio, where one epoch has to do
PER_DROPOUT = 0.2  # of accuracy that dropout of 1 would cost in training mode; 0.5 costs about 10 points
HEAVY_DROPOUT = 0.6
REMEDIES = ("augment=flip", "weaker augmentation: smaller holes, angles, crops or noise")
SETTLED, LITTLE = 100, 0.1  # steps, and share of the floor learnt by then
BEYOND = 1.5  # times two standard errors of chance, within which a linear probe has learnt nothing
REPEATED = 2  # of the last three epochs


def judge(signals: Signals) -> Finding | None:
    dropout = max((p for _, p in signals.setup.dropouts), default=0.0) if signals.setup else 0.0
    targets = signals.first.targets
    if dropout >= HEAVY_DROPOUT or (targets is not None and targets.kind in ("soft", "multi")):
        return None
    train, val, step = _pairs(signals)
    if len(val) < LEAST - 1:
        return _hidden(signals, *_latest(signals)) or _blind(signals)
    ahead = val - train
    unsure = validation_noise(recent(val), signals) + noise(recent(train), _images(signals))
    spare = unsure + PER_DROPOUT * dropout
    shift, spread = _inputs(signals)
    altered = shift > SHIFT or spread > SPREAD
    limit = (SOME if altered else WIDE) + spare
    over = ahead[-3:] > limit
    if recent(train) > POOR or over.sum() < min(REPEATED, len(over)) or recent(ahead) < limit:
        return _hidden(signals, train, val, step) or _blind(signals)
    first = int(step[np.flatnonzero(ahead > limit)[0]])
    evidence = [Evidence("validation minus training accuracy", recent(ahead), f"below {limit:.2f}", first)]
    if altered:
        evidence.append(
            Evidence("spread of training over validation inputs, or back", spread, f"below {SPREAD}")
        )
        evidence.append(Evidence("shift between them, in standard deviations", shift, f"below {SHIFT}"))
    return Finding(
        "destructive_augmentation",
        "warning" if altered else "info",  # labels that are wrong in training alone look the same
        (0.8 if recent(ahead) > SOME + WIDE / 2 else 0.65) if altered else 0.5,
        where="training inputs",
        evidence=tuple(evidence),
        ruled_out=("mixup: the targets are not mixed",) if targets is not None else (),
        remedies=REMEDIES,
        step=first,
        reference="Cubuk et al., 2019, arXiv:1909.13719",
        summary=f"the net is right on {recent(train):.1%} of the training images as augmented and on "
        f"{recent(val):.1%} of the validation images",
    )


def _hidden(signals: Signals, train: Floats, val: Floats, step: Floats) -> Finding | None:
    """Noise or holes that hide the images: the spread changes and the mean does not, and training is poor.

    Validation need not be the better one: it is foreign to a net that was trained on such images. Training
    is always poor in the first epoch, so the spread must then differ more.
    """
    if not len(val) or (len(val) < LEAST - 1 and _inputs(signals)[1] < CLEAR):
        return None
    fit = recent(train)
    unsure = validation_noise(recent(val), signals) + noise(fit, _images(signals))
    _, spread = _inputs(signals)
    harmed = fit <= POOR or fit - recent(val) > SOME + unsure or spread >= CLEAR
    if not hides(signals) or not harmed:
        return None
    return Finding(
        "destructive_augmentation",
        "warning",
        0.65,
        where="training inputs",
        evidence=(
            Evidence("spread of training over validation inputs, or back", spread, f"below {SPREAD}"),
            Evidence("accuracy on training images as augmented", fit, f"above {POOR}"),
            Evidence("accuracy on validation images", recent(val), "no worse"),
        ),
        ruled_out=("train_val_preprocessing_differ: the means are the same",),
        remedies=REMEDIES,
        step=int(step[-1]),
        reference="DeVries and Taylor, 2017, arXiv:1708.04552",
        summary=f"training and validation images differ {spread:.1f} times in spread about the same mean, "
        f"as noise or holes make it, and the net is right on {fit:.1%} of the training images",
    )


def _blind(signals: Signals) -> Finding | None:
    """Training images that tell next to nothing about their labels, and are not like validation's."""
    data, c = signals.data_probe, course(signals)
    shift, spread = _inputs(signals)
    if data is None or c is None or c.seen < SETTLED or c.learnt > LITTLE:
        return None
    if data.accuracy > data.chance + BEYOND * data.noise or not (shift > SHIFT or spread > SPREAD):
        return None
    return Finding(
        "destructive_augmentation",
        "warning",
        0.6,
        where="training inputs",
        evidence=(
            Evidence("accuracy of a linear probe", data.accuracy, f"above chance, {data.chance:.3f}"),
            Evidence("shift to validation inputs, in standard deviations", shift, f"below {SHIFT}"),
            Evidence("spread of training over validation inputs, or back", spread, f"below {SPREAD}"),
            Evidence("share of the floor learnt", round(c.learnt, 3), f"above {LITTLE}", c.seen),
        ),
        ruled_out=("labels_shuffled alone: the images differ from validation's too",),
        remedies=REMEDIES,
        step=c.seen,
        reference="Cubuk et al., 2019, arXiv:1909.13719",
        summary=f"neither the net nor a linear probe ({data.accuracy:.1%}, chance {data.chance:.1%}) learns "
        "anything from the training images as augmented, which are unlike validation's",
    )


def _pairs(signals: Signals) -> tuple[Floats, Floats, Floats]:
    """Training accuracy of an epoch, validation accuracy of the one before it, and the step.

    The batches' own accuracy counts where there is one: what a loop tells may be measured on clean images.
    """
    table = columns(signals)
    own = bool(np.isfinite(table.batch_accuracy).any())
    train = table.batch_accuracy if own else table.train_accuracy
    here = np.isfinite(train[1:]) & np.isfinite(table.val_accuracy[:-1])
    return train[1:][here], table.val_accuracy[:-1][here], table.step[1:][here]


def _latest(signals: Signals) -> tuple[Floats, Floats, Floats]:
    """Training and validation accuracy of the same epochs, and the step."""
    train, val, step = columns(signals).known("train_accuracy", "val_accuracy", "step")
    return train, val, step


def _images(signals: Signals) -> float:
    images = columns(signals).batch_images
    known = images[np.isfinite(images)]
    return float(known[-3:].sum()) if len(known) else 10.0 * UNKNOWN_BATCH


def _inputs(signals: Signals) -> tuple[float, float]:
    """Shift and ratio of spreads between training and validation inputs; 0 and 1 where unknown."""
    train, val = signals.evaluations.train, signals.evaluations.inputs
    if train is None or val is None or len(train.channel_stds) != len(val.channel_stds) or train.std <= 0:
        return 0.0, 1.0
    return differences(train, val)
