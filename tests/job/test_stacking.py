"""Stacking: the recipes are trained once more on folds, and a classifier learns from what those nets say."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from making import TINY
from typer.testing import CliRunner

from convclinic.cli import build
from convclinic.data.dataset import divide, reopen
from convclinic.ground.errors import ConvclinicError
from convclinic.heads import fit_head
from convclinic.job import folder as place
from convclinic.job.ensembled import Ensembled
from convclinic.job.ensembling import ensemble
from convclinic.job.fitting import fit
from convclinic.job.run import Run
from convclinic.joint import Ensemble
from convclinic.model_file import load


@pytest.fixture(scope="module")
def done(two: tuple[Run, Run], tmp_path_factory: pytest.TempPathFactory) -> Ensembled:
    out = tmp_path_factory.mktemp("stacked") / "out"
    paths = [run.path for run in two]
    return ensemble(paths, method="stack", folds=2, workers=1, out=out, quiet=True)


def parts(folder: Path) -> list[str]:
    with open(folder / "splits.csv") as file:
        return [row["split"] for row in csv.DictReader(file)]


def test_folds_are_tested_on_training_images_and_never_see_the_test_images(
    two: tuple[Run, Run], done: Ensembled
) -> None:
    whole = np.array(parts(two[0].path))
    folders = sorted(path for path in (done.run.path / "folds").iterdir() if path.is_dir())
    assert len(folders) == 4
    tested: Counter[int] = Counter()
    for folder in folders:
        own = np.array(parts(folder))
        assert ((own == "left out") == (whole == "test")).all()
        assert ((own == "validation") == (whole == "validation")).all()
        tested.update(np.flatnonzero(own == "test").tolist())
        assert Run(folder).metrics["test"]["n"] == (own == "test").sum()
    assert tested == Counter({int(i): 2 for i in np.flatnonzero(whole == "train")}), "once by each recipe"
    assert {Run(folder).recipe.net for folder in folders} == {run.recipe.net for run in two}


def test_the_classifier_learns_from_what_the_folds_say_and_reads_the_runs_themselves(
    two: tuple[Run, Run], done: Ensembled
) -> None:
    small, large = two
    data = reopen(large.path)
    train = data.indices("train")
    said = []
    for run in (large, small):  # as an ensemble has its members
        answers = np.empty((len(data.labels), 2))
        for fold in range(2):
            path = done.run.path / "folds" / f"{run.recipe.hash()}-{fold}-of-2"
            own, model = reopen(path), load(path)
            unseen = own.indices("test")
            answers[unseen] = model.probabilities(model.logits(own.images(unseen)))
        said.append(np.log(answers[train]).astype(np.float32))
    head = fit_head(
        "logistic", np.concatenate(said, 1), data.labels[train], 2, groups=place.groups(large.path)[train]
    )
    model = load(done.run.path)
    assert isinstance(model, Ensemble) and model.reads == "log_probabilities"
    np.testing.assert_allclose(model.head["weight"].numpy(), head.weight, atol=1e-5)
    for one, run in zip(model.members, (large, small), strict=True):
        name, value = next(iter(load(run.path).net.state_dict().items()))
        assert (one.net.state_dict()[name] == value).all()
    images = data.images(data.indices("test"))
    inputs = np.concatenate(model.inputs(images), 1)
    np.testing.assert_allclose(model.logits(images), head.logits(inputs), atol=1e-4)


def test_validation_tells_how_it_compares(done: Ensembled) -> None:
    assert set(done.facts["validation_log_loss"]) == {"mean", "greedy", "single", "stack"}
    assert done.facts["method"] == "stack" and done.facts["classifier"]["trained"] == 4
    assert sum(one["weight"] for one in done.facts["members"]) == pytest.approx(1.0)


def test_every_verb_takes_it(bars: Path, done: Ensembled) -> None:
    answer, *_ = done.run.predict(bars / "lying" / "000.png")
    assert answer.best in ("lying", "standing")
    assert done.run.evaluate(bars)["n"] == 80
    assert "nets trained for it: 4" in done.run.report().read_text()


def test_whoever_calls_again_trains_only_what_is_missing(
    two: tuple[Run, Run], done: Ensembled, tmp_path: Path
) -> None:
    """As after a kill: one fold done, one cut short, the joint model not there."""
    out = tmp_path / "out"
    shutil.copytree(done.run.path / "folds", out / "folds")
    first, second = sorted((out / "folds").iterdir())[:2]
    for name in ("result.json", "report.html", "metrics.json", "model.safetensors"):
        (second / name).unlink()
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    paths = [str(run.path) for run in two]
    words = ["ensemble", *paths, "--method", "stack", "--folds", "2", "--workers", "1", "--out", str(out)]
    answer = CliRunner().invoke(build(), [*words, "--quiet"])
    assert answer.exit_code == 0, answer.output
    assert "stack: test accuracy" in answer.output
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    joint = (out / place.MODEL).read_bytes()
    assert joint == (done.run.path / place.MODEL).read_bytes()


def test_runs_of_one_recipe_share_their_folds(two: tuple[Run, Run], done: Ensembled, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(done.run.path / "folds", out / "folds")
    twice = [two[0].path, two[0].path]
    again = ensemble(twice, method="stack", folds=2, workers=1, out=out, quiet=True)
    assert again.facts["classifier"]["trained"] == 2


def test_what_cannot_be_stacked_is_refused(
    bars: Path, two: tuple[Run, Run], done: Ensembled, tmp_path: Path
) -> None:
    with pytest.raises(ConvclinicError, match="is an ensemble itself"):
        ensemble([two[0].path, done.run.path], method="stack", out=tmp_path / "a", quiet=True)
    with pytest.raises(ConvclinicError, match="at least 2"):
        ensemble([run.path for run in two], method="stack", folds=1, out=tmp_path / "b", quiet=True)
    other = tmp_path / "other"
    shutil.copytree(two[0].path, other)
    data = reopen(other)
    splits = data.splits.copy()
    splits[data.indices("train")[0]] = 3
    divide(two[0].path, other, splits)
    with pytest.raises(ConvclinicError, match="other training images"):
        ensemble([two[0].path, other], method="stack", out=tmp_path / "c", quiet=True)
    assert not [name for name in "abc" if (tmp_path / name).exists()], "nothing is left of a refusal"


def test_snapshots_of_a_recipe_are_not_made_again_in_its_folds(bars: Path, tmp_path: Path) -> None:
    settings = (*TINY, "run.steps=8", "run.snapshots=2")
    run = fit(bars, out=tmp_path / "run", quiet=True, settings=settings)
    paths = [run.path, run.path]
    done = ensemble(paths, method="stack", folds=2, workers=1, out=tmp_path / "out", quiet=True)
    assert not list((done.run.path / "folds").glob("*/snapshots"))
