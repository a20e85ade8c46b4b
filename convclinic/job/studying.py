"""`convclinic study`: the data and the machine looked at, then many runs."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from convclinic.data.dataset import Dataset, reopen
from convclinic.data.sources import open_source
from convclinic.evaluate import baselines
from convclinic.ground import units
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import write_json
from convclinic.job import folder as place
from convclinic.job.display import Display, Lines, Silent
from convclinic.job.fitting import VERSION
from convclinic.job.groundwork import Facts, fine_tuned, planned, taken_in
from convclinic.planning import hardware
from convclinic.recipe import Recipe
from convclinic.slots import read_slot
from convclinic.study import activations, balance, comparing, engine
from convclinic.study import evidence as evidences
from convclinic.study.comparing import Contender, Kept, Mean, Outcome
from convclinic.study.step_times import ROUNDS, step_times

EVIDENCE = "evidence.json"
TIMED = 0.1  # of the budget for evidence times steps
UNFIT = (
    "the base recipe reaches {:.1%} and a linear classifier {:.1%}: what helps here mends an unfit recipe, "
    "and says little of the trick; give --set optimise.lr, more steps or another --net"
)


@dataclass(frozen=True)
class Request:
    """What a study is to be made of.

    net: the name of the net that is compared in, None for the study's own choice. budget: for all runs
    together, seconds or text such as "1h". only: labels of what to compare, all when empty. out: where
    outcomes are kept, None for `NAME-QUESTION` here. settings: changes of the recipe. weights, backbone: what
    to start from, as in `fit`; for the question about balance alone.
    """

    data: str | Path
    net: str | None = None
    seeds: int = 3
    budget: str | float | None = "1h"
    only: Sequence[str] = ()
    out: str | Path | None = None
    settings: Sequence[str] = ()
    device: str | None = None
    quiet: bool = False
    weights: str | Path | None = None
    backbone: str | None = None
    workers: int = 1
    cluster: str | None = None

    def folder(self, question: str) -> Path:
        name = Path(self.data).resolve().name.split(".")[0]
        return Path(self.out) if self.out is not None else Path(f"{name}-{question}")


@dataclass(frozen=True)
class Studied:
    """The outcomes, what failed and why, the recipe they come from, the machine, how long each net was
    trained, training images a class, and where all is kept."""

    outcomes: list[Outcome]
    failed: dict[str, str]
    recipe: Recipe
    machine: str
    steps: int
    epochs: float
    counts: dict[str, int]
    folder: Path


class _Question(NamedTuple):
    """A study: the recipe its contenders come from, the contenders, how a seed divides the data, and what a
    net's outcome is in a few words."""

    name: str
    net: str | None
    base: Callable[[Request, Facts], Recipe]
    contenders: Callable[[Recipe, Sequence[str]], list[Contender]]
    divided: Callable[[Dataset, Path], Callable[[int], Dataset]]
    words: Callable[[Outcome], str]
    aside: float = 0.0  # share of the budget that is for something else than trainings


def _undivided(data: Dataset, folder: Path) -> Callable[[int], Dataset]:
    """Every seed has the same parts."""
    return lambda seed: data


def study_activations(request: Request) -> Studied:
    """Compare activations in one net, "nin" unless the request names another: see study.activations."""

    def base(request: Request, facts: Facts) -> Recipe:
        net = read_slot("net", request.net)
        return activations.base_recipe(facts.shape, net, facts.machine.precision, request.settings)

    def words(outcome: Outcome) -> str:
        return f"test error {1 - outcome.test.accuracy:.4f}"

    question = _Question("activations", "nin", base, activations.contenders, _undivided, words)
    return _study(request, question)


def study_balance(request: Request) -> Studied:
    """Compare the policies for rare classes in the net that `fit` would plan, or the one that the request
    names: see study.balance."""

    def divided(data: Dataset, folder: Path) -> Callable[[int], Dataset]:
        groups = place.groups(folder)
        return lambda seed: balance.divided(data, groups, seed)

    def words(outcome: Outcome) -> str:
        return f"balanced accuracy {outcome.validation.balanced_accuracy:.1%} on validation"

    question = _Question("balance", None, _planned, balance.contenders, divided, words)
    return _study(request, question)


@dataclass(frozen=True)
class Evidence:
    """What each trick brought, and how that was found out, as plain data."""

    rows: list[evidences.Row]
    facts: dict[str, Any]
    folder: Path

    def table(self) -> str:
        """The rows as text, and under them at which size they were had."""
        facts = self.facts
        lines = [
            evidences.table(self.rows),
            "",
            f"each net: {facts['steps']} steps, {facts['epochs']:.1f} epochs of {facts['training_images']} "
            f"images; judged on {facts['test_images']}; kept in {self.folder}",
            *([UNFIT.format(*facts["plain"].values())] if self.unfit else []),
            *(f"failed: {what}: {why}" for what, why in facts["failed"].items()),
        ]
        return "\n".join(lines)

    @property
    def unfit(self) -> bool:
        """Whether the base recipe itself does worse than a linear classifier."""
        return self.facts["plain"]["base"] < self.facts["plain"]["linear_probe"]

    def to_dict(self) -> dict[str, Any]:
        return {"folder": str(self.folder), **self.facts}


def evidence(
    data: str | Path,
    tricks: Sequence[str] = (),
    *,
    net: str = "compact",
    seeds: int = 3,
    budget: str | float | None = "1h",
    out: str | Path | None = None,
    settings: Sequence[str] = (),
    workers: int = 0,
    cluster: str | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> Evidence:
    """Train the same recipe with and without each trick, several seeds each: see study.evidence.

    tricks: such as "cutout" or "augment.cutout", all where none is named. budget: for all nets together,
    seconds or text; "run.steps=N" among the settings says instead how long each is trained. workers: nets at
    once, 0 for as many as this machine bears. out: kept there, with `evidence.json`; the same call goes on.
    Raises ConvclinicError for a trick that is not known and a budget that is too small.
    """

    def base(request: Request, facts: Facts) -> Recipe:
        chosen = read_slot("net", request.net)
        return evidences.base_recipe(facts.shape, chosen, facts.machine.precision, request.settings)

    def words(outcome: Outcome) -> str:
        return f"test accuracy {outcome.test.accuracy:.2%}"

    request = Request(
        data, net, seeds, budget, tricks, out, settings, device, quiet, workers=workers, cluster=cluster
    )
    question = _Question("evidence", None, base, evidences.contenders, _undivided, words, TIMED)
    studied = _study(request, question)
    rows = evidences.summary(studied.outcomes, studied.recipe, tricks, _step_times(studied, request))
    facts = {
        "data": Path(data).name,
        "training_images": sum(studied.counts.values()),
        "test_images": sum(studied.outcomes[0].test.of),
        "recipe": studied.recipe.to_dict(),
        "steps": studied.steps,
        "epochs": studied.epochs,
        "seeds": seeds,
        "plain": _plain(studied),
        "machine": studied.machine,
        "versions": {"convclinic": VERSION, "torch": torch.__version__},
        "rows": [row.to_dict() for row in rows],
        "failed": studied.failed,
    }
    write_json(studied.folder / EVIDENCE, facts)
    return Evidence(rows, facts, studied.folder)


def _step_times(studied: Studied, request: Request) -> dict[str, Mean | None]:
    """Of each trick whose nets were trained, in the share of the budget that was kept for it."""
    labels = {one.label for one in studied.outcomes}
    known = {
        one.recipe.hash() for one in evidences.contenders(studied.recipe, request.only) if one.label in labels
    }
    pairs = [
        (trick, one, other)
        for trick, one, other in evidences.pairs(studied.recipe, request.only)
        if {one.hash(), other.hash()} <= known
    ]
    seconds = TIMED * units.seconds(request.budget or "1h") / (2 * (ROUNDS + 2) * max(1, len(pairs)))
    found: dict[str, Mean | None] = {}
    where = hardware.choose_device(request.device)
    with place.locked(studied.folder), Silent() if request.quiet else Lines() as display:
        display.stage("time the steps")
        for trick, mean in step_times(pairs, where, studied.folder, seconds):
            found[trick] = mean
            display.update(len(found), len(pairs), f"{trick}: {evidences.timed(mean)}")
    return found


def _plain(studied: Studied) -> dict[str, float]:
    """Test accuracy of the base recipe, mean over its seeds, and of a linear classifier."""
    own = [net.test.accuracy for net in studied.outcomes if net.label == evidences.BASE]
    simple = baselines(reopen(studied.folder), "test", 0)["linear_probe"]["accuracy"]
    return {"base": statistics.fmean(own) if own else 0.0, "linear_probe": simple}


def _planned(request: Request, facts: Facts) -> Recipe:
    return planned(facts, request.net, request.settings)


def _study(request: Request, question: _Question) -> Studied:
    """Plan a study or find it in its folder, and train what is missing."""
    started = time.monotonic()
    if _pretrained(request) and (question.name != "balance" or request.net is not None):
        raise ConvclinicError(
            "--weights and --backbone name the net, and only the study of balance takes them",
            fix="leave out --net" if question.name == "balance" else "leave them out",
        )
    request = dataclasses.replace(request, net=request.net or question.net)
    question.contenders(Recipe(), request.only)  # a label that is not known is refused before any work
    where, folder = hardware.choose_device(request.device), request.folder(question.name)
    request = dataclasses.replace(request, workers=request.workers or engine.bearable(where))
    folder.mkdir(parents=True, exist_ok=True)
    wish = _wish(request, question)
    with place.locked(folder), Silent() if request.quiet else Lines() as display:
        kept = comparing.find(folder, wish)
        if kept is None:
            kept, data = _begin(request, question, where, folder, display, started)
            comparing.keep(folder, wish, kept)
        else:
            data = reopen(folder)
        display.stage("train")
        contenders = question.contenders(kept.recipe, request.only)
        outcomes, failed = list[Outcome](), dict[str, str]()
        begun, total = time.monotonic(), len(contenders) * request.seeds
        nets = comparing.compare(
            contenders,
            question.divided(data, folder),
            where,
            request.seeds,
            kept.steps,
            folder,
            request.workers,
            request.cluster,
        )
        for done, (one, seed, outcome) in enumerate(nets, 1):
            if isinstance(outcome, Outcome):
                outcomes.append(outcome)
                words = f"{one.label}, seed {seed}: {question.words(outcome)}"
            else:
                words = failed[f"{one.label}, seed {seed}"] = outcome
                words = f"{one.label}, seed {seed} failed: {words}"
            display.update(done, total, words, (time.monotonic() - begun) / done * (total - done))
            display.say(f"  {words}")
        if not outcomes:
            raise ConvclinicError(f"every net failed: {next(iter(failed.values()))}")
    place_of = {one.label: place for place, one in enumerate(contenders)}
    outcomes.sort(key=lambda outcome: (outcome.seed, place_of[outcome.label]))
    n = data.profile.n_train
    epochs = kept.steps * min(kept.recipe.run.batch_size, n) / n
    machine = hardware.name_of(where)
    return Studied(
        outcomes, failed, kept.recipe, machine, kept.steps, epochs, data.profile.class_counts, folder
    )


def _wish(request: Request, question: _Question) -> dict[str, Any]:
    """What makes two studies the same one, as plain data: not how many seeds or which contenders."""
    return {
        "question": question.name,
        "data": str(Path(request.data).resolve()),
        "net": request.net,
        "settings": list(request.settings),
        **({"weights": str(request.weights), "backbone": request.backbone} if _pretrained(request) else {}),
    }


def _begin(
    request: Request,
    question: _Question,
    device: torch.device,
    folder: Path,
    display: Display,
    started: float,
) -> tuple[Kept, Dataset]:
    """The data taken in, the recipe planned, and the steps that the budget allows."""
    seconds, source = units.seconds(request.budget or "1h"), open_source(Path(request.data))
    each = seconds / (request.seeds * len(question.contenders(Recipe(), request.only)))
    if _pretrained(request):
        recipe, data = fine_tuned(
            source,
            folder,
            device,
            each,
            data=Path(request.data),
            settings=request.settings,
            weights=None if request.weights is None else Path(request.weights),
            backbone=request.backbone,
            display=display,
        )
        recipe = dataclasses.replace(recipe, balance=())
    else:
        facts = taken_in(
            source, folder, device, each, net=request.net, settings=request.settings, display=display
        )
        recipe, data = question.base(request, facts), facts.data
    left = seconds * (1 - question.aside) - (time.monotonic() - started)
    return _kept(request, question, recipe, data, device, left), data


def _kept(
    request: Request,
    question: _Question,
    recipe: Recipe,
    data: Dataset,
    device: torch.device,
    seconds: float,
) -> Kept:
    """The recipe with the steps that were asked for, or as many as every net can have."""
    steps = recipe.run.steps
    if not any(setting.startswith("run.steps=") for setting in request.settings):
        contenders = question.contenders(recipe, request.only)
        threads = torch.get_num_threads()
        if request.workers > 1:
            torch.set_num_threads(engine.threads_each(request.workers))
        steps = comparing.steps_within(contenders, data, device, request.seeds, seconds, request.workers)
        torch.set_num_threads(threads)
    return Kept(dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, steps=steps)), steps)


def _pretrained(request: Request) -> bool:
    return request.weights is not None or request.backbone is not None
