"""Sets of weights kept on the way of one training: when, which, and that a stop changes nothing of them."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from making import TINY
from safetensors.torch import load_file

from convclinic import loop
from convclinic.data.dataset import reopen
from convclinic.evaluate import split_logits
from convclinic.ground.errors import ConvclinicError
from convclinic.job import folder as place
from convclinic.job import snapshots, training
from convclinic.job.ensembling import ensemble
from convclinic.job.fitting import fit, resume
from convclinic.job.run import Run
from convclinic.model import Model
from convclinic.model_file import load
from convclinic.recipe import Recipe

CYCLES = (
    *TINY,
    "run.steps=26",
    "run.evaluate_every=10",
    "run.snapshots=4",
    "schedule=cyclic_cosine",
    "schedule.cycles=4",
    "average=ema",
)


class Killed(BaseException):
    """Nothing catches it."""


@pytest.fixture(scope="module")
def whole(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(bars, out=tmp_path_factory.mktemp("snapshots") / "run", quiet=True, settings=CYCLES)


def contents(run: Path) -> list[bytes]:
    return [path.read_bytes() for path in snapshots.found(run)]


def test_they_are_kept_at_the_ends_of_the_cycles(whole: Run) -> None:
    found = snapshots.found(whole.path)
    assert [path.name for path in found] == [f"{k}.safetensors" for k in (1, 2, 3, 4)]
    steps = [load(path).facts["step"] for path in found]
    assert steps == [7, 13, 20, 26]  # the first steps at 1/4, 2/4, 3/4 and all of 26
    lrs = [record.lr for record in whole.history]
    assert all(lrs[step] > 2 * lrs[step - 1] for step in steps[:-1]), "the LR starts anew after each"
    assert [lr for k, lr in enumerate(lrs) if k in (0, 7, 13, 20)] == pytest.approx(
        [lrs[0] * whole.recipe.lr_factor(whole.recipe.progress(k)) for k in (0, 7, 13, 20)]
    )


def test_they_hold_the_judged_weights_and_say_what_they_reach(whole: Run) -> None:
    data = reopen(whole.path)
    last = load(snapshots.found(whole.path)[-1])
    saved = load_file(whole.path / place.CHECKPOINT)
    for name, value in last.net.state_dict().items():
        assert torch.equal(value, saved[f"averaged.{name}"]), name
    logits, labels = split_logits(last, data, "validation")
    assert last.facts["validation_accuracy"] == float((logits.argmax(1) == labels).mean())
    assert last.facts["temperature"] > 0


@pytest.mark.parametrize("after", ["snapshot", "checkpoint"])
def test_a_kill_and_a_resume_leave_the_same(
    bars: Path, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """Killed between a snapshot and the checkpoint of its step, or some steps later."""
    run = tmp_path / "run"
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    save = training.saving.save

    def stop(state: loop.State, recipe: Recipe, path: Path) -> None:
        if state.step == (13 if after == "snapshot" else 17):
            raise Killed
        save(state, recipe, path)

    monkeypatch.setattr(training.saving, "save", stop)
    with pytest.raises(Killed):
        fit(bars, out=run, quiet=True, recipe=whole.recipe)
    monkeypatch.setattr(training.saving, "save", save)
    assert len(snapshots.found(run)) == 2
    forgotten: list[int] = []
    forget = snapshots.forget
    monkeypatch.setattr(snapshots, "forget", lambda f, n: (forgotten.append(n), forget(f, n)))
    resume(run, quiet=True)
    assert forgotten == [1 if after == "snapshot" else 2], "what lies behind the checkpoint is made anew"
    assert contents(run) == contents(whole.path)
    assert (run / place.MODEL).read_bytes() == (whole.path / place.MODEL).read_bytes()


def test_an_extended_run_makes_those_of_its_second_half_anew(whole: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole.path, run)
    before = contents(run)
    done = resume(run, extend="1s", quiet=True)
    after = contents(run)
    assert len(after) == 4 and after[:2] == before[:2]
    assert after[2] != before[2] and after[3] != before[3]
    assert load(snapshots.found(run)[3]).facts["step"] == done.recipe.total_steps > 26


def test_none_are_kept_unless_asked_for(finished: Run) -> None:
    assert not (finished.path / snapshots.FOLDER).exists()
    assert Recipe().override(["run.snapshots=3"]).hash() != Recipe().hash()
    with pytest.raises(ConvclinicError, match=r"run\.snapshots must be at least 0"):
        Recipe().override(["run.snapshots=-1"])


def test_due_by_progress_whatever_bends_the_schedule() -> None:
    recipe = Recipe().override(["run.steps=10", "run.snapshots=5"])
    assert [recipe.snapshots_by(step) for step in range(11)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    bent = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, rescheduled=((4, 0.4, 16),)))
    assert [bent.snapshots_by(step) for step in (4, 7, 8, 11, 12, 15, 16)] == [2, 2, 3, 3, 4, 4, 5]
    for n in range(1, 30):  # no rounding loses one
        many = recipe.override([f"run.snapshots={n}", f"run.steps={7 * n}"])
        assert [many.snapshots_by(7 * k) for k in range(n + 1)] == list(range(n + 1))


def test_blocks_of_records_end_where_one_is_due(whole: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where scalars are fetched in blocks, a state can be saved at the end of a block only."""
    data, recipe = reopen(whole.path), whole.recipe.override(["run.evaluate_every=10"])
    state = loop.start(recipe, data, torch.device("cpu"))
    monkeypatch.setattr(loop, "_fetch_every", lambda _: 100)
    ends = [record.step for record in loop.fit(recipe, data, state) if record.step == state.step]
    assert ends == [7, 10, 13, 20, 26]


def test_weights_that_are_no_numbers_are_not_kept(whole: Run, tmp_path: Path) -> None:
    data, recipe = reopen(whole.path), whole.recipe
    state = loop.start(recipe, data, torch.device("cpu"))
    state.step = 7
    with torch.no_grad():
        next(iter(state.judged.parameters())).fill_(float("nan"))
    assert snapshots.keep(recipe, data, state, tmp_path, 6) == 7
    assert snapshots.found(tmp_path) == []


def test_an_ensemble_of_one_run_joins_its_snapshots(bars: Path, whole: Run, tmp_path: Path) -> None:
    done = ensemble([whole.path], method="mean", out=tmp_path / "out", quiet=True)
    found = snapshots.found(whole.path)
    assert [one["run"] for one in done.facts["members"]] == [str(path) for path in found]
    data = reopen(whole.path)
    images = data.images(data.indices("test"))
    members = [load(path) for path in found]
    mean = np.mean([one.probabilities(one.logits(images)) for one in members], axis=0)
    np.testing.assert_allclose(np.exp(load(done.run.path).logits(images)), mean, atol=1e-5)
    for one, model in zip(done.facts["members"], members, strict=True):
        right = model.logits(images).argmax(1) == data.labels[data.indices("test")]
        assert one["test"] == pytest.approx(right.mean())
    assert "snapshots" in (done.run.path / "report.html").read_text()
    assert done.run.evaluate(bars)["n"] == 80


@pytest.mark.parametrize("method", ["soup", "auto"])
def test_every_other_way_takes_them_too(whole: Run, tmp_path: Path, method: str) -> None:
    done = ensemble([whole.path], method=method, out=tmp_path / "out", quiet=True)
    assert len(done.facts["members"]) == 4
    assert isinstance(load(done.run.path), Model)


def test_a_run_without_any_is_told_how_to_get_them(finished: Run, whole: Run, tmp_path: Path) -> None:
    with pytest.raises(ConvclinicError, match=r"two snapshots; here are 0.*run\.snapshots=5"):
        ensemble([finished.path], out=tmp_path / "a", quiet=True)
    with pytest.raises(ConvclinicError, match=r"stacking .* snapshots have one in common"):
        ensemble([whole.path], method="stack", out=tmp_path / "b", quiet=True)
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_an_ensemble_is_no_ingredient_of_a_soup(whole: Run, tmp_path: Path) -> None:
    joint = ensemble([whole.path], method="mean", out=tmp_path / "joint", quiet=True)
    with pytest.raises(ConvclinicError, match="a soup needs nets of one recipe"):
        ensemble([whole.path, joint.run.path], method="soup", out=tmp_path / "soup", quiet=True)
