"""Early fusion: one linear classifier on what the last layers of several nets read.

Source    Snoek et al., Early versus late fusion in semantic video analysis, 2005; a linear classifier on a
          net's features: Sharif Razavian et al., CNN features off-the-shelf, 2014, arXiv:1403.6382
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from convclinic.data.dataset import Dataset
from convclinic.ground import rng
from convclinic.ground.errors import ConvclinicError
from convclinic.heads import fit_head
from convclinic.job.display import Display
from convclinic.job.joining import Built, inputs_of, with_head
from convclinic.joint import Ensemble
from convclinic.model import Model
from convclinic.tricks.transfer._fine_tuning import in_proportion

VALUES = 2**24  # images times features that the classifier is fitted on, at most: memory and minutes
READS = "features"


def fused(models: Sequence[Model], data: Dataset, groups: NDArray[np.int64], display: Display) -> Built:
    """A logistic regression on the standardised features of all models, with C by cross-validation.

    Fitted on the training images, on as many as `VALUES` allows, each class in proportion; groups (m,) of the
    whole data set are not parted. The nets know these images, so the classifier is too sure of itself until
    validation has set its temperature. Raises ConvclinicError where a model is an ensemble itself.
    """
    if any(isinstance(one, Ensemble) for one in models):
        raise ConvclinicError("an ensemble has no last layer to read from", fix="name its members instead")
    bare = with_head(models, READS)
    train, seed = data.indices("train"), models[0].recipe.seed
    width = sum(part.shape[1] for part in bare.inputs(data.images(train[:1])))
    shuffled = train[torch.randperm(len(train), generator=rng.generator(seed, "fusion")).numpy()]
    labels = torch.from_numpy(data.labels[shuffled])
    chosen = np.sort(shuffled[in_proportion(labels, VALUES // width).numpy()])
    display.stage("features")
    inputs = inputs_of(bare, data, chosen, lambda done, n: display.update(done, n, f"{width} features"))
    head = fit_head(
        "logistic",
        np.concatenate(inputs, 1),
        data.labels[chosen],
        len(data.classes),
        groups=groups[chosen],
        seed=seed,
    )
    about = {"images": len(chosen), "inputs": width, "strength": head.strength}
    return Built(with_head(models, READS, head), about)
