"""Does left and right matter? A linear probe that meets mirrored images for the first time tells.

Mirroring is the most useful augmentation for photos and the most harmful one for digits and letters. The
probe is trained on images as they are and tested on validation images as they are and mirrored; what it
loses is the share of its skill that depends on the orientation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convclinic.data.dataset import Dataset
from convclinic.evaluate import simple_features

IMAGES = 2000  # of each split, at most


@dataclass(frozen=True)
class MirrorTest:
    """Accuracies of the probe on `n` validation images, as they are and mirrored, and of the majority."""

    n: int
    upright: float
    mirrored: float
    majority: float

    @property
    def lost(self) -> float:
        """Share of the probe's skill above the majority class that mirroring removes, in [0, 1]."""
        skill = self.upright - self.majority
        return float(np.clip((self.upright - self.mirrored) / skill, 0.0, 1.0)) if skill > 0.02 else 0.0


def mirror_test(data: Dataset, seed: int) -> MirrorTest:
    rng = np.random.default_rng(seed)
    train = rng.permutation(data.indices("train"))[:IMAGES]
    held_out = rng.permutation(data.indices("validation"))[:IMAGES]
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=100, C=0.1, tol=1e-3))
    probe.fit(_features(data, train, mirror=False), data.labels[train])
    labels = data.labels[held_out]
    upright = float((probe.predict(_features(data, held_out, mirror=False)) == labels).mean())
    mirrored = float((probe.predict(_features(data, held_out, mirror=True)) == labels).mean())
    majority = np.bincount(data.labels[train], minlength=len(data.classes)).argmax()
    return MirrorTest(len(held_out), upright, mirrored, float((labels == majority).mean()))


def _features(data: Dataset, positions: NDArray[np.int64], mirror: bool) -> NDArray[np.float32]:
    parts = (data.images(positions[i : i + 500]) for i in range(0, len(positions), 500))
    return np.concatenate([simple_features(part[:, :, ::-1] if mirror else part) for part in parts])
