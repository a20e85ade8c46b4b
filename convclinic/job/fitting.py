"""`convclinic fit` and `convclinic resume`: a folder of photos in, a run folder out."""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
import re
import resource
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from convclinic import loop
from convclinic.data.dataset import Dataset, reopen
from convclinic.data.sources import open_source
from convclinic.ground import units
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import write_json
from convclinic.job import folder as place
from convclinic.job.display import Display, Lines, Silent
from convclinic.job.judging import judge
from convclinic.job.planning import Planned, Wish, make_plan
from convclinic.job.run import Run
from convclinic.job.training import Pace, broken_down, freeze, train
from convclinic.job.watching import check_mode
from convclinic.kinds import Finding
from convclinic.model import Model
from convclinic.planning import planner
from convclinic.planning.hardware import choose_device
from convclinic.planning.transfer import known_strategy
from convclinic.recipe import Recipe, load
from convclinic.report.page import write_report
from convclinic.slots import check_names

VERSION = "0.1.0"
EXTEND_FROM = 0.5  # an extended run goes back to this point of its schedule and comes down again


def fit(
    data: str | Path,
    *,
    budget: str | float | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    recipe: str | Path | Recipe | None = None,
    settings: Sequence[str] = (),
    device: str | None = None,
    quiet: bool = False,
    force: bool = False,
    clinic: str = "watch",
    weights: str | Path | None = None,
    backbone: str | None = None,
    strategy: str | None = None,
    split: str | Path | None = None,
    started: float | None = None,
) -> Run:
    """Train the best classifier for `data` that the budget allows, and write everything into a run folder.

    data: a folder of class folders, a CSV, idx or npz arrays, or an archive of these. budget: seconds, or
    text such as "10m", from start to report; None for a sensible default. out: the run folder, new or
    empty; None for `runs/<name>-<number>`. recipe: a Recipe or a file to follow instead of planning.
    settings: changes such as "optimise.lr=0.1". force: train even a recipe that cannot succeed.
    clinic: "off", "watch" (findings in the progress line and the report) or "treat" (remedies are tried too).
    weights: a file to start from; backbone: the net they are of where the file does not say, or alone the
    name of a net whose weights the hub has. strategy: how to use them, in place of what is measured to be
    best; see convclinic.planning.transfer. split: a run folder whose split is taken over, to compare or to
    join. started: the time.monotonic() from which the budget counts.

    Raises ConvclinicError for anything wrong with the input, and Interrupted on Ctrl-C, when all is saved.
    """
    check_mode(clinic)
    start = _start(weights, backbone, strategy, split)
    wish = read_wish(Path(data), budget, seed, recipe, settings, device, started, force, start)
    source = open_source(wish.data)
    target = place.new(Path(out) if out is not None else None, wish.data)
    with place.locked(target), _display(quiet) as display:
        display.say(f"run folder {target}")
        with place.provisional(target), _timed(target, "plan"):
            planned = make_plan(wish, source, target, display)
            _freeze_plan(planned, wish, target, clinic)
        for reason in planned.plan.reasons:
            display.say(f"  {reason.choice}: {reason.value} - {reason.reason}")
        return _finish(
            planned.plan.recipe,
            planned.data,
            target,
            wish.device,
            display,
            pace_of(wish, planned),
            wish.started,
            clinic,
        )


def plan(
    data: str | Path,
    *,
    budget: str | float | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    recipe: str | Path | Recipe | None = None,
    settings: Sequence[str] = (),
    device: str | None = None,
    quiet: bool = False,
    force: bool = False,
    weights: str | Path | None = None,
    backbone: str | None = None,
    strategy: str | None = None,
    split: str | Path | None = None,
) -> tuple[planner.Plan, Path | None]:
    """What `fit` would do and why; writes the recipe to `out` where one is given. Trains nothing."""
    start = _start(weights, backbone, strategy, split)
    wish = read_wish(Path(data), budget, seed, recipe, settings, device, None, force, start)
    with tempfile.TemporaryDirectory(prefix="convclinic-") as scratch, _display(quiet) as display:
        planned = make_plan(wish, open_source(wish.data), Path(scratch), display)
    path = Path(out) if out is not None else None
    if path is not None:
        write_json(path, run_document(planned, wish))
    return planned.plan, path


def resume(
    run: str | Path, *, extend: str | float | None = None, device: str | None = None, quiet: bool = False
) -> Run:
    """Go on with a run that was stopped or killed; with `extend`, train a finished one for longer.

    The same machine ends with the same weights, bit for bit, as if the run had never stopped; on a GPU up to
    rounding, for some of its kernels add in any order.
    """
    target, started = Path(run), time.monotonic()
    document = place.document(target)
    recipe = Recipe.from_dict(document["recipe"])
    where = choose_device(device or document.get("device"))
    torch.set_num_threads(int(document["hardware"]["threads"]))  # sums split otherwise round otherwise
    if "ensemble" in document:
        raise ConvclinicError(f"{target} is an ensemble", fix="train its members for longer, and join them")
    with place.locked(target), _display(quiet) as display:
        finished = (target / place.REPORT).exists()
        if finished and extend is None:
            raise ConvclinicError(f"{target} is finished", fix="train it for longer with --extend 5m")
        display.stage("reopen")
        data = reopen(target)
        if extend is not None:
            if not finished:
                raise ConvclinicError(f"{target} is not finished", fix="resume it first, without --extend")
            recipe = _extended(recipe, target, units.seconds(extend))
            freeze(recipe, target)
            (target / place.REPORT).unlink()
        return _finish(recipe, data, target, where, display, None, started, document.get("clinic", "watch"))


def read_wish(
    data: Path,
    budget: str | float | None,
    seed: int | None,
    recipe: str | Path | Recipe | None,
    settings: Sequence[str],
    device: str | None,
    started: float | None,
    force: bool,
    start: dict[str, Any],
) -> Wish:
    """What the user asked for. Raises ConvclinicError where it makes no sense, before any work is done."""
    check_names(settings)
    given = load(Path(recipe)) if isinstance(recipe, str | Path) else recipe
    chosen = given or Recipe()
    if seed is not None:
        chosen = dataclasses.replace(chosen, seed=seed)
    chosen = chosen.override([setting for setting in settings if setting.startswith("seed")])
    return Wish(
        data=data,
        budget=None if budget is None else units.seconds(budget),
        seed=chosen.seed,
        recipe=None if given is None else chosen,
        settings=tuple(setting for setting in settings if not setting.startswith("seed")),
        device=choose_device(device),
        started=time.monotonic() if started is None else started,
        force=force,
        **start,
    )


def _start(
    weights: str | Path | None, backbone: str | None, strategy: str | None, split: str | Path | None
) -> dict[str, Any]:
    """What a run begins from. Raises ConvclinicError where words about pretrained weights make no sense."""
    if strategy is not None:
        known_strategy(strategy)
        if weights is None and backbone is None:
            raise ConvclinicError(
                "--strategy says how to use pretrained weights, and there are none",
                fix="give --weights FILE or --backbone NAME",
            )
    return {
        "weights": None if weights is None else Path(weights),
        "backbone": backbone,
        "strategy": strategy,
        "split": None if split is None else Path(split),
    }


def model_of(recipe: Recipe, data: Dataset, state: loop.State) -> Model:
    """What a training came to: its best weights, or where it was never validated its last ones."""
    net = state.judged
    if state.best is not None:
        net.load_state_dict(state.best)
    return Model(recipe, data.classes, net, state.fitted, data.deep_max)


def pace_of(wish: Wish, planned: Planned) -> Pace | None:
    if wish.budget is None or planned.speed is None or wish.fixed_steps:
        return None
    ends = wish.started + wish.budget * (1 - planner.MARGIN) - planned.closing
    return Pace(ends, wish.budget, planned.speed)


def run_document(planned: Planned, wish: Wish) -> dict[str, Any]:
    """What `recipe.json` of a run folder holds, but for the clinic's mode."""
    return {
        "format": 1,
        "convclinic": VERSION,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": _command(),
        "data": str(wish.data.resolve()),
        "budget_seconds": wish.budget,
        "device": str(wish.device),
        "hardware": dataclasses.asdict(planned.hardware),
        "hash": planned.plan.recipe.hash(),
        "recipe": planned.plan.recipe.to_dict(),
        "reasons": [dataclasses.asdict(reason) for reason in planned.plan.reasons],
    }


def _command() -> str:
    """As it was typed, passwords in URLs left out; empty where it was none of ours."""
    words = "convclinic " + " ".join(sys.argv[1:]) if sys.argv[0].endswith("convclinic") else ""
    return re.sub(r"(://[^:/@\s]*:)[^@\s]*@", r"\1***@", words)


def _freeze_plan(planned: Planned, wish: Wish, target: Path, clinic: str) -> None:
    _write_findings(target, planned.findings)
    write_json(target / place.RECIPE, {**run_document(planned, wish), "clinic": clinic})


def _write_findings(target: Path, findings: Sequence[Finding]) -> None:
    write_json(target / place.FINDINGS, [finding.to_dict() for finding in findings])


def _extended(recipe: Recipe, target: Path, seconds: float) -> Recipe:
    """The recipe with as many more steps as `seconds` hold at the pace of the run so far."""
    timings = _timings(target)
    pace = recipe.total_steps / max(1e-9, timings.get("train", 0.0))
    steps = max(planner.LEAST_STEPS, int(seconds * pace))
    segment = (recipe.total_steps, EXTEND_FROM, recipe.total_steps + steps)
    run = dataclasses.replace(recipe.run, rescheduled=(*recipe.run.rescheduled, segment))
    return dataclasses.replace(recipe, run=run)


def _finish(
    recipe: Recipe,
    data: Dataset,
    target: Path,
    device: torch.device,
    display: Display,
    pace: Pace | None,
    started: float,
    clinic: str,
) -> Run:
    """From the frozen recipe to the report."""
    display.stage("train")
    with _timed(target, "train"):
        recipe, state = train(recipe, data, target, device, display, pace, clinic)
    _refuse_broken(state, target, clinic)
    display.stage("evaluate")
    with _timed(target, "evaluate"):
        judged, model = judge(model_of(recipe, data, state), data, target, display)
    document = place.document(target)
    metrics: dict[str, Any] = {
        **judged,
        "steps": state.step,
        "planned_steps": recipe.run.steps,
        "best_step": state.best_step,
        "device": document["hardware"]["name"],
        "budget_seconds": document.get("budget_seconds"),
    }
    model.save(target / place.MODEL)
    display.stage("report")
    timings = _timings(target)
    metrics["seconds"] = timings
    metrics["wall_seconds"] = time.monotonic() - started  # of this session, for a resumed run
    metrics["peak_memory_bytes"] = peak_memory()
    write_json(target / place.METRICS, metrics)
    page = write_report(target)
    test = metrics["test"]
    low, high = test["accuracy_interval"]
    display.update(1, 1, str(page))
    display.say(
        f"test accuracy {test['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}), "
        f"balanced {test['balanced_accuracy']:.1%}, on {test['n']} images never used before\n"
        f"{metrics['verdict']}"
    )
    return Run(target, device)


def _refuse_broken(state: loop.State, target: Path, clinic: str) -> None:
    """Raise ConvclinicError where training never reached a validation with a net that gives numbers."""
    broken = any(not bool(torch.isfinite(p.detach()).all()) for p in state.judged.parameters())
    if state.best is None and broken:
        raise broken_down("the weights are no numbers any more", target, clinic)


def peak_memory() -> int:
    """The most resident memory this process has had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def _display(quiet: bool) -> Generator[Display]:
    with Silent() if quiet else Lines() as display:
        yield display


@contextmanager
def _timed(target: Path, stage: str) -> Generator[None]:
    """Add a stage's seconds to `timings.jsonl`, also when it is stopped half-way."""
    begin = time.monotonic()
    try:
        yield
    finally:
        row = {"stage": stage, "seconds": round(time.monotonic() - begin, 3)}
        with suppress(OSError), open(target / place.TIMINGS, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")  # a full disk is told by the stage itself


def _timings(target: Path) -> dict[str, float]:
    """Seconds by stage, summed over all sessions of the run."""
    sums: dict[str, float] = {}
    path = target / place.TIMINGS
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        row = json.loads(line)
        sums[row["stage"]] = sums.get(row["stage"], 0.0) + float(row["seconds"])
    return sums
