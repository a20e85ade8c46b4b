"""Batches that go through the model without gradients, compared with those that it trained on.

An image's fingerprint is a hash of some of its pixels, so that equal images are found exactly and cheaply.
A look at the training set itself is no validation: `passes` tells the two apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convclinic.clinic.passes import training_batches
from convclinic.clinic.signals import Evaluations, Inputs

PIXELS = 256  # of an image that its fingerprint reads, at most
MOST_TRAINING = 65536  # fingerprints of training images that are kept
MOST_COMPARED = 8192  # evaluated images after which no further pass is compared
MOST_MEASURED = 32  # evaluated batches whose mean and spread are taken
FACTORS = np.random.default_rng(0).integers(0, 2**63, PIXELS, np.uint64) * np.uint64(2) + np.uint64(1)


def pixels(images: Tensor) -> Tensor:
    """Some pixels of each image (b, ...), as they are: rows of 256 numbers at most."""
    flat = images.detach().flatten(1)
    return flat[:, :: max(1, -(-flat.shape[1] // PIXELS))].float()


def fingerprints(rows: NDArray[np.float32]) -> list[int]:
    """One for each row of pixels; 0 for an image of one colour, which says nothing.

    The bits of the numbers, times random odd numbers, summed modulo 2^64: every step of a training pays for
    this, and it costs a sixth of a cryptographic hash.
    """
    bits = np.ascontiguousarray(rows, np.float32).view(np.uint32).astype(np.uint64)
    factors = FACTORS[: bits.shape[1]]
    sums = bits @ factors  # wrapping around is meant
    plain = sums == bits[:, 0] * factors.sum()
    # images of few grey levels differ in the high bits, sets look at the low ones
    return np.where(plain, np.uint64(0), sums ^ (sums >> np.uint64(29))).tolist()


@dataclass
class Moments:
    """Mean and spread of images, channel by channel, gathered batch by batch on the CPU."""

    images: int = 0
    batches: int = 0
    sums: Tensor | None = None  # (2, c): of mean and of mean square, times the images
    low: float = float("inf")
    high: float = float("-inf")
    shape: tuple[int, ...] = ()

    def add(self, images: Tensor) -> None:
        pixels = images.detach().float()
        dims = [0, *range(2, pixels.ndim)]
        channel = pixels[:, 0].numel() / len(pixels)
        mean, norm = pixels.mean(dims), torch.linalg.vector_norm(pixels, dim=dims)
        sums = torch.stack([mean * len(pixels), norm.square() / channel]).cpu()
        self.sums = sums if self.sums is None or self.sums.shape != sums.shape else self.sums + sums
        self.images, self.batches = self.images + len(pixels), self.batches + 1
        low, high = torch.aminmax(pixels)
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        self.shape = tuple(images.shape)

    def inputs(self) -> Inputs | None:
        if self.sums is None:
            return None
        mean, square = self.sums.numpy().astype(float) / self.images
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


def together(parts: Sequence[Moments]) -> Moments:
    """The moments of several batches as if they were one; other channel counts are left out."""
    whole = Moments()
    for part in parts:
        if part.sums is None or (whole.sums is not None and whole.sums.shape != part.sums.shape):
            continue
        whole.sums = part.sums if whole.sums is None else whole.sums + part.sums
        whole.images, whole.batches = whole.images + part.images, whole.batches + part.batches
        whole.low, whole.high = min(whole.low, part.low), max(whole.high, part.high)
        whole.shape = part.shape
    return whole


@dataclass
class Batch:
    """One evaluated batch: how many images, which of them (but those of one colour) are training images."""

    step: int
    images: int
    known: NDArray[np.bool_]
    moments: Moments | None


class EvaluationWatch:
    """Gathers what `Evaluations` tells."""

    def __init__(self) -> None:
        self.trained: set[int] = set()
        self.train = Moments()
        self.forwards = self.in_training = self.images = 0
        self._batches: list[Batch] = []  # of whole passes, until enough images were compared
        self._compared = 0
        self._measured = [0, 0]  # batches without and with training images

    def learn(self, batches: Sequence[NDArray[np.float32]]) -> list[NDArray[np.bool_]]:
        """Note the `pixels` of training batches; returns which images of each are new."""
        alike = len({batch.shape[1] for batch in batches}) == 1
        parts = [np.concatenate(batches)] if alike else batches  # one call for all: each costs its overhead
        marks = [mark for rows in parts for mark in fingerprints(rows)]
        new = np.zeros(len(marks), bool)
        for k, mark in enumerate(marks):
            new[k] = mark and mark not in self.trained
            self.trained.add(mark)
        self.trained.discard(0)
        return np.split(new, np.cumsum([len(batch) for batch in batches])[:-1])

    def see(self, images: Tensor, training: bool, step: int) -> None:
        """One batch without gradients."""
        if images.ndim < 3:
            return
        self.forwards += 1
        self.in_training += training
        self.images += len(images)
        if self._compared >= MOST_COMPARED and self._batches[-1].step != step:
            return  # later passes are taken to be like these
        self._compared += len(images)
        marks = fingerprints(pixels(images).cpu().numpy())
        known = np.array([mark in self.trained for mark in marks if mark], bool)
        moments, kind = None, int(known.any())
        if images.ndim == 4 and self._measured[kind] < MOST_MEASURED:
            self._measured[kind] += 1
            moments = Moments()
            moments.add(images)
        self._batches.append(Batch(step, len(images), known, moments))

    @property
    def own_images(self) -> int:
        """How many of `images` were a look at the training set; of those not compared, the same share."""
        _, own = self._told_apart()
        return round(sum(batch.images for batch in own) / max(1, self._compared) * self.images)

    def _told_apart(self) -> tuple[list[Batch], list[Batch]]:
        """The compared batches of the validation, and those of the training set."""
        parts: tuple[list[Batch], list[Batch]] = ([], [])
        for _, group in itertools.groupby(self._batches, key=lambda batch: batch.step):
            one = list(group)
            own = training_batches([batch.known for batch in one], len(self.trained))
            for batch, is_own in zip(one, own, strict=True):
                parts[is_own].append(batch)
        return parts

    def signal(self, validated: bool) -> Evaluations:
        """What was seen. Where there was a validation, and nothing but training images went through the
        model, they are what it was validated on."""
        validation, own = self._told_apart()
        shown = own if validated and not validation else validation
        known = np.concatenate([batch.known for batch in shown]) if shown else np.zeros(0, bool)
        measured = [batch.moments for batch in validation if batch.moments is not None]
        return Evaluations(
            self.forwards,
            self.in_training / max(1, self.forwards),
            self.images - self.own_images,
            len(known),
            float(known.mean()) if len(known) else 0.0,
            together(measured[:MOST_MEASURED]).inputs(),
            self.train.inputs(),
            validation[0].step if validation else 0,
        )
