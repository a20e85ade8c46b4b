"""Cross-validation of whole runs: plan, folds, resume, results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from making import TINY
from typer.testing import CliRunner

from convclinic.cli import build
from convclinic.data.dataset import reopen
from convclinic.ground.errors import ConvclinicError
from convclinic.job.crossvalidating import CrossValidated, crossval

SHORT = (*TINY, "run.steps=20", "run.evaluate_every=10")


@pytest.fixture(scope="module")
def done(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> CrossValidated:
    out = tmp_path_factory.mktemp("crossval") / "out"
    return crossval(bars, n_folds=3, budget="60s", out=out, settings=SHORT, quiet=True)


def test_every_image_is_tested_once_by_a_run_of_its_own(done: CrossValidated) -> None:
    data = reopen(done.folder)
    tested = np.concatenate([reopen(run.path).indices("test") for run in done.runs])
    assert sorted(tested.tolist()) == list(range(len(data.labels)))
    assert done.together.matrix.sum() == len(data.labels)
    for run in done.runs:
        own = reopen(run.path)
        assert own.profile.n_train + own.profile.n_validation + own.profile.n_test == len(data.labels)
        assert sum(own.profile.class_counts.values()) == own.profile.n_train
        assert (run.path / "report.html").exists() and run.predict(Path(data.source) / data.names[0])
    mean = float(np.mean([run.metrics["test"]["accuracy"] for run in done.runs]))
    assert done.together.accuracy == pytest.approx(mean)


def test_all_folds_follow_one_recipe(done: CrossValidated) -> None:
    assert len({run.recipe.hash() for run in done.runs}) == 1
    assert json.loads((done.runs[0].path / "recipe.json").read_text())["clinic"] == "watch"
    assert done.runs[0].recipe.run.steps == 20


def test_the_same_call_goes_on_and_repeats_nothing(bars: Path, done: CrossValidated) -> None:
    stamps = {run.path: (run.path / "model.safetensors").stat().st_mtime_ns for run in done.runs}
    again = crossval(bars, n_folds=3, budget="60s", out=done.folder, settings=SHORT, quiet=True)
    assert again.together.accuracies == done.together.accuracies
    assert {p: (p / "model.safetensors").stat().st_mtime_ns for p in stamps} == stamps


def test_a_fold_that_was_cut_short_goes_on_to_the_same_weights(
    bars: Path, done: CrossValidated, tmp_path: Path
) -> None:
    out = tmp_path / "cut"
    shutil.copytree(done.folder, out)
    before = (out / "fold-1" / "model.safetensors").read_bytes()
    for name in ("report.html", "metrics.json", "result.json", "model.safetensors", "checkpoint.safetensors"):
        (out / "fold-1" / name).unlink()
    again = crossval(bars, n_folds=3, out=out, settings=SHORT, quiet=True)
    assert (out / "fold-1" / "model.safetensors").read_bytes() == before
    assert again.together.accuracies == done.together.accuracies


def test_two_at_once_test_the_same_images_by_the_same_recipe(
    bars: Path, done: CrossValidated, tmp_path: Path
) -> None:
    both = crossval(bars, n_folds=3, out=tmp_path / "both", recipe=done.runs[0].recipe, workers=2, quiet=True)
    for one, other in zip(both.runs, done.runs, strict=True):
        assert one.recipe == other.recipe
        assert (reopen(one.path).splits == reopen(other.path).splits).all()
    assert both.together.matrix.sum() == done.together.matrix.sum()


def test_other_settings_and_foreign_folders_are_refused(
    bars: Path, done: CrossValidated, tmp_path: Path
) -> None:
    with pytest.raises(ConvclinicError, match="other settings"):
        crossval(bars, n_folds=4, out=done.folder, settings=SHORT, quiet=True)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ConvclinicError, match="not empty"):
        crossval(bars, n_folds=3, out=tmp_path, settings=SHORT, quiet=True)
    with pytest.raises(ConvclinicError, match="at least 3"):
        crossval(bars, n_folds=2, out=tmp_path / "two", settings=SHORT, quiet=True)


def test_the_command_goes_on_and_says_what_the_folds_reach(bars: Path, done: CrossValidated) -> None:
    settings = [word for setting in SHORT for word in ("--set", setting)]
    words = ["crossval", str(bars), "--folds", "3", "--out", str(done.folder), "--quiet", *settings]
    result = CliRunner().invoke(build(), words)
    assert result.exit_code == 0, result.output
    assert "each tested once" in result.output and "recall" in result.output
    again = CliRunner().invoke(build(), [*words, "--json"])
    assert json.loads(again.stdout)["accuracy"] == pytest.approx(done.together.accuracy)


def test_a_fold_that_fails_is_named(bars: Path, tmp_path: Path) -> None:
    hot = ("optimise=sgd", "optimise.lr=1e8", "normalise=none")
    with pytest.raises(ConvclinicError, match=r"fold-\d failed: training broke down"):
        crossval(bars, n_folds=3, out=tmp_path / "hot", settings=(*SHORT, *hot), quiet=True)
