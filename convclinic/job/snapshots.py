"""Snapshots of a training: its judged weights at even distances, each a model file like that of the run.

They lie in RUN/snapshots/, numbered from 1; number k of n is that of the first step at k/n of training.

Source    Huang et al., Snapshot Ensembles: Train 1, Get M for Free, 2017, arXiv:1704.00109
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from convclinic import loop
from convclinic.data.dataset import Dataset
from convclinic.evaluate import split_logits
from convclinic.ground.stats import fit_temperature
from convclinic.model import Model
from convclinic.recipe import Recipe

FOLDER = "snapshots"


def found(folder: Path) -> list[Path]:
    """The snapshots in a run folder, in the order of their making."""
    return sorted((folder / FOLDER).glob("*.safetensors"), key=lambda path: int(path.stem))


def keep(recipe: Recipe, data: Dataset, state: loop.State, folder: Path, since: int) -> int:
    """Write the snapshot that came due after step `since`, if one did, and return the state's step.

    Its temperature is that of the validation images. Weights that give no numbers are not kept.
    """
    due = recipe.snapshots_by(state.step)
    if due > recipe.snapshots_by(since):
        model = Model(recipe, data.classes, state.judged, state.fitted, data.deep_max)
        logits, labels = split_logits(model, data, "validation")
        if np.isfinite(logits).all():
            model.facts["temperature"] = fit_temperature(labels, logits.astype(np.float64))
            model.facts["validation_accuracy"] = float((logits.argmax(1) == labels).mean())
            model.facts["step"] = state.step
            model.save(folder / FOLDER / f"{due}.safetensors")
    return state.step


def forget(folder: Path, after: int) -> None:
    """Remove those numbered above `after`: training goes on from before them, to others."""
    for path in found(folder):
        if int(path.stem) > after:
            path.unlink()
