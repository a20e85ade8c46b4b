"""The clinic inside a run: it watches without a trace, and a remedy is kept only where it helps."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import TINY
from sklearn.datasets import load_digits
from tiny import recipe as tiny

from convclinic import loop
from convclinic.clinic.remedies import candidates
from convclinic.data.dataset import Dataset, assemble
from convclinic.data.intake import survey
from convclinic.data.sources import open_source
from convclinic.ground.errors import ConvclinicError
from convclinic.history import read
from convclinic.job import snapshots, training, treating
from convclinic.job.display import Silent
from convclinic.job.fitting import fit, resume
from convclinic.job.run import Run
from convclinic.job.training import Interrupted, train
from convclinic.job.treating import OPEN, TREATMENTS, Treatment
from convclinic.job.trials import gain
from convclinic.job.watching import CLINIC, Watcher, batch_names
from convclinic.kinds import Evidence, Finding
from convclinic.model_file import load
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


def treatment_of(recipe: Recipe, data: Dataset, folder: Path, state: loop.State) -> Treatment:
    treatment = Treatment(recipe, data, folder, Silent())
    treatment.go_on(recipe, state, [])
    return treatment


def spoilt(recipe: Recipe, factor: float) -> Recipe:
    return dataclasses.replace(recipe, optimise=scaled(recipe.optimise, factor))


def after(recipe: Recipe, data: Dataset, steps: int) -> loop.State:
    state = loop.start(recipe, data, CPU)
    for _ in zip(range(steps), loop.fit(recipe, data, state), strict=False):
        pass
    return state


def test_the_best_remedy_is_kept_and_training_goes_on_from_it(data: Dataset, tmp_path: Path) -> None:
    recipe = hot(data)
    state = loop.start(recipe, data, CPU)
    treatment = treatment_of(recipe, data, tmp_path, state)
    arm = treatment.treat(recipe, state, [Finding("lr_too_high", "warning")])
    assert arm is not None
    assert arm.recipe.optimise.lr < recipe.optimise.lr
    assert arm.state.step == 30 and [record.step for record in arm.records] == list(range(1, 31))
    trials = json.loads((tmp_path / TREATMENTS).read_text())
    [kept] = [trial for trial in trials if trial["kept"]]
    rivals = sorted(trials, key=lambda trial: trial["remedy"])[:2]
    assert len(trials) > 1 and kept in rivals and {trial["until"] for trial in rivals} == {30}
    assert all(trial["until"] == trial["steps"] == 10 for trial in trials if trial not in rivals)
    assert kept["nothing"] > kept["remedy"] and kept["gain"] > 2 * kept["error"]
    treatment.follow(arm.recipe, arm.state)
    assert treatment.words == f" | treated: {kept['edit']}"
    assert [path.name for path in tmp_path.glob("good-*")] == ["good-1.safetensors"]


def test_nothing_is_tried_twice_and_what_does_not_help_is_reverted(data: Dataset, tmp_path: Path) -> None:
    recipe = tiny(steps=400, evaluate_every=20)
    state = after(recipe, data, 60)
    before = {name: value.clone() for name, value in state.net.state_dict().items()}
    treatment = treatment_of(recipe, data, tmp_path, state)
    harm = ("optimise.weight_decay=100.0", "net=unheard_of", "not an edit of a recipe")
    finding = Finding("underfitting", "warning", remedies=harm)
    assert treatment.treat(recipe, state, [finding]) is None
    assert [trial.edit for trial in treatment.trials] == ["optimise.weight_decay=100.0"]
    assert treatment_of(recipe, data, tmp_path, state).treat(recipe, state, [finding]) is None
    rows = json.loads((tmp_path / TREATMENTS).read_text())
    assert len(rows) == 1 and not rows[0]["kept"] and rows[0]["cost"] > 0
    assert all(torch.equal(before[name], value) for name, value in state.net.state_dict().items())


def test_after_a_cause_that_was_misnamed_the_next_finding_is_followed(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(treating, "suspects", lambda recipe, data: [])
    recipe = tiny(steps=400, evaluate_every=20).override(["regularise.dropout.p=0.99"])
    state = after(recipe, data, 40)
    treatment = treatment_of(recipe, data, tmp_path, state)
    wrong = Finding("underfitting", "warning", remedies=("optimise.weight_decay=1e30",))
    arm = treatment.treat(recipe, state, [wrong, Finding("over_regularised", "warning")])
    assert arm is not None and not arm.recipe.regularise
    assert [(t.cause, t.kept) for t in treatment.trials[:2]] == [
        ("underfitting", False),
        ("over_regularised", True),
    ]


def test_a_setting_that_nobody_uses_is_tried_otherwise_before_any_alarm(
    data: Dataset, tmp_path: Path
) -> None:
    recipe = tiny(steps=400, evaluate_every=20).override(["regularise.dropout.p=0.99"])
    state = after(recipe, data, 20)
    treatment = treatment_of(recipe, data, tmp_path, state)
    assert not treatment.unasked(recipe, state, None), "validations alone are looked at"
    assert not treatment.unasked(tiny(steps=400), state, 0.1)
    state = after(recipe, data, 40)
    assert treatment.unasked(recipe, state, 0.1)
    assert not treatment.unasked(tiny(steps=400), state, 0.9), "a net may begin slowly"
    arm = treatment.treat(recipe, state, [])
    assert arm is not None and arm.recipe.regularise != recipe.regularise
    state = after(tiny(steps=400), data, 140)
    assert treatment.unasked(tiny(steps=400), state, 0.69)
    assert not treatment.unasked(tiny(steps=400), state, 0.5)


def test_a_net_that_has_learnt_nothing_begins_again_and_one_that_has_does_not(
    data: Dataset, tmp_path: Path
) -> None:
    finding = [Finding("lr_too_high", "warning")]
    (tmp_path / "dead").mkdir()
    recipe = spoilt(tiny(steps=400, evaluate_every=20), 1e5)
    state = after(recipe, data, 30)
    dead = treatment_of(recipe, data, tmp_path / "dead", state)
    arm = dead.treat(recipe, state, finding)
    assert arm is not None and arm.records[0].step == 1
    recipe = tiny(steps=400, evaluate_every=20)
    state = after(recipe, data, 60)
    well = treatment_of(recipe, data, tmp_path, state)
    well.treat(recipe, state, finding)
    assert not well.trials, "a lower LR looks better for a while wherever a net learns"
    well.treat(recipe, state, [Finding("underfitting", "warning", remedies=("optimise.weight_decay=0.1",))])
    assert well.trials and {trial.since for trial in well.trials} == {60}


def test_all_that_is_thrown_away_stays_within_half_a_training(data: Dataset, tmp_path: Path) -> None:
    recipe = spoilt(tiny(steps=100, evaluate_every=20), 1e-6)
    state = after(recipe, data, 50)
    treatment = treatment_of(recipe, data, tmp_path, state)
    causes = ("lr_too_high", "dead_relu", "plateau", "lr_too_low")
    arm = treatment.treat(recipe, state, [Finding(cause, "warning") for cause in causes])
    assert treatment.trials and sum(trial.cost for trial in treatment.trials) <= 0.5 + 1e-9
    if arm is not None and arm.records[0].step == 1:
        assert arm.recipe.total_steps <= 100, "a late start from fresh weights is a shorter one"


def test_a_batch_of_another_size_sees_as_many_images(data: Dataset) -> None:
    recipe = tiny(steps=80, batch_size=2, evaluate_every=16)
    [remedy, *_] = candidates(Finding("batch_too_small", "warning"), recipe)
    assert remedy.afresh and remedy.recipe.run.batch_size == 32
    assert remedy.recipe.total_steps == 5 and remedy.recipe.run.evaluate_every == 1


def test_the_rate_is_told_from_the_size_of_the_updates() -> None:
    evidence = (Evidence("largest update-to-weight ratio", 3000.0, "below 0.3"),)
    [first, *_] = candidates(Finding("lr_too_high", "warning", evidence=evidence), tiny())
    assert first.edit == "LR times 1e-05"
    [first, *_] = candidates(Finding("lr_too_high", "warning"), tiny())
    assert first.edit == "LR times 0.1"


def test_a_gain_is_paired_and_no_number_is_worse_than_any() -> None:
    rng = np.random.default_rng(0)
    hard = rng.exponential(2.0, 200)  # images differ far more than the treatment helps
    saved, error = gain(hard, hard - 0.1 + rng.normal(0, 0.05, 200))
    assert saved == pytest.approx(0.1, abs=0.02) and error < 0.01
    assert gain(hard, np.full(200, np.inf))[0] == -np.inf
    assert gain(np.full(200, np.inf), hard) == (np.inf, 0.0)


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


def test_a_run_that_learns_nothing_is_treated_and_ends_no_worse(tmp_path: Path) -> None:
    digits = load_digits()
    path = tmp_path / "digits.npz"
    np.savez(path, x_train=(digits.images[:900] * 15.9).astype(np.uint8), y_train=digits.target[:900])
    hot = ("normalise=batch_norm", "optimise.lr=1000.0", "run.precision=float32")  # else no numbers are left
    settings = (*TINY, *HOT, *hot, "run.steps=200")
    hopeless = fit(path, out=tmp_path / "off", quiet=True, settings=settings, clinic="off", force=True)
    treated = fit(path, out=tmp_path / "treat", quiet=True, settings=settings, clinic="treat", force=True)
    trials = json.loads((tmp_path / "treat" / TREATMENTS).read_text())
    assert any(trial["kept"] for trial in trials)
    accuracies = [run.metrics["validation"]["accuracy"] for run in (treated, hopeless)]
    assert accuracies[0] >= accuracies[1] + 0.2
    assert [record.step for record in read(tmp_path / "treat" / "history.jsonl")] == list(
        range(1, treated.recipe.total_steps + 1)
    )


def test_values_that_are_no_numbers_are_named_with_tensor_step_and_images(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        ConvclinicError, match=r"(?s)broke down.*step \d+.*images of that batch: .*\.png"
    ) as error:
        fit(bars, out=tmp_path, settings=(*TINY, *HOT), clinic="watch", force=True)
    assert "--clinic treat" in (error.value.fix or "")
    said = capsys.readouterr().err.replace("\n", " ")
    assert "images of that batch" in said
    [finding] = [f for f in json.loads((tmp_path / CLINIC).read_text()) if f["severity"] == "critical"]
    assert len(finding["examples"]) == 16 and all(name.endswith(".png") for name in finding["examples"])
    records = read(tmp_path / "history.jsonl")
    assert records and not math.isfinite(records[-1].loss), "nothing is trained on after it"
    with pytest.raises(ConvclinicError, match="broke down"):
        resume(tmp_path, quiet=True)


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the tiny recipe's rate or above, update 46 leaves weights that are no numbers."""
    step = loop._step

    def broken(recipe: Recipe, batch: Any, state: loop.State, terms: Any) -> Any:
        result = step(recipe, batch, state, terms)
        if state.step == 45 and recipe.optimise.lr >= tiny().optimise.lr:
            next(state.net.groups.parameters()).data.fill_(math.nan)
        return result

    monkeypatch.setattr(loop, "_step", broken)


@pytest.mark.usefixtures("breaking")
def test_weights_of_an_earlier_validation_are_not_lost(data: Dataset, tmp_path: Path) -> None:
    recipe = tiny(steps=80, evaluate_every=10)
    state = train(recipe, data, tmp_path, CPU, Silent(), None, "watch")[1]
    assert state.best is not None and state.best_step <= 40 and state.step == 47
    assert all(bool(torch.isfinite(value).all()) for value in state.best.values())


def test_the_images_named_are_those_of_the_step(data: Dataset) -> None:
    recipe = tiny(steps=40, batch_size=16, evaluate_every=100)
    state = loop.start(recipe, data, CPU)
    given: list[np.ndarray] = []

    class Spied(Dataset):
        def images(self, positions: np.ndarray) -> np.ndarray:
            given.append(positions)
            return super().images(positions)

    spied = Spied(**vars(data))
    for record in loop.fit(recipe, spied, state):
        if record.step == 17:
            break
    wanted = given[16].tolist()
    assert batch_names(recipe, data, 17) == tuple(data.names[i] for i in wanted)


@pytest.mark.usefixtures("breaking")
def test_a_run_of_no_numbers_goes_back_and_goes_on(data: Dataset, tmp_path: Path) -> None:
    recipe = tiny(steps=80, evaluate_every=20)
    changed, state = train(recipe, data, tmp_path, CPU, Silent(), None, "treat")
    trials = json.loads((tmp_path / TREATMENTS).read_text())
    kept = [trial for trial in trials if trial["kept"]]
    assert kept and kept[0]["nothing"] is None and kept[0]["at"] == 47
    assert kept[0]["since"] in (20, 40), "back to the last good checkpoint"
    assert len({trial["changed"] for trial in trials}) == len(trials), "never the same thing again"
    assert changed.optimise.lr < recipe.optimise.lr and state.step == changed.total_steps
    assert all(bool(torch.isfinite(p.detach()).all()) for p in state.net.parameters())


@pytest.mark.usefixtures("breaking")
def test_snapshots_are_of_the_course_that_was_kept(data: Dataset, tmp_path: Path) -> None:
    recipe = tiny(steps=80, evaluate_every=20).override(["run.snapshots=16"])
    changed, _ = train(recipe, data, tmp_path, CPU, Silent(), None, "treat")
    since = next(row["since"] for row in json.loads((tmp_path / TREATMENTS).read_text()) if row["kept"])
    kept = {int(path.stem): load(path) for path in snapshots.found(tmp_path)}
    assert set(kept) >= {1, 4, 16} and kept[16].facts["step"] == changed.total_steps
    for model in kept.values():
        course = changed if model.facts["step"] > since else recipe
        assert model.recipe.optimise.lr == course.optimise.lr, "none is of what was gone back over"


def went_on(recipe: Recipe, data: Dataset, folder: Path) -> tuple[Recipe, loop.State]:
    """As a resume does: from the recipe that the run folder holds."""
    path = folder / "recipe.json"
    held = Recipe.from_dict(json.loads(path.read_text())["recipe"]) if path.exists() else recipe
    return train(held, data, folder, CPU, Silent(), None, "treat")


def weights(state: loop.State) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in state.net.parameters()])


@pytest.mark.parametrize("trial", [1, 2, 3])
def test_a_run_stopped_in_a_treatment_ends_with_the_same_weights(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: int
) -> None:
    recipe = spoilt(tiny(steps=120, evaluate_every=20), 1e4)
    (tmp_path / "cut").mkdir()
    (tmp_path / "whole").mkdir()
    whole, state = train(recipe, data, tmp_path / "whole", CPU, Silent(), None, "treat")
    trained, left = Treatment._trained, trial

    def killed(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt
        return trained(*arguments)

    monkeypatch.setattr(Treatment, "_trained", killed)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path / "cut", CPU, Silent(), None, "treat")
    assert (tmp_path / "cut" / OPEN).exists()
    monkeypatch.undo()
    again, resumed = went_on(recipe, data, tmp_path / "cut")
    assert again == whole and torch.equal(weights(resumed), weights(state))
    for name in (TREATMENTS, "history.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "cut" / OPEN).exists()


@pytest.mark.parametrize("place", ["freeze", "follow"])
def test_a_run_stopped_while_a_remedy_is_taken_over_ends_with_the_same_weights(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    recipe = spoilt(tiny(steps=120, evaluate_every=20), 1e4)
    (tmp_path / "cut").mkdir()
    (tmp_path / "whole").mkdir()
    whole, state = train(recipe, data, tmp_path / "whole", CPU, Silent(), None, "treat")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    owner: Any = training if place == "freeze" else Treatment
    monkeypatch.setattr(owner, place, killed)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path / "cut", CPU, Silent(), None, "treat")
    monkeypatch.undo()
    again, resumed = went_on(recipe, data, tmp_path / "cut")
    assert again == whole and torch.equal(weights(resumed), weights(state))


def test_a_run_stopped_after_a_treatment_ends_with_the_same_weights(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = spoilt(tiny(steps=120, evaluate_every=20), 1e4)
    (tmp_path / "cut").mkdir()
    (tmp_path / "whole").mkdir()
    whole, state = train(recipe, data, tmp_path / "whole", CPU, Silent(), None, "treat")

    class Stopping(Silent):
        def update(self, done: float, total: float, text: str = "", left: float | None = None) -> None:
            if "treated: " in text and done == 47:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path / "cut", CPU, Stopping(), None, "treat")
    again, resumed = went_on(recipe, data, tmp_path / "cut")
    assert again == whole and torch.equal(weights(resumed), weights(state))
    histories = [(tmp_path / name / "history.jsonl").read_bytes() for name in ("whole", "cut")]
    assert histories[0] == histories[1]


def test_ctrl_c_ends_a_trial(data: Dataset, tmp_path: Path) -> None:
    recipe = hot(data)
    state = loop.start(recipe, data, CPU)
    treatment = treatment_of(recipe, data, tmp_path, state)

    def stop() -> None:
        raise Interrupted("stopped")

    treatment.check = stop
    with pytest.raises(Interrupted):
        treatment.treat(recipe, state, [Finding("lr_too_high", "warning")])
    assert (tmp_path / OPEN).exists() and not (tmp_path / TREATMENTS).exists()


def test_a_net_that_is_no_numbers_is_no_result(bars: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvclinicError, match="broke down"):
        fit(bars, out=tmp_path, quiet=True, settings=(*TINY, *HOT), clinic="off", force=True)


def test_a_run_that_was_treated_in_vain_is_not_told_to_be_treated(tmp_path: Path) -> None:
    assert "--clinic treat" in (training.broken_down("it burst", tmp_path, "watch").fix or "")
    error = training.broken_down("it burst", tmp_path, "treat")
    assert "it burst" in str(error) and "--clinic" not in (error.fix or "")


def test_an_unknown_mode_is_refused(bars: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvclinicError, match="no clinic mode 'heal'"):
        fit(bars, out=tmp_path / "run", quiet=True, clinic="heal")
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_keeps_its_mode(finished: Run, tmp_path: Path) -> None:
    assert json.loads((finished.path / "recipe.json").read_text())["clinic"] == "watch"
    with pytest.raises(ConvclinicError, match="is finished"):
        resume(finished.path, quiet=True)
