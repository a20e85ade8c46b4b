"""What a search came to: its table, the best recipe as a file, and run folders of the best trials."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.study import Study

from convclinic.data.dataset import Dataset, divide
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import read_json, write_json
from convclinic.job import folder as place
from convclinic.job.display import Display
from convclinic.job.fitting import run_document
from convclinic.job.folder import SEARCH, TOP
from convclinic.job.judging import judge
from convclinic.job.planning import Planned, Wish, epochs
from convclinic.job.run import Run
from convclinic.job.search_trial import with_length
from convclinic.model_file import load
from convclinic.planning import hardware
from convclinic.planning.planner import Plan, Reason
from convclinic.recipe import Recipe
from convclinic.report.page import write_report
from convclinic.study import search as store
from convclinic.study import spaces
from convclinic.study.comparing import columns
from convclinic.study.engine import Done
from convclinic.study.search import Tried

BEST, TRIALS = "best.json", "trials"
KEPT_MODELS = 10  # of the best trials
SHOWN = 10  # trials in the table


@dataclass(frozen=True)
class Searched:
    """trials: by number, of all machines; best: the recipe that validated best, with the length it had in
    the search; importance: see study.search; runs: of the best trials of this machine, best first, tested
    once."""

    folder: Path
    trials: tuple[Tried, ...]
    best: Recipe
    importance: dict[str, float]
    runs: tuple[Run, ...]
    facts: dict[str, Any]

    @property
    def finished(self) -> list[Tried]:
        """Trained to their end, best first."""
        return _finished(self.trials)

    def table(self) -> str:
        """The best trials, what became of the others, and what to do next, as text."""
        measure = self.facts["measure"]
        lines = [("trial", measure, "settings")]
        lines += [(str(one.number), f"{one.score:.2%}", one.words) for one in self.finished[:SHOWN]]
        given_up = [one for one in self.trials if one.state == store.PRUNED]
        whys = {why: sum(one.why.startswith(why) for one in given_up) for why in ("curve", "clinic")}
        failed = [one for one in self.trials if one.state == store.FAILED]
        told = [
            f"{len(self.trials)} trials: {len(self.finished)} trained to their end, {whys['curve']} given up "
            f"for their curve, {whys['clinic']} by the clinic's verdict, "
            f"{len(given_up) - sum(whys.values())} when the time was over, {len(failed)} failed"
        ]
        told += [f"failed: trial {one.number} ({one.words}): {one.why}" for one in failed[:3]]
        if self.importance:
            parts = ", ".join(f"{name} {value:.0%}" for name, value in self.importance.items())
            told.append(f"what the scores depend on: {parts}")
        told += [
            f"each trial: {self.facts['epochs']:.1f} epochs; the best of several scores higher on the "
            f"{self.facts['validation_images']} images it was chosen on than on others",
            *(
                f"{run.path}: test accuracy {run.metrics['test']['accuracy']:.1%}, read once"
                for run in self.runs
            ),
            f"train it for longer: convclinic fit {self.facts['data']} --recipe {self.folder / BEST} "
            "--budget 10m",
        ]
        return columns(lines) + "\n\n" + "\n".join(told)

    def to_dict(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            **self.facts,
            "trials": [
                {**dataclasses.asdict(one), "curve": one.curve and dataclasses.asdict(one.curve)}
                for one in self.trials
            ],
            "importance": self.importance,
            "best": self.best.to_dict(),
            "runs": [str(run.path) for run in self.runs],
        }


def _finished(trials: Sequence[Tried]) -> list[Tried]:
    """Those trained to their end, best first."""
    done = [one for one in trials if one.state == store.COMPLETE]
    return sorted(done, key=lambda one: (-(one.score or 0.0), one.number))


def concluded(
    wish: Wish,
    study: Study,
    known: dict[str, Any],
    data: Dataset,
    ends: Sequence[Done],
    target: Path,
    top: int,
    display: Display,
) -> Searched:
    """The best recipe as a file, run folders of the best, and everything as data."""
    trials = tuple(store.tried(study))
    done = _finished(trials)
    if not done:
        why = next((one.why for one in trials if one.why), "the time was too short")
        raise ConvclinicError(
            f"no trial came to its end: {why}", fix="the same command goes on with more --budget"
        )
    own = {end.result["number"]: end for end in ends if end.result is not None}
    base, space = Recipe.from_dict(known["recipe"]), spaces.from_plain(known["space"])
    best = with_length(spaces.applied(base, space, done[0].values), known)
    display.stage("test")
    runs = tuple(
        _run_folder(wish, own[one.number], one, data, target, display)
        for one in done[:top]
        if one.number in own
    )
    for one in done[KEPT_MODELS:]:
        if one.number in own:
            (target / TRIALS / own[one.number].task.name / place.MODEL).unlink(missing_ok=True)
    facts = {
        "data": str(wish.data),
        "measure": known["measure"],
        "sampler": known["sampler"],
        "epochs": known["images"] / len(data.indices("train")),
        "training_images": len(data.indices("train")),
        "validation_images": len(data.indices("validation")),
        "machine": hardware.name_of(wish.device),
        "wall_seconds": time.monotonic() - wish.started,
    }
    found = Searched(target, trials, best, store.importance(study), runs, facts)
    reason = Reason(
        "recipe", best.hash(), f"the best of {len(done)} trials trained to their end, {done[0].score:.2%}"
    )
    write_json(target / BEST, {"recipe": best.to_dict(), "reasons": [dataclasses.asdict(reason)]})
    write_json(target / SEARCH, {**read_json(target / SEARCH), **found.to_dict()})
    display.say(found.table())
    return found


def _run_folder(wish: Wish, end: Done, one: Tried, data: Dataset, target: Path, display: Display) -> Run:
    """A trial as a run like any other: its net judged, tested once. One that was made before stays."""
    folder, trained = target / TOP / f"trial-{one.number}", target / TRIALS / end.task.name
    if (folder / place.REPORT).exists():
        return Run(folder, wish.device)
    result: dict[str, Any] = end.result or {}
    recipe = Recipe.from_dict(result["recipe"])
    reasons = (
        Reason("recipe", recipe.hash(), f"trial {one.number} of a search: {one.score:.2%} on validation"),
        *(Reason(name, str(value), "chosen by the search") for name, value in one.values.items()),
    )
    plan = Plan(recipe, reasons, 0.0, epochs(recipe, data))
    machine = hardware.measure(wish.device)
    document = run_document(Planned(plan, data, machine, data.findings, None, 0.0), wish)
    divide(target, folder, data.splits)
    write_json(folder / place.FINDINGS, [finding.to_dict() for finding in data.findings])
    write_json(folder / place.RECIPE, {**document, "clinic": "off"})
    shutil.copyfile(trained / place.HISTORY, folder / place.HISTORY)
    judged, model = judge(load(trained / place.MODEL, wish.device), data, folder, display)
    model.save(folder / place.MODEL)
    told = {
        "steps": result["steps"],
        "planned_steps": recipe.run.steps,
        "best_step": result["best_step"],
        "device": machine.name,
        "budget_seconds": None,
        "seconds": {"train": result["seconds"]},
        "wall_seconds": result["seconds"],
    }
    write_json(folder / place.METRICS, {**judged, **told})
    write_report(folder)
    return Run(folder, wish.device)
