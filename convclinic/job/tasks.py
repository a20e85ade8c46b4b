"""Many trainings, each in a run folder of its own: what the engine's workers do, and how it is told."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convclinic.data.dataset import divide
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import write_json
from convclinic.job import folder as place
from convclinic.job.display import Display
from convclinic.job.fitting import resume
from convclinic.job.run import Run
from convclinic.study import engine
from convclinic.study.engine import Task


def train_all(
    tasks: Sequence[Task], folder: Path, display: Display, workers: int, cluster: str | None = None
) -> tuple[Run, ...]:
    """The runs of all tasks of `fit`, in their order. Raises ConvclinicError for the first that fails."""
    display.stage("train")
    begun = time.monotonic()
    ends = engine.run(tasks, "convclinic.job.tasks:fit", folder, workers=workers, cluster=cluster)
    for done, one in enumerate(ends, 1):
        if one.error:
            raise ConvclinicError(f"{one.task.name} failed: {one.error}", fix="the same command goes on")
        left = (time.monotonic() - begun) / done * (len(tasks) - done)
        words = f"{one.task.name}: test accuracy {(one.result or {})['test']['accuracy']:.1%}"
        display.update(done, len(tasks), words, left)
        display.say(f"  {words}")
    return tuple(Run(folder / task.name) for task in tasks)


def fit(payload: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train one run and return its metrics.

    payload: data, the folder that `assemble` wrote; parts, which image is in which part, by its splits.csv;
    findings and document, what the run's files are to hold. A run that was cut short goes on from its
    checkpoint.
    """
    if not (folder / place.RECIPE).exists():
        document: dict[str, Any] = payload["document"]
        hardware = {**document["hardware"], "threads": torch.get_num_threads()}
        divide(Path(payload["data"]), folder, np.array(payload["parts"], np.int8))
        write_json(folder / place.FINDINGS, payload["findings"])
        write_json(folder / place.RECIPE, {**document, "hardware": hardware})
    if not (folder / place.REPORT).exists():
        resume(folder, quiet=True)
    return Run(folder).metrics
