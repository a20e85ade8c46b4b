"""What can be learnt about the labels from thumbnails of the training images, without any net."""

from __future__ import annotations

import math

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from convclinic.clinic.signals import DataProbe, Floats

SIDE = 8  # pixels of a thumbnail
LEAST, MOST = 600, 3000  # images; fewer say little, more are not needed
FOLDS = 5
RIDGE = 0.1  # of the mean variance of a pixel, times the number of images


def thumbnails(images: Tensor) -> Floats:
    """(b, c, h, w) as rows of c x 8 x 8 numbers, (b, ...) of other shapes as they are if they are short."""
    if images.ndim == 4:
        images = F.adaptive_avg_pool2d(images.detach().float(), SIDE)
    return images.detach().flatten(1).float().cpu().numpy().astype(np.float64)


def examine(rows: Floats, labels: NDArray[np.int64], classes: int) -> DataProbe | None:
    """Cross-validated accuracy of ridge regression on one-hot labels, and of the nearest neighbour."""
    n = len(labels)
    varies = rows.std(0) > 0 if n else np.zeros(0, bool)
    if n < LEAST or not varies.any() or not np.isfinite(rows).all():
        return None
    rows = rows[:, varies]
    rows = (rows - rows.mean(0)) / rows.std(0)
    onehot = np.eye(classes)[labels]
    chance = float(onehot.mean(0).max())
    right = np.zeros(n, bool)
    for fold in range(FOLDS):
        held = np.arange(n) % FOLDS == fold
        x, y = rows[~held], onehot[~held]
        gram = x.T @ x + RIDGE * len(x) * np.eye(rows.shape[1])
        weights = np.linalg.solve(gram, x.T @ (y - y.mean(0)))
        right[held] = (rows[held] @ weights + y.mean(0)).argmax(1) == labels[held]
    return DataProbe(
        n, float(right.mean()), _nearest(rows, labels), chance, 2 * math.sqrt(chance * (1 - chance) / n)
    )


def _nearest(rows: Floats, labels: NDArray[np.int64]) -> float:
    """Share of images whose nearest other image has the same label."""
    squares = (rows**2).sum(1)
    same = 0
    for begin in range(0, len(rows), 512):
        part = rows[begin : begin + 512]
        distances = squares[None] - 2 * part @ rows.T
        distances[np.arange(len(part)), begin + np.arange(len(part))] = np.inf
        same += int((labels[distances.argmin(1)] == labels[begin : begin + 512]).sum())
    return same / len(rows)
