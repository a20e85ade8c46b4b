"""The folds of a cross-validation as one model, and what can honestly be said of it."""

from __future__ import annotations

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
from convclinic.job.ensembled import Ensembled
from convclinic.job.ensembling import ensemble
from convclinic.job.run import Run
from convclinic.joint import Ensemble
from convclinic.model_file import load


@pytest.fixture(scope="module")
def folds(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> CrossValidated:
    out = tmp_path_factory.mktemp("folds") / "out"
    settings = (*TINY, "run.steps=60", "run.evaluate_every=20")
    return crossval(bars, n_folds=3, budget="60s", out=out, settings=settings, quiet=True, workers=1)


@pytest.fixture(scope="module")
def done(folds: CrossValidated, tmp_path_factory: pytest.TempPathFactory) -> Ensembled:
    return ensemble([folds.folder], out=tmp_path_factory.mktemp("joined") / "out", quiet=True)


def test_the_file_answers_with_the_mean_of_all_folds(folds: CrossValidated, done: Ensembled) -> None:
    model = load(done.run.path)
    assert isinstance(model, Ensemble) and model.weights == pytest.approx((1 / 3,) * 3)
    images = reopen(folds.folder).images(np.arange(10))
    members = [load(run.path) for run in folds.runs]
    mean = np.mean([one.probabilities(one.logits(images)) for one in members], axis=0)
    np.testing.assert_allclose(np.exp(model.logits(images)), mean, atol=1e-5)


def test_what_is_told_are_the_folds_own_tests(folds: CrossValidated, done: Ensembled) -> None:
    assert done.facts["expected_accuracy"] == pytest.approx(folds.together.accuracy)
    assert "gain" not in done.facts and "validation_log_loss" not in done.facts
    assert [one["test"] for one in done.facts["members"]] == list(folds.together.accuracies)
    metrics = done.run.metrics
    assert metrics["test"]["accuracy"] == pytest.approx(folds.together.accuracy)
    assert metrics["test"]["accuracy_interval"] == list(folds.together.interval)
    assert metrics["test"]["confusion"] == folds.together.matrix.tolist()
    assert metrics["validation"]["n"] == metrics["test"]["n"] == 80
    validated = sum(np.array(run.metrics["validation"]["confusion"]) for run in folds.runs)
    assert metrics["validation"]["confusion"] == validated.tolist()
    assert set(reopen(done.run.path).splits) == {0}, "no image is untouched"
    beside = [run.metrics["baselines"]["linear_probe"]["accuracy"] for run in folds.runs]
    assert metrics["baselines"]["linear_probe"]["accuracy"] == pytest.approx(np.mean(beside))


def test_the_command_and_the_report_say_so(folds: CrossValidated, done: Ensembled, tmp_path: Path) -> None:
    words = ["ensemble", str(folds.folder), "--method", "mean", "--out", str(tmp_path / "e"), "--quiet"]
    answer = CliRunner().invoke(build(), words)
    assert answer.exit_code == 0, answer.output
    assert "mean: expected accuracy" in answer.output and "not measured" in answer.output
    page = done.run.report().read_text()
    assert "These are single folds: no image is untouched by all folds" in page
    assert "Expected accuracy" in page and "points beside" not in page


def test_every_verb_takes_it(bars: Path, folds: CrossValidated, done: Ensembled) -> None:
    photo = bars / "lying" / "000.png"
    (answer,) = done.run.predict(photo)
    each = [run.predict(photo)[0].probabilities or {} for run in folds.runs]
    mean = {label: float(np.mean([one[label] for one in each])) for label in ("lying", "standing")}
    assert max(mean.values()) > 0.6, "nets that learnt nothing would show nothing"
    assert answer.probabilities == pytest.approx(mean, abs=1e-4)
    assert answer.best == max(mean, key=lambda label: mean[label])
    answers = [one.best for one in done.run.predict(bars)]
    names = [Path(one.path).parent.name for one in done.run.predict(bars)]
    right = np.mean([given == name for given, name in zip(answers, names, strict=True)])
    evaluated = done.run.evaluate(bars)
    assert evaluated["n"] == 80 and evaluated["accuracy"] == pytest.approx(right)


def test_nothing_is_chosen_and_nothing_left_of_a_refusal(
    folds: CrossValidated, done: Ensembled, finished: Run, tmp_path: Path
) -> None:
    with pytest.raises(ConvclinicError, match=r"'greedy' could be chosen on .*--members 5"):
        ensemble([folds.folder], method="greedy", out=tmp_path / "a", quiet=True)
    with pytest.raises(ConvclinicError, match="its folds"):
        ensemble([folds.folder], members=5, out=tmp_path / "b", quiet=True)
    with pytest.raises(ConvclinicError, match="no validation images"):
        ensemble([done.run.path, done.run.path], out=tmp_path / "c", quiet=True)
    cut = tmp_path / "cut"
    shutil.copytree(folds.folder, cut, ignore=shutil.ignore_patterns("result.json"))
    with pytest.raises(ConvclinicError, match="is not finished"):
        ensemble([cut], out=tmp_path / "d", quiet=True)
    assert not [name for name in "abcd" if (tmp_path / name).exists()]
