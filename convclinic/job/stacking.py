"""Stacking: each run's recipe is trained once more a fold, so that a classifier can learn from what nets say
of images that they have not seen. What predicts is the runs that were given, under that classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convclinic.data.dataset import Dataset, reopen
from convclinic.evaluate import split_logits
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import read_json
from convclinic.heads import fit_head
from convclinic.job import folder as place
from convclinic.job.display import Display
from convclinic.job.joining import Built, with_head
from convclinic.job.run import Run
from convclinic.job.tasks import train_all
from convclinic.joint import by_size, log_probabilities
from convclinic.model import Model
from convclinic.model_file import load
from convclinic.recipe import Recipe
from convclinic.study import stacking
from convclinic.study.engine import Task

FOLDS = "folds"  # the folder of the runs that were trained for it
READS = "log_probabilities"


def check(paths: Sequence[Path], data: Dataset, n_folds: int) -> None:
    """Raise ConvclinicError for too few folds or images, and where a run has no recipe to train again, or
    other images than `data`."""
    _folds(paths, data, n_folds)
    for path in paths:
        if "ensemble" in place.document(path):
            raise ConvclinicError(f"{path} is an ensemble itself", fix="name its members")
        other = reopen(path)
        if other.names != data.names or (other.splits != data.splits).any():
            raise ConvclinicError(
                f"{path} has other training images than the others, so no fold is the same for all",
                fix="train members of one split: convclinic ensemble RUN --members 5",
            )


def stacked(
    paths: Sequence[Path],
    models: Sequence[Model],
    data: Dataset,
    target: Path,
    n_folds: int,
    workers: int,
    device: torch.device,
    display: Display,
) -> Built:
    """A logistic regression on the models' log-probabilities, fitted on those of nets of the same recipes for
    training images that they have not seen; C by cross-validation.

    paths: of the models' runs, which `check` has passed. The nets of the folds are trained in `target`, once
    for runs of one recipe; whoever calls again goes on.
    """
    train, seed = data.indices("train"), models[0].recipe.seed
    labels, groups = data.labels[train], place.groups(paths[0])[train]
    folds = _folds(paths, data, n_folds)
    named = [(path, Recipe.from_dict(place.document(path)["recipe"]).hash()) for path in paths]
    tasks = {
        task.name: task
        for path, name in named
        for fold in range(n_folds)
        for task in [_task(path, f"{name}-{fold}-of-{n_folds}", stacking.parts(data.splits, folds, fold))]
    }
    runs = train_all(list(tasks.values()), target / FOLDS, display, workers)
    said = {run.path.name: _unseen(run, device) for run in runs}
    inputs: list[NDArray[np.float32]] = []
    for position in by_size(models):
        probabilities = np.empty((len(train), len(data.classes)))
        for fold in range(n_folds):
            probabilities[folds == fold] = said[f"{named[position][1]}-{fold}-of-{n_folds}"]
        inputs.append(log_probabilities(probabilities))
    display.stage("stack")
    head = fit_head(
        "logistic", np.concatenate(inputs, 1), labels, len(data.classes), groups=groups, seed=seed
    )
    about = {"images": len(train), "folds": n_folds, "trained": len(tasks), "strength": head.strength}
    return Built(with_head(models, READS, head), about)


def _folds(paths: Sequence[Path], data: Dataset, n_folds: int) -> NDArray[np.int64]:
    """(n,) of the training images, by the seed of the first run."""
    train, seed = data.indices("train"), int(place.document(paths[0])["recipe"]["seed"])
    return stacking.fold_of(data.labels[train], place.groups(paths[0])[train], n_folds, seed, data.classes)


def _task(path: Path, name: str, parts: NDArray[np.int8]) -> Task:
    """The run's recipe once more, on other parts, without what only the run itself has use for."""
    document = place.document(path)
    recipe = Recipe.from_dict(document["recipe"])
    recipe = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, snapshots=0))
    own: dict[str, Any] = {"recipe": recipe.to_dict(), "hash": recipe.hash(), "clinic": "off"}
    payload = {
        "data": str(path.resolve()),
        "parts": parts.tolist(),
        "document": {**document, **own, "budget_seconds": None},
        "findings": read_json(path / place.FINDINGS),
    }
    return Task(name, payload)


def _unseen(run: Run, device: torch.device) -> NDArray[np.float64]:
    """(n, k) what a fold's net says of the images it has not seen, in their order."""
    model = load(run.path, device)
    return model.probabilities(split_logits(model, reopen(run.path), "test")[0])
