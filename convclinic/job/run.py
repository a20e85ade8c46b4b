"""A run from Python: `run.predict([...])`, `run.evaluate("more/")`, `run.report()`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from convclinic.evaluate import on_folder
from convclinic.ground.files import read_json
from convclinic.history import Record, read
from convclinic.job import folder
from convclinic.model import Model
from convclinic.model_file import load
from convclinic.predict import Prediction, predict
from convclinic.recipe import Recipe
from convclinic.report.page import write_report


@dataclass(frozen=True)
class Run:
    """One run folder. Raises ConvclinicError where the folder is not a run, or has no model yet."""

    path: Path
    device: torch.device = torch.device("cpu")

    @cached_property
    def model(self) -> Model:
        return load(self.path, self.device)

    @property
    def recipe(self) -> Recipe:
        return Recipe.from_dict(folder.document(self.path)["recipe"])

    @property
    def metrics(self) -> dict[str, Any]:
        return read_json(self.path / folder.METRICS)

    @property
    def findings(self) -> list[dict[str, Any]]:
        return read_json(self.path / folder.FINDINGS)

    @property
    def history(self) -> list[Record]:
        return read(self.path / folder.HISTORY)

    def predict(self, paths: str | Path | Sequence[str | Path]) -> list[Prediction]:
        """Class, probability and "not sure" for images, folders or archives."""
        several = [paths] if isinstance(paths, str | Path) else paths
        return list(predict(self.model, [Path(path) for path in several]))

    def evaluate(self, data: str | Path) -> dict[str, Any]:
        """Metrics on other labelled data."""
        return on_folder(self.model, Path(data))

    def report(self) -> Path:
        """Write `report.html` again and return its path."""
        return write_report(folder.existing(self.path))
