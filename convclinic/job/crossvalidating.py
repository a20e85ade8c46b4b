"""`convclinic crossval`: every image tested once, by a net that has not seen it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convclinic.data.dataset import reopen
from convclinic.data.sources import open_source
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import read_json, write_json
from convclinic.job import folder as place
from convclinic.job.display import Display, Lines, Silent
from convclinic.job.fitting import read_wish, run_document
from convclinic.job.planning import Planned, Wish, make_plan
from convclinic.job.run import Run
from convclinic.job.tasks import train_all
from convclinic.job.watching import check_mode
from convclinic.recipe import Recipe
from convclinic.study import engine, folds
from convclinic.study.engine import Task
from convclinic.study.folds import Together

FILE, RESULT = "crossval.json", "result.json"


@dataclass(frozen=True)
class CrossValidated:
    """runs: of the folds, each a whole run folder; together: what they reach on images not trained on."""

    folder: Path
    classes: tuple[str, ...]
    runs: tuple[Run, ...]
    together: Together

    def table(self) -> str:
        return folds.table(self.together, self.classes)

    def to_dict(self) -> dict[str, Any]:
        return {"folder": str(self.folder), **self.together.to_dict(self.classes)}


def crossval(
    data: str | Path,
    *,
    n_folds: int = 5,
    budget: str | float | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    recipe: str | Path | Recipe | None = None,
    settings: Sequence[str] = (),
    device: str | None = None,
    workers: int = 0,
    cluster: str | None = None,
    clinic: str = "watch",
    quiet: bool = False,
) -> CrossValidated:
    """Train one net a fold and test each on the images that it has not seen.

    All folds follow one recipe, planned as `fit` plans it for a fold's share of the budget, or the one given.
    budget: seconds or text, for everything; workers: folds trained at once, the cores divided among them, 0
    for as many as this machine bears; cluster: a Ray cluster's address, or "auto". out: a folder, new or of
    the same cross-validation, which then goes on. Raises ConvclinicError for anything wrong with the input
    and when a fold fails, and Interrupted on Ctrl-C: the same call goes on.
    """
    check_mode(clinic)
    folds.check(n_folds)
    wish = read_wish(Path(data), budget, seed, recipe, settings, device, None, False, {})
    workers = min(workers or engine.bearable(wish.device), n_folds)
    target = _folder(Path(out) if out is not None else None, wish.data)
    with place.locked(target), Silent() if quiet else Lines() as display:
        display.say(f"folder {target}")
        classes, tasks = prepare(wish, target, n_folds, workers, clinic, display)
        runs = train_all(tasks, target, display, workers, cluster)
        matrices = [np.array(run.metrics["test"]["confusion"], np.int64) for run in runs]
        found = CrossValidated(target, classes, runs, folds.together(matrices))
        write_json(target / RESULT, found.to_dict())
        display.say(found.table())
    return found


def _folder(out: Path | None, data: Path) -> Path:
    if out is not None and (out / FILE).exists():
        return out
    return place.new(out, data)


def prepare(
    wish: Wish, target: Path, n_folds: int, workers: int, clinic: str, display: Display
) -> tuple[tuple[str, ...], list[Task]]:
    """The classes, and a task for each fold, by the plan that the folder holds or by a new one.

    Raises ConvclinicError where it holds one of another wish.
    """
    asked = {
        "data": str(wish.data.resolve()),
        "folds": n_folds,
        "seed": wish.seed,
        "recipe": None if wish.recipe is None else wish.recipe.hash(),
        "settings": list(wish.settings),
        "clinic": clinic,
    }
    path = target / FILE
    if path.exists():
        kept = read_json(path)
        if kept["asked"] != asked:
            raise ConvclinicError(
                f"{target} holds a cross-validation of other settings", fix="give another --out"
            )
        payload, data = kept["payload"], reopen(target)
        parts = folds.parts(data.labels, place.groups(target), n_folds, wish.seed, data.classes)
    else:
        # what the workers will have, so that steps are timed as they will be
        torch.set_num_threads(engine.threads_each(workers))
        rounds = -(-n_folds // workers)
        share = dataclasses.replace(wish, budget=None if wish.budget is None else wish.budget / rounds)
        with place.provisional(target):
            planned = make_plan(share, open_source(wish.data), target, display)
            data = planned.data
            payload = _payload(planned, share, target, clinic)
            parts = folds.parts(data.labels, place.groups(target), n_folds, wish.seed, data.classes)
            write_json(path, {"asked": asked, "payload": payload})
    tasks = [Task(f"fold-{number}", {**payload, "parts": part.tolist()}) for number, part in enumerate(parts)]
    return data.classes, tasks


def _payload(planned: Planned, wish: Wish, target: Path, clinic: str) -> dict[str, Any]:
    document = {**run_document(planned, wish), "clinic": clinic, "budget_seconds": None}
    findings = [finding.to_dict() for finding in planned.findings]
    return {"data": str(target.resolve()), "document": document, "findings": findings}
