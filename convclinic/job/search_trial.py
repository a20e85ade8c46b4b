"""One trial of a search, as the engine's workers do it: asked for, trained while it has a chance, told."""

from __future__ import annotations

import dataclasses
import math
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from optuna.study import Study
from optuna.trial import Trial

from convclinic import loop
from convclinic.clinic import curves
from convclinic.clinic.judging import judge
from convclinic.data.dataset import Dataset
from convclinic.ground.files import read_json, write_json
from convclinic.history import History, Record
from convclinic.job.fitting import model_of
from convclinic.job.folder import HISTORY, MODEL
from convclinic.recipe import Recipe
from convclinic.study import pruning, spaces
from convclinic.study import search as store
from convclinic.study.comparing import opened
from convclinic.study.pruning import Curve

TRIAL, END = "trial.json", "end.json"
BALANCED = "balanced accuracy"
TIME_OVER = "the time of the search was over"


class End(NamedTuple):
    """How a training ended: its state, and why it was given up."""

    state: str
    why: str
    score: float | None
    steps: int


def work(payload: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """Ask for a trial, train it and tell what it came to; None where none is left or no time for one.

    payload: folder of the search, with its data; storage and name of the study; slot, that draws are named
    by; device; most, trials in all; ends, a time.time(). folder: the task's own, where the model is left. A
    trial that was cut short here is begun again with the settings that it had.
    """
    study = _opened(payload["storage"], payload["name"], payload["ends"])
    planned: dict[str, Any] = store.plan(study) or {}
    if (folder / END).exists():  # killed before the storage or the engine was told
        return _told(study, read_json(folder / TRIAL)["id"], read_json(folder / END))
    if time.time() + _expected(study, planned) > payload["ends"]:
        return None
    trial = _trial(study, planned, payload, folder)
    if trial is None:
        return None
    begin = time.perf_counter()
    try:
        space = spaces.from_plain(planned["space"])
        values = store.suggested(trial, space)
        recipe = with_length(spaces.applied(Recipe.from_dict(planned["recipe"]), space, values), planned)
        data, device = opened(Path(payload["folder"])), torch.device(payload["device"])
        state = loop.start(recipe, data, device)
        end = _trained(recipe, data, state, study, trial, planned, folder, payload["ends"])
        if end.state == store.COMPLETE:
            model_of(recipe, data, state).save(folder / MODEL)
    except Exception as error:
        seconds = time.perf_counter() - begin
        store.tell(study, trial, store.FAILED, None, f"{type(error).__name__}: {error}", seconds)
        raise
    seconds = time.perf_counter() - begin
    result = {
        **end._asdict(),
        "number": trial.number,
        "recipe": recipe.to_dict(),
        "best_step": state.best_step,
        "seconds": seconds,
    }
    write_json(folder / END, result)
    return _told(study, store.number_id(trial), result)


@lru_cache(maxsize=1)
def _opened(url: str, name: str, ends: float) -> Study:
    """The study, kept open from trial to trial of a worker: it then reads only what is new. `ends` tells one
    call of a search from the next, before which its folder may have been deleted."""
    return store.open_study(url, name)[0]


def _told(study: Study, trial_id: int, result: dict[str, Any]) -> dict[str, Any]:
    """The result, once the storage knows it."""
    trial = store.taken_up(study, trial_id)
    if trial is not None:
        store.tell(study, trial, result["state"], result["score"], result["why"], result["seconds"])
    return result


def _expected(study: Study, planned: dict[str, Any]) -> float:
    """Seconds that a trial takes to its end, from those that came there."""
    took = [one.seconds for one in store.tried(study) if one.state == store.COMPLETE]
    return sum(took) / len(took) if took else float(planned["seconds"])


def _trial(study: Study, planned: dict[str, Any], payload: dict[str, Any], folder: Path) -> Trial | None:
    store.with_sampler(study, planned["sampler"], planned["seed"], payload["slot"])
    begun = folder / TRIAL
    trial = store.taken_up(study, read_json(begun)["id"]) if begun.exists() else None
    if trial is None:
        trial = store.ask(study, payload["most"], payload["storage"])
        if trial is not None:
            write_json(begun, {"id": store.number_id(trial), "number": trial.number})
    return trial


def with_length(recipe: Recipe, planned: dict[str, Any]) -> Recipe:
    """As many images for every batch size, and as many validations."""
    steps = max(1, round(planned["images"] / recipe.run.batch_size))
    every = math.ceil(steps / planned["evaluations"])
    run = dataclasses.replace(recipe.run, steps=steps, evaluate_every=every, patience=0)
    return dataclasses.replace(recipe, run=run)


def _trained(
    recipe: Recipe,
    data: Dataset,
    state: loop.State,
    study: Study,
    trial: Trial,
    planned: dict[str, Any],
    folder: Path,
    ends: float,
) -> End:
    """To the last step, or until the clinic, the curve or the clock says that it is in vain."""
    history = History(folder / HISTORY)
    history.rewind(0)
    shares, scores = list[float](), list[float]()
    for record in loop.fit(recipe, data, state):
        history.append([record])
        if record.val_accuracy is None:
            continue
        shares.append(record.step / recipe.total_steps)
        scores.append(_score(record, planned))
        store.report(trial, shares[-1], scores[-1])
        if record.step == recipe.total_steps:
            break
        why = _by_clinic(history, data) if planned["prune"] and planned["clinic"] != "off" else ""
        why = why or (_by_curve(Curve(tuple(shares), tuple(scores)), study, data) if planned["prune"] else "")
        why = why or (TIME_OVER if time.time() > ends else "")
        if why:
            return End(store.PRUNED, why, max(scores), record.step)
    return End(store.COMPLETE, "", max(scores), state.step)


def _score(record: Record, planned: dict[str, Any]) -> float:
    balanced = planned["measure"] == BALANCED
    return float((record.val_balanced_accuracy if balanced else record.val_accuracy) or 0.0)


def _by_clinic(history: History, data: Dataset) -> str:
    """Why the clinic says that this training cannot succeed, empty where it does not. It reads the curves
    alone, as `diagnose` does: looking into the net would cost as much as a short trial."""
    signals = curves.read(history.path, len(data.classes), data.profile.n_validation)
    hopeless = [finding for finding in judge(signals) if finding.severity == "critical"]
    return f"clinic: {hopeless[0].summary}" if hopeless else ""


def _by_curve(curve: Curve, study: Study, data: Dataset) -> str:
    """Why the curve says that this training will not be the best, empty where it does not."""
    finished = [one.curve for one in store.tried(study) if one.state == store.COMPLETE and one.curve]
    place = pruning.standing(curve, finished, data.profile.n_validation)
    return f"curve: {place.words()}" if place is not None and place.behind else ""
