"""`convclinic ensemble`: runs joined to one model, chosen on validation and tested once."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convclinic.data.dataset import Dataset, divide, reopen
from convclinic.evaluate import Known, split_logits
from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.ground.files import read_json, write_json
from convclinic.job import folder as place
from convclinic.job import folds_joined, snapshots, stacking
from convclinic.job.crossvalidating import FILE as CROSSVAL
from convclinic.job.display import Display, Lines, Silent
from convclinic.job.ensembled import Ensembled
from convclinic.job.folder import SEARCH, TOP
from convclinic.job.fusing import fused
from convclinic.job.joining import AUTO, FUSION, METHODS, STACK, Built, Chosen, choose
from convclinic.job.judging import judge
from convclinic.job.run import Run
from convclinic.job.tasks import train_all
from convclinic.model import Model
from convclinic.model_file import load
from convclinic.planning.hardware import choose_device
from convclinic.recipe import Recipe
from convclinic.report.page import write_report
from convclinic.study import engine, ensembles
from convclinic.study.engine import Task

MEMBERS = "members"  # the folder of runs that were trained for it


def ensemble(
    runs: Sequence[str | Path],
    *,
    members: int = 0,
    method: str = AUTO,
    folds: int = 5,
    out: str | Path | None = None,
    workers: int = 0,
    device: str | None = None,
    quiet: bool = False,
) -> Ensembled:
    """Join runs of the same data and split, by the method that does best on validation, and test it once.

    runs: run folders; or one alone that has snapshots (`run.snapshots`), which are joined; or the folder of
    a search, whose best trials are, or of a cross-validation, whose folds are. members: train as many in
    all, with the first run's recipe and data and other seeds; workers: at once, 0 for as many as this
    machine bears. method: "mean", "greedy" (Caruana et al. 2004), "soup" (weights averaged: one net's
    cost), "single", "fusion" (a linear classifier on all members' features), "auto" for the best of these,
    or "stack": a classifier on the members' probabilities, for which each recipe is trained once a fold,
    `folds` times. out: the new run folder, or the one of such a call that was stopped while it trained.
    Raises ConvclinicError for fewer than two runs or snapshots, for runs of other data or splits, and for
    an unknown method.
    """
    if method not in METHODS:
        raise ConvclinicError(f"no method '{method}'", fix=nearest(method, METHODS))
    where = choose_device(device)
    paths = [path for run in runs for path in _best_of_search(Path(run))]
    wanted = Path(out) if out is not None else None
    if len(paths) == 1 and (paths[0] / CROSSVAL).exists():
        if members:
            raise ConvclinicError(
                "the members of a cross-validation are its folds", fix="leave out --members"
            )
        folds_joined.check(paths[0], method)
        target = _folder(wanted, paths[0])
        with _provisional(target), place.locked(target), Silent() if quiet else Lines() as display:
            return folds_joined.join_folds(paths[0], target, where, display)
    given = [place.existing(path) for path in paths]
    kept = _snapshots(given, members, method)
    home, data = _same_data(given)
    if method == STACK:
        stacking.check(given, data, folds)
    target = _folder(wanted, given[0])
    with _provisional(target), place.locked(target), Silent() if quiet else Lines() as display:
        at_once = workers or engine.bearable(where)
        paths = given + _trained(given, members, target, at_once, display)
        models = [load(path, where) for path in kept or paths]
        built: dict[str, Built] = {}
        if method == STACK:
            built[STACK] = stacking.stacked(paths, models, data, target, folds, at_once, where, display)
        elif method in (AUTO, FUSION):
            built = _fusion(models, data, home, method, display)
        display.stage("ensemble")
        known: Known = {}
        chosen = choose(models, data, method, built, known)
        return _judged(chosen, models, kept or paths, home, data, target, known, where, display)


def _best_of_search(path: Path) -> list[Path]:
    """The runs of the best trials where this is the folder of a search, best first; else the path itself.

    Raises ConvclinicError for a search that kept one alone, or that did not end.
    """
    if not (path / SEARCH).exists():
        return [path]
    best = [path / TOP / Path(run).name for run in read_json(path / SEARCH).get("runs", [])]
    if len(best) < 2:
        raise ConvclinicError(
            f"{path} holds {len(best)} run folders of its best trials",
            fix="run the same `convclinic search` again with --top 5",
        )
    return best


def _snapshots(given: Sequence[Path], members: int, method: str) -> list[Path]:
    """Those of one run that is to be joined alone; none where several runs are joined.

    Raises ConvclinicError where there are fewer than two to join.
    """
    if max(len(given), members) >= 2:
        return []
    found = [path for run in given for path in snapshots.found(run)]
    if len(found) < 2:
        raise ConvclinicError(
            f"an ensemble needs two runs, or a run with two snapshots; here are {len(found)}",
            fix="name more runs, give --members 5, or train with --set run.snapshots=5 "
            "--set schedule=cyclic_cosine",
        )
    if method == STACK:
        raise ConvclinicError(
            "stacking trains each run's recipe again, and snapshots have one in common",
            fix="choose --method greedy, or name other runs",
        )
    return found


def _folder(out: Path | None, first: Path) -> Path:
    """A new folder, or that of a call that was stopped while it trained."""
    target = out or first.with_name(f"{first.name}-ensemble")
    return target if _begun(target) and not (target / place.REPORT).exists() else place.new(target, first)


def _begun(target: Path) -> bool:
    """Whether it holds trainings."""
    return any((target / name).exists() for name in (MEMBERS, stacking.FOLDS))


@contextmanager
def _provisional(target: Path) -> Generator[None]:
    """Where joining fails the folder goes again, unless there are trainings in it."""
    try:
        yield
    except BaseException:
        if not _begun(target) and not (target / place.REPORT).exists():
            shutil.rmtree(target, ignore_errors=True)
        raise


def _trained(given: Sequence[Path], members: int, target: Path, workers: int, display: Display) -> list[Path]:
    """Runs with other seeds, as many as are missing."""
    missing = members - len(given)
    if missing < 1:
        return []
    first, document = given[0], place.document(given[0])
    data = reopen(first)
    tasks: list[Task] = []
    for number in range(missing):
        recipe = Recipe.from_dict(document["recipe"])
        recipe = dataclasses.replace(recipe, seed=recipe.seed + 1 + number)
        tasks.append(
            Task(
                f"seed-{recipe.seed}",
                {
                    "data": str(first.resolve()),
                    "parts": data.splits.tolist(),
                    "document": {**document, "recipe": recipe.to_dict(), "hash": recipe.hash()},
                    "findings": read_json(first / place.FINDINGS),
                },
            )
        )
    return [run.path for run in train_all(tasks, target / MEMBERS, display, workers)]


def _same_data(paths: Sequence[Path]) -> tuple[Path, Dataset]:
    """The first of the runs with the largest images, and its data, which the others get resized.

    Raises ConvclinicError where validation or test images differ, or there are none.
    """
    sizes = [Recipe.from_dict(place.document(path)["recipe"]).data for path in paths]
    home = paths[max(range(len(paths)), key=lambda k: sizes[k].height * sizes[k].width)]
    data = reopen(home)
    if not len(data.indices("validation")):
        raise ConvclinicError(
            f"{home} has no validation images, so nothing can be chosen", fix="name runs that have some"
        )
    for path in paths:
        other = reopen(path)
        for part in ("validation", "test"):
            if [data.names[i] for i in data.indices(part)] != [other.names[i] for i in other.indices(part)]:
                raise ConvclinicError(
                    f"{home} and {path} have other {part} images, so nothing could be chosen or tested",
                    fix=f"train with --split {home}, or let it train: convclinic ensemble RUN --members 5",
                )
    return home, data


def _fusion(
    models: Sequence[Model], data: Dataset, home: Path, method: str, display: Display
) -> dict[str, Built]:
    """The early fusion; nothing where it cannot be had and was not asked for by name."""
    try:
        return {FUSION: fused(models, data, place.groups(home), display)}
    except ConvclinicError as error:
        if method == FUSION:
            raise
        display.say(f"  fusion is left out: {error.message}")
        return {}


def _judged(
    chosen: Chosen,
    models: Sequence[Model],
    paths: Sequence[Path],
    home: Path,
    data: Dataset,
    target: Path,
    known: Known,
    device: torch.device,
    display: Display,
) -> Ensembled:
    """The run folder of the joint model, tested once, beside its members on the same images."""
    divide(home, target, data.splits)
    shutil.copyfile(home / place.FINDINGS, target / place.FINDINGS)
    judged, model = judge(chosen.model, data, target, display, known)
    labels = data.labels[data.indices("test")]
    tested = np.stack([one.probabilities(split_logits(one, data, "test", known=known)[0]) for one in models])
    joint = model.probabilities(split_logits(model, data, "test", known=known)[0])
    facts: dict[str, Any] = {
        "method": chosen.method,
        "validation_log_loss": chosen.losses,
        "members": [
            {"run": str(path), "weight": float(weight), "validation": reached, "test": float(right)}
            for path, weight, reached, right in zip(
                paths, chosen.weights, chosen.reached, (tested.argmax(2) == labels).mean(1), strict=True
            )
        ],
        "diversity": ensembles.diversity(tested),
        "gain": list(ensembles.gained(joint, tested[int(np.argmax(chosen.reached))], labels)),
        "accuracy": judged["test"]["accuracy"],
    }
    if chosen.about:
        facts["classifier"] = chosen.about
    write_json(target / place.RECIPE, {**place.document(home), "ensemble": facts})
    told = {"device": read_json(home / place.METRICS)["device"], "ensemble": facts}
    write_json(target / place.METRICS, {**judged, **told})
    model.save(target / place.MODEL)
    page = write_report(target)
    display.update(1, 1, str(page))
    done = Ensembled(Run(target, device), facts)
    display.say(done.table())
    return done
