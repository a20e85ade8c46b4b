"""What the engine's workers do: one training, in a run folder of its own, from plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from convclinic.data.dataset import divide, reopen
from convclinic.evaluate import split_logits
from convclinic.ground.files import write_json
from convclinic.job import folder as place
from convclinic.job.fitting import resume
from convclinic.job.run import Run

PREDICTIONS = "predictions.npz"  # of validation and test images: what ensembles are made of


def fit(payload: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train one run and return its metrics.

    payload: data, the folder that `assemble` wrote; parts, which image is in which part, by its splits.csv;
    document, what the run's recipe.json is to hold. A run that was cut short goes on from its checkpoint.
    """
    document = {**payload["document"], "hardware": {**payload["document"]["hardware"]}}
    document["hardware"]["threads"] = torch.get_num_threads()
    if not (folder / place.RECIPE).exists():
        divide(Path(payload["data"]), folder, np.array(payload["parts"], np.int8))
        write_json(folder / place.FINDINGS, payload["findings"])
        write_json(folder / place.RECIPE, document)
    if not (folder / place.REPORT).exists():
        resume(folder, quiet=True)
    run = Run(folder)
    if not (folder / PREDICTIONS).exists():
        write_predictions(run)
    return run.metrics


def write_predictions(run: Run) -> None:
    """Positions in splits.csv, labels and logits of the validation and the test images."""
    data, values = reopen(run.path), {}
    for part in ("validation", "test"):
        logits, labels = split_logits(run.model, data, part)
        values |= {f"{part}_at": data.indices(part), f"{part}_labels": labels, f"{part}_logits": logits}
    scratch = run.path / f".{PREDICTIONS}"
    with scratch.open("wb") as file:
        np.savez(file, **values)
    scratch.replace(run.path / PREDICTIONS)
