"""The clinic inside a run: it watches without a trace, and a remedy is kept only where it helps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from making import TINY
from tiny import recipe as tiny

from convclinic import loop
from convclinic.data.dataset import Dataset, assemble
from convclinic.data.intake import survey
from convclinic.data.sources import open_source
from convclinic.ground.errors import ConvclinicError
from convclinic.history import read
from convclinic.job.display import Silent
from convclinic.job.fitting import fit, resume
from convclinic.job.run import Run
from convclinic.job.treating import TREATMENTS, Treatment, _gain
from convclinic.job.watching import Watcher
from convclinic.kinds import Finding
from convclinic.recipe import Recipe, scaled

CPU = torch.device("cpu")
HOT = ("optimise=sgd", "optimise.lr=1e8", "normalise=none", "run.steps=120", "run.evaluate_every=20")


@pytest.fixture(scope="module")
def data(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    source = open_source(bars)
    seen = survey(source, seed=0)
    return assemble(source, seen, (16, 16, 3), tmp_path_factory.mktemp("store"), seed=0)


def hot(data: Dataset) -> Recipe:
    recipe = tiny(steps=200, evaluate_every=20)
    return dataclasses.replace(recipe, optimise=scaled(recipe.optimise, 1000.0))


def test_a_watched_run_is_the_unwatched_one_bit_for_bit(bars: Path, tmp_path: Path) -> None:
    settings = (*TINY, "optimise=adamw", "optimise.lr=0.02", "run.steps=40", "run.evaluate_every=10")
    runs = [
        fit(bars, budget="60s", out=tmp_path / mode, quiet=True, settings=settings, clinic=mode)
        for mode in ("off", "watch")
    ]
    assert runs[0].history == runs[1].history
    a, b = (run.model.net.state_dict() for run in runs)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not (tmp_path / "off" / "clinic.json").exists()
    assert json.loads((tmp_path / "watch" / "clinic.json").read_text()) == []


def test_a_remedy_that_helps_is_kept_and_training_goes_on_from_it(data: Dataset, tmp_path: Path) -> None:
    recipe = hot(data)
    state = loop.start(recipe, data, CPU)
    treatment = Treatment(recipe, data, tmp_path, Silent())
    treatment.remember(recipe, state, None)
    arm = treatment.treat(recipe, state, [Finding("lr_too_high", "warning")])
    assert arm is not None
    assert arm.recipe.optimise.lr < recipe.optimise.lr
    assert arm.state.step == 20 and [record.step for record in arm.records] == list(range(1, 21))
    [*others, last] = json.loads((tmp_path / TREATMENTS).read_text())
    assert last["kept"] and last["nothing"] > last["remedy"]
    assert last["gain"] > 2 * last["error"] and not any(trial["kept"] for trial in others)


def test_nothing_is_tried_twice_and_what_does_not_help_is_reverted(data: Dataset, tmp_path: Path) -> None:
    recipe = tiny(steps=400, evaluate_every=20)
    state = loop.start(recipe, data, CPU)
    for _ in zip(range(60), loop.fit(recipe, data, state), strict=False):
        pass
    before = {name: value.clone() for name, value in state.net.state_dict().items()}
    treatment = Treatment(recipe, data, tmp_path, Silent())
    treatment.remember(recipe, state, None)
    harm = ("optimise.weight_decay=100.0", "net=unheard_of", "not an edit of a recipe")
    finding = Finding("underfitting", "warning", remedies=harm)
    assert treatment.treat(recipe, state, [finding]) is None
    tried = [trial.edit for trial in treatment.trials]
    assert tried == ["optimise.weight_decay=100.0"]
    assert Treatment(recipe, data, tmp_path, Silent()).treat(recipe, state, [finding]) is None
    rows = json.loads((tmp_path / TREATMENTS).read_text())
    assert len({row["edit"] for row in rows}) == len(rows)
    assert all(torch.equal(before[name], value) for name, value in state.net.state_dict().items())


def test_trials_take_a_bounded_share_of_the_run(data: Dataset, tmp_path: Path) -> None:
    recipe = tiny(steps=90, evaluate_every=20)
    treatment = Treatment(recipe, data, tmp_path, Silent())
    treatment.remember(recipe, loop.start(recipe, data, CPU), None)
    treatment.treat(recipe, loop.start(recipe, data, CPU), [Finding("lr_too_low", "warning")])
    assert sum(2 * trial.steps for trial in treatment.trials) <= 0.4 * 90 + 40


def test_a_gain_is_paired_and_no_number_is_worse_than_any() -> None:
    rng = np.random.default_rng(0)
    hard = rng.exponential(2.0, 200)  # images differ far more than the treatment helps
    gain, error = _gain(hard, hard - 0.1 + rng.normal(0, 0.05, 200))
    assert gain == pytest.approx(0.1, abs=0.02) and error < 0.01
    assert _gain(hard, np.full(200, np.inf))[0] == -np.inf
    assert _gain(np.full(200, np.inf), hard) == (np.inf, 0.0)


def test_the_clinic_knows_every_step_of_the_loop(data: Dataset, tmp_path: Path) -> None:
    recipe = tiny(steps=30, evaluate_every=10)
    state = loop.start(recipe, data, CPU)
    watcher = Watcher(recipe, data, state, tmp_path, Silent())
    for record in loop.fit(recipe, data, state):
        watcher.observe(record)
    signals = watcher.clinic.signals()
    loss, cross_entropy = signals.steps.known("loss", "cross_entropy")
    assert signals.observed == signals.updates == 30
    assert loss == pytest.approx(cross_entropy, rel=1e-4)
    assert len(signals.epochs) == 3 and signals.probes


def test_a_run_that_learns_nothing_is_treated_and_ends_no_worse(bars: Path, tmp_path: Path) -> None:
    settings = (*TINY, *HOT, "optimise.lr=100.0")
    hopeless = fit(bars, out=tmp_path / "off", quiet=True, settings=settings, clinic="off", force=True)
    treated = fit(bars, out=tmp_path / "treat", quiet=True, settings=settings, clinic="treat", force=True)
    trials = json.loads((tmp_path / "treat" / TREATMENTS).read_text())
    assert any(trial["kept"] for trial in trials)
    assert treated.metrics["validation"]["log_loss"] <= hopeless.metrics["validation"]["log_loss"]
    assert [record.step for record in read(tmp_path / "treat" / "history.jsonl")] == list(range(1, 121))


def test_a_net_that_is_no_numbers_is_no_result(bars: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvclinicError, match="broke down"):
        fit(bars, out=tmp_path, quiet=True, settings=(*TINY, *HOT), clinic="off", force=True)


def test_an_unknown_mode_is_refused(bars: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvclinicError, match="no clinic mode 'heal'"):
        fit(bars, out=tmp_path / "run", quiet=True, clinic="heal")
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_keeps_its_mode(finished: Run, tmp_path: Path) -> None:
    assert json.loads((finished.path / "recipe.json").read_text())["clinic"] == "watch"
    with pytest.raises(ConvclinicError, match="is finished"):
        resume(finished.path, quiet=True)
