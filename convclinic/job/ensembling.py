"""`convclinic ensemble`: runs joined to one model, chosen on validation and tested once."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convclinic.data.dataset import Dataset, divide, reopen
from convclinic.evaluate import split_logits
from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.ground.files import read_json, write_json
from convclinic.ground.stats import fit_temperature
from convclinic.job import folder as place
from convclinic.job.display import Display, Lines, Silent
from convclinic.job.judging import judge
from convclinic.job.run import Run
from convclinic.job.tasks import train_all
from convclinic.model import Model, joined, load
from convclinic.planning.hardware import choose_device
from convclinic.recipe import Recipe
from convclinic.report.page import write_report
from convclinic.study import engine, ensembles
from convclinic.study.comparing import columns
from convclinic.study.engine import Task

SOUP = "soup"
METHODS = ("auto", *ensembles.METHODS, SOUP)
MEMBERS = "members"  # the folder of runs that were trained for it


@dataclass(frozen=True)
class Ensembled:
    """run: of the joint model, like any other; facts: method, members with their weights, diversity, gain."""

    run: Run
    facts: dict[str, Any]

    def table(self) -> str:
        """Members and what was gained, as text."""
        lines = [("member", "weight", "validation", "test")]
        for one in self.facts["members"]:
            lines.append(
                (one["run"], f"{one['weight']:.2f}", f"{one['validation']:.1%}", f"{one['test']:.1%}")
            )
        gain, low, high = (100 * value for value in self.facts["gain"])
        return (
            f"{columns(lines)}\n\n{self.facts['method']}: test accuracy {self.facts['accuracy']:.1%}, "
            f"{gain:+.1f} points beside the best member by validation ({low:+.1f} to {high:+.1f}); two "
            f"members answer {self.facts['diversity']:.1%} of the images differently"
        )


def ensemble(
    runs: Sequence[str | Path],
    *,
    members: int = 0,
    method: str = "auto",
    out: str | Path | None = None,
    workers: int = 0,
    device: str | None = None,
    quiet: bool = False,
) -> Ensembled:
    """Join runs of the same data and split, by the method that does best on validation, and test it once.

    members: train as many in all, with the first run's recipe and data and other seeds; workers: at once, 0
    for as many as this machine bears. method: "mean", "greedy" (Caruana et al. 2004), "soup" (weights
    averaged: one net's cost), "single" or "auto". out: the new run folder. Raises ConvclinicError for fewer
    than two runs, for runs of other data or splits, and for an unknown method.
    """
    if method not in METHODS:
        raise ConvclinicError(f"no method '{method}'", fix=nearest(method, METHODS))
    given = [place.existing(Path(run)) for run in runs]
    if not given or max(len(given), members) < 2:
        raise ConvclinicError("an ensemble needs two runs", fix="name more of them, or give --members 5")
    where = choose_device(device)
    target = _folder(Path(out) if out is not None else None, given[0], members)
    with place.locked(target), Silent() if quiet else Lines() as display:
        paths = given + _trained(given, members, target, workers or engine.bearable(where), display)
        data = _same_data(paths)
        models = [load(path, where) for path in paths]
        display.stage("ensemble")
        chosen = _choose(models, data, method)
        return _judged(chosen, models, paths, data, target, where, display)


def _folder(out: Path | None, first: Path, members: int) -> Path:
    if members and out is not None and (out / MEMBERS).exists() and not (out / place.REPORT).exists():
        return out  # members are still being trained there
    return place.new(out, first.with_name(f"{first.name}-ensemble"))


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


def _same_data(paths: Sequence[Path]) -> Dataset:
    """The data of all runs. Raises ConvclinicError where their validation or test images differ."""
    data = reopen(paths[0])
    for path in paths[1:]:
        other = reopen(path)
        for part in ("validation", "test"):
            if [data.names[i] for i in data.indices(part)] != [other.names[i] for i in other.indices(part)]:
                raise ConvclinicError(
                    f"{paths[0]} and {path} have other {part} images, so nothing could be chosen or tested",
                    fix="train members of one split: convclinic ensemble RUN --members 5",
                )
    return data


@dataclass(frozen=True)
class _Chosen:
    method: str
    weights: np.ndarray
    model: Model
    losses: dict[str, float]


def _choose(models: Sequence[Model], data: Dataset, method: str) -> _Chosen:
    """The method with the lowest log loss on validation images that it was not chosen on."""
    labels = data.labels[data.indices("validation")]
    probabilities = np.stack([one.probabilities(split_logits(one, data, "validation")[0]) for one in models])
    seed = models[0].recipe.seed
    losses = {
        name: ensembles.estimated(weigh, probabilities, labels, seed)
        for name, weigh in ensembles.METHODS.items()
        if method in ("auto", name)
    }
    soup = _soup(models, data) if method in ("auto", SOUP) else None
    if soup is not None:
        losses[SOUP] = soup.losses[SOUP]
    elif method == SOUP:
        raise ConvclinicError(
            "a soup needs nets of one recipe", fix="choose --method mean, or train members of one recipe"
        )
    best = min(losses, key=lambda name: losses[name])
    if best == SOUP and soup is not None:
        return dataclasses.replace(soup, losses=losses)
    weights = ensembles.METHODS[best](probabilities, labels)
    kept = [k for k in range(len(models)) if weights[k] > 0]
    model = joined([models[k] for k in kept], [float(weights[k]) for k in kept])
    return _Chosen(best, weights, model, losses)


def _soup(models: Sequence[Model], data: Dataset) -> _Chosen | None:
    """Greedy soup (Wortsman et al. 2022, arXiv:2203.05482): in the order of their validation accuracy nets
    are averaged in where that does not lower it. Chosen on one half of the validation images; its log loss is
    that on the other. None where the nets are of other recipes."""
    plain = [dataclasses.replace(one.recipe, seed=0, run=models[0].recipe.run) for one in models]
    if any(recipe != plain[0] for recipe in plain):
        return None

    def accuracy(model: Model) -> float:
        logits, labels = split_logits(model, data, "validation")
        return float((logits.argmax(1) == labels)[::2].mean())

    reached = [accuracy(one) for one in models]
    order = sorted(range(len(models)), key=lambda k: -reached[k])
    pot, best = order[:1], reached[order[0]]
    for k in order[1:]:
        with_it = accuracy(_averaged([models[i] for i in (*pot, k)]))
        if with_it >= best:
            pot, best = [*pot, k], with_it
    model = _averaged([models[i] for i in pot])
    logits, labels = split_logits(model, data, "validation")
    facts = {"temperature": fit_temperature(labels[::2], logits[::2].astype(np.float64))}
    model = dataclasses.replace(model, facts=facts)
    loss = ensembles.log_loss(model.probabilities(logits[1::2]), labels[1::2])
    weights = np.isin(np.arange(len(models)), pot) / len(pot)
    return _Chosen(SOUP, weights, model, {SOUP: loss})


def _averaged(models: Sequence[Model]) -> Model:
    """The first model with the mean of all weights."""
    states = [one.net.state_dict() for one in models]
    mean = {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }
    net = copy.deepcopy(models[0].net)
    net.load_state_dict(mean)
    return dataclasses.replace(models[0], net=net, facts={})


def _judged(
    chosen: _Chosen,
    models: Sequence[Model],
    paths: Sequence[Path],
    data: Dataset,
    target: Path,
    device: torch.device,
    display: Display,
) -> Ensembled:
    """The run folder of the joint model, tested once, beside its members on the same images."""
    divide(paths[0], target, data.splits)
    shutil.copyfile(paths[0] / place.FINDINGS, target / place.FINDINGS)
    judged, model = judge(chosen.model, data, target, display)
    metrics = [read_json(path / place.METRICS) for path in paths]
    best = max(range(len(paths)), key=lambda k: metrics[k]["validation"]["accuracy"])
    labels = data.labels[data.indices("test")]
    tested = [one.probabilities(split_logits(one, data, "test")[0]) for one in models]
    joint = model.probabilities(split_logits(model, data, "test")[0])
    facts: dict[str, Any] = {
        "method": chosen.method,
        "validation_log_loss": chosen.losses,
        "members": [
            {
                "run": str(path),
                "weight": float(weight),
                "validation": own["validation"]["accuracy"],
                "test": own["test"]["accuracy"],
            }
            for path, weight, own in zip(paths, chosen.weights, metrics, strict=True)
        ],
        "diversity": ensembles.diversity(np.stack(tested)),
        "gain": list(ensembles.gained(joint, tested[best], labels)),
        "accuracy": judged["test"]["accuracy"],
    }
    document = {**place.document(paths[0]), "ensemble": facts}
    write_json(target / place.RECIPE, document)
    told = {"device": metrics[best]["device"], "ensemble": facts}
    write_json(target / place.METRICS, {**judged, **told})
    model.save(target / place.MODEL)
    page = write_report(target)
    display.update(1, 1, str(page))
    done = Ensembled(Run(target, device), facts)
    display.say(done.table())
    return done
