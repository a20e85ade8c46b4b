"""Batches that go through the model without gradients, compared with those that it trained on.

An image's fingerprint is a hash of some of its pixels, so that equal images are found exactly and cheaply.
A batch of training images alone is taken for a measurement of the training accuracy, not for validation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convclinic.clinic.signals import Evaluations, Inputs

PIXELS = 256  # of an image that its fingerprint reads, at most
MOST_TRAINING = 65536  # fingerprints of training images that are kept
MOST_COMPARED = 8192  # evaluated images that are compared
MOST_MEASURED = 32  # evaluated batches whose mean and spread are taken
TRAINING_SHARE = 0.95  # of a batch seen in training: then it measures the training accuracy


def pixels(images: Tensor) -> Tensor:
    """Some pixels of each image (b, ...), as they are: rows of 256 numbers at most."""
    flat = images.detach().flatten(1)
    return flat[:, :: max(1, -(-flat.shape[1] // PIXELS))].float()


def fingerprints(rows: NDArray[np.float32]) -> list[bytes]:
    """One for each row of pixels; empty for an image of one colour, which says nothing."""
    varied = rows.min(1) != rows.max(1)
    return [
        hashlib.blake2b(row.tobytes(), digest_size=8).digest() if varies else b""
        for row, varies in zip(rows, varied, strict=True)
    ]


@dataclass
class Moments:
    """Mean and spread of images, channel by channel, gathered batch by batch on the CPU."""

    images: int = 0
    sums: list[Tensor] = field(default_factory=list[Tensor])
    low: float = float("inf")
    high: float = float("-inf")
    shape: tuple[int, ...] = ()

    def add(self, images: Tensor) -> None:
        pixels = images.detach().float()
        dims = [0, *range(2, pixels.ndim)]
        std, mean = torch.std_mean(pixels, dims, correction=0)
        self.sums.append(torch.stack([mean, std.square() + mean.square()]).cpu() * len(pixels))
        self.images += len(pixels)
        low, high = torch.aminmax(pixels)
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        self.shape = tuple(images.shape)

    def inputs(self) -> Inputs | None:
        if not self.images:
            return None
        mean, square = torch.stack(self.sums).sum(0).numpy().astype(float) / self.images
        channels = np.sqrt(np.maximum(square - mean**2, 0.0))
        overall = float(np.sqrt(max(0.0, square.mean() - mean.mean() ** 2)))
        finite = bool(np.isfinite(mean).all())
        return Inputs(
            self.shape,
            float(mean.mean()),
            overall,
            self.low,
            self.high,
            finite,
            channel_means=tuple(mean.tolist()),
            channel_stds=tuple(channels.tolist()),
        )


class EvaluationWatch:
    """Gathers what `Evaluations` tells."""

    def __init__(self) -> None:
        self.trained: set[bytes] = set()
        self.train, self.validation = Moments(), Moments()
        self.forwards = self.in_training = self.images = self.compared = self.repeats = 0
        self.own = self.own_images = 0  # batches of training images alone
        self.since = 0

    def learn(self, rows: NDArray[np.float32]) -> list[bool]:
        """Note the `pixels` of training images; returns which of them are new."""
        new: list[bool] = []
        for mark in fingerprints(rows):
            new.append(bool(mark) and mark not in self.trained)
            if mark:
                self.trained.add(mark)
        return new

    def see(self, images: Tensor, training: bool, step: int) -> None:
        """One batch without gradients."""
        if images.ndim < 3:
            return
        self.forwards += 1
        self.in_training += training
        self.images += len(images)
        if self.compared + self.own_images >= MOST_COMPARED and self.validation.images:
            return
        marks = [mark for mark in fingerprints(pixels(images).cpu().numpy()) if mark]
        repeats = sum(mark in self.trained for mark in marks)
        if marks and repeats >= TRAINING_SHARE * len(marks):
            self.own, self.own_images = self.own + 1, self.own_images + len(marks)
            return
        self.since = self.since or step
        self.compared, self.repeats = self.compared + len(marks), self.repeats + repeats
        if len(self.validation.sums) < MOST_MEASURED and images.ndim == 4:
            self.validation.add(images)

    def signal(self, validated: bool) -> Evaluations:
        """What was seen. Where there was a validation, and nothing but training images went through the
        model, they are what it was validated on."""
        only = validated and self.forwards > 0 and self.own == self.forwards
        compared, repeats = (self.own_images, self.own_images) if only else (self.compared, self.repeats)
        return Evaluations(
            self.forwards,
            self.in_training / max(1, self.forwards),
            self.images - self.own_images,
            compared,
            repeats / max(1, compared),
            self.validation.inputs(),
            self.train.inputs(),
            self.since,
        )
