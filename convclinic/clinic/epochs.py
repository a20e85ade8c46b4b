"""Epochs as columns, and what the number of images behind an accuracy lets one say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from convclinic.clinic.signals import Epoch, Floats, Signals

UNKNOWN_VALIDATION = 300  # images assumed where nobody said how many: an accuracy is then known to 6 points
UNKNOWN_BATCH = 16  # images assumed in a batch of unknown size


@dataclass(frozen=True)
class Columns:
    """Equally long columns, NaN where something was not told.

    train_accuracy: as told, else that of the epoch's later batches; batch_accuracy: the latter alone, which
    is measured on the images as the net trains on them; batch_images: how many those were.
    """

    epoch: Floats
    step: Floats
    lr: Floats
    train_loss: Floats
    train_accuracy: Floats
    batch_accuracy: Floats
    batch_images: Floats
    val_loss: Floats
    val_accuracy: Floats

    def __len__(self) -> int:
        return len(self.epoch)

    def known(self, *names: str) -> tuple[Floats, ...]:
        """These columns, at the epochs where all of them are finite."""
        picked = [getattr(self, name) for name in names]
        here = np.all([np.isfinite(column) for column in picked], axis=0)
        return tuple(column[here] for column in picked)


def columns(signals: Signals) -> Columns:
    """The epochs of a run."""
    told = {name: _column(signals.epochs, name) for name in ("train_accuracy", "val_loss", "val_accuracy")}
    batches, images = _batches(signals)
    told["train_accuracy"] = np.where(np.isnan(told["train_accuracy"]), batches, told["train_accuracy"])
    others = {name: _column(signals.epochs, name) for name in ("epoch", "step", "lr", "train_loss")}
    return Columns(**told, **others, batch_accuracy=batches, batch_images=images)


def noise(accuracy: float, images: float) -> float:
    """Two standard errors of an accuracy measured on so many images, never none near 0 and 1.

    >>> round(noise(0.5, 300), 3)
    0.058
    """
    p = (accuracy * images + 2) / (images + 4)  # Agresti and Coull, 1998
    return 2 * math.sqrt(p * (1 - p) / max(images, 1))


def validation_noise(accuracy: float, signals: Signals) -> float:
    """Two standard errors of a validation accuracy."""
    return noise(accuracy, signals.validation or UNKNOWN_VALIDATION)


def recent(values: Floats, n: int = 3) -> float:
    """The median of the last `n`: one odd epoch does not count."""
    return float(np.median(values[-n:])) if len(values) else math.nan


def _column(epochs: tuple[Epoch, ...], name: str) -> Floats:
    values = [getattr(epoch, name) for epoch in epochs]
    return np.array([math.nan if value is None else float(value) for value in values], np.float64)


def _batches(signals: Signals) -> tuple[Floats, Floats]:
    """Accuracy of the later half of each epoch's measured batches, and the images behind it."""
    step, accuracy = signals.steps.step, signals.steps.accuracy
    mean, images = np.full((2, len(signals.epochs)), math.nan)
    if not len(step) or len(accuracy) != len(step):
        return mean, images
    sizes = np.where(np.isfinite(signals.steps.size), signals.steps.size, UNKNOWN_BATCH)
    before = 0
    for i, epoch in enumerate(signals.epochs):
        here = (step > (before + epoch.step) / 2) & (step <= epoch.step) & np.isfinite(accuracy)
        before = epoch.step
        if here.any():
            mean[i], images[i] = np.average(accuracy[here], weights=sizes[here]), sizes[here].sum()
    return mean, images
