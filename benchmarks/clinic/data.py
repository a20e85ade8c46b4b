"""Small data sets for the fault bench, as float images in [0, 1] held in memory.

Digits come with scikit-learn and `shapes` are drawn here; the others are read from a folder
(`fashion-mnist/`, `cifar10-jpeg.tar.xz`, `bccd-crops.tar`), made smaller, and kept beside the results.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]
TRAINING, VALIDATION = 1500, 500
MORE = {"cifar": 2400}  # training images of a harder set
SIDES = {"fashion": 16, "cifar": 16, "cells": 16}


@dataclass(frozen=True)
class Data:
    """Images (n, c, h, w) in [0, 1] and labels, for training and for validation; `fresh` was kept aside:
    an honest measure when the validation set itself is spoilt."""

    name: str
    classes: int
    train: Tensor
    train_labels: Tensor
    val: Tensor
    val_labels: Tensor
    fresh: Tensor
    fresh_labels: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and side."""
        return self.train.shape[1], self.train.shape[2]

    def with_train(self, rows: Tensor) -> Data:
        """The same with these training images only."""
        return replace(self, train=self.train[rows], train_labels=self.train_labels[rows])


def digits() -> Arrays:
    """1,797 handwritten digits of 8 x 8, drawn at 16 x 16."""
    images, labels = load_digits(return_X_y=True)
    grey = (images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return grey.repeat(2, axis=1).repeat(2, axis=2)[..., None], labels.astype(np.int64)


def shapes(count: int = 2600, side: int = 16, classes: int = 6) -> Arrays:
    """Bars, crosses, boxes and discs at random places on noise: an image is told by what is drawn on it."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, classes, count)
    y, x = np.mgrid[:side, :side]
    images = rng.normal(90, 25, (count, side, side))
    for image, label in zip(images, labels, strict=True):
        cy, cx = rng.integers(5, side - 5, 2)
        r = rng.integers(3, 5)
        dy, dx = np.abs(y - cy), np.abs(x - cx)
        inside = (dy <= r) & (dx <= r)
        drawn = [
            inside & (dy <= 1),
            inside & (dx <= 1),
            inside & ((dx <= 1) | (dy <= 1)),
            inside & ((dx >= r - 1) | (dy >= r - 1)),
            dy**2 + dx**2 <= r**2,
            inside & (np.abs(dy - dx) <= 1),
        ][label]
        image[drawn] += rng.uniform(50, 110)
    return images.clip(0, 255).astype(np.uint8)[..., None], labels


def fashion(folder: Path, count: int = 2500) -> Arrays:
    """The first of Fashion-MNIST's training images."""
    with gzip.open(folder / "fashion-mnist/train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(16 + 784 * count), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(folder / "fashion-mnist/train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + count), np.uint8, offset=8)
    return images, labels.astype(np.int64)


def pictures(archive: Path, side: int, each: int) -> Arrays:
    """Up to `each` images of every class folder of a tar archive."""
    images: list[NDArray[np.uint8]] = []
    names: list[str] = []
    taken: Counter[str] = Counter()
    with tarfile.open(archive) as tar:
        for member in tar:
            path = Path(member.name)
            name = path.parent.name
            if path.suffix != ".jpg" or "test" in path.parts or taken[name] >= each:
                continue
            taken[name] += 1
            file = tar.extractfile(member)
            assert file is not None
            picture = Image.open(io.BytesIO(file.read())).convert("RGB")
            images.append(np.asarray(picture.resize((side, side), Image.Resampling.BOX)))
            names.append(name)
    return np.stack(images), np.unique(names, return_inverse=True)[1].astype(np.int64)


READERS: dict[str, Callable[[Path], Arrays]] = {
    "digits": lambda folder: digits(),
    "shapes": lambda folder: shapes(),
    "fashion": fashion,
    "cifar": lambda folder: pictures(folder / "cifar10-jpeg.tar.xz", SIDES["cifar"], 340),
    "cells": lambda folder: pictures(folder / "bccd-crops.tar", SIDES["cells"], 900),
}
_loaded: dict[tuple[str, int], Data] = {}


def load(name: str, folder: Path, cache: Path | None = None, seed: int = 0) -> Data:
    """The data set `name`, shuffled by `seed` and split: 1,500 or 2,400 to train on, 500 for validation and
    as many fresh ones."""
    if (name, seed) in _loaded:
        return _loaded[name, seed]
    kept = cache / f"{name}.npz" if cache else None
    if kept and kept.exists():
        with np.load(kept) as file:
            images, labels = file["images"], file["labels"]
    else:
        images, labels = READERS[name](folder)
        if kept and name in SIDES:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez(kept, images=images, labels=labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    x = torch.from_numpy(images[order].copy()).permute(0, 3, 1, 2).float() / 255
    side = SIDES.get(name, x.shape[-1])
    if x.shape[-1] != side:
        x = F.interpolate(x, (side, side), mode="bilinear", antialias=True)
    x, y = x.contiguous(), torch.from_numpy(labels[order])
    aside = min(VALIDATION, len(y) // 5)
    val, fresh = slice(0, aside), slice(aside, 2 * aside)
    train = slice(2 * aside, 2 * aside + MORE.get(name, TRAINING))
    made = Data(name, int(y.max()) + 1, x[train], y[train], x[val], y[val], x[fresh], y[fresh])
    _loaded[name, seed] = made
    return made
