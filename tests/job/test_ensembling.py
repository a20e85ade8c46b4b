"""Runs joined to one model that every verb takes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from making import TINY
from numpy.typing import NDArray
from typer.testing import CliRunner

from convclinic.cli import build
from convclinic.data.dataset import reopen
from convclinic.ground.errors import ConvclinicError
from convclinic.job.ensembled import Ensembled
from convclinic.job.ensembling import ensemble
from convclinic.job.fitting import fit, resume
from convclinic.job.run import Run
from convclinic.joint import Ensemble, joined
from convclinic.model import Model
from convclinic.model_file import load

SHORT = (*TINY, "run.steps=24", "run.evaluate_every=12")


@pytest.fixture(scope="module")
def first(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(bars, out=tmp_path_factory.mktemp("first") / "run", quiet=True, settings=SHORT)


@pytest.fixture(scope="module")
def three(first: Run, tmp_path_factory: pytest.TempPathFactory) -> Ensembled:
    out = tmp_path_factory.mktemp("three") / "out"
    return ensemble([first.path], members=3, method="mean", out=out, quiet=True)


def test_members_have_the_same_images_and_other_seeds(first: Run, three: Ensembled) -> None:
    paths = [Path(one["run"]) for one in three.facts["members"]]
    assert paths[0] == first.path and len(paths) == 3
    assert [Run(path).recipe.seed for path in paths] == [0, 1, 2]
    for path in paths:
        assert (reopen(path).splits == reopen(first.path).splits).all()
    assert [one["weight"] for one in three.facts["members"]] == pytest.approx([1 / 3] * 3)


def test_the_file_answers_with_the_mean_of_its_members(three: Ensembled) -> None:
    model = load(three.run.path)
    assert isinstance(model, Ensemble) and len(model.members) == 3
    data = reopen(three.run.path)
    images = data.images(data.indices("test"))
    members = [load(Path(one["run"])) for one in three.facts["members"]]
    mean = np.mean([one.probabilities(one.logits(images)) for one in members], axis=0)
    raw = np.exp(model.logits(images).astype(np.float64))
    np.testing.assert_allclose(raw, mean, atol=1e-5)
    assert (mean.argmax(1) == data.labels[data.indices("test")]).mean() == pytest.approx(
        three.run.metrics["test"]["accuracy"]
    )


def test_each_net_is_asked_once_of_each_image(
    three: Ensembled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    logits = Model.logits

    def counted(model: Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append(len(images))
        return logits(model, images)

    monkeypatch.setattr(Model, "logits", counted)
    paths = [one["run"] for one in three.facts["members"]]
    again = ensemble(paths, method="mean", out=tmp_path / "again", quiet=True)
    data = reopen(three.run.path)
    blank = 3  # reading a file asks its net of one
    assert sum(asked) - blank == 3 * (len(data.indices("validation")) + len(data.indices("test")))
    assert again.run.metrics["test"] == three.run.metrics["test"]


def test_every_verb_takes_it(bars: Path, three: Ensembled) -> None:
    assert (three.run.path / "report.html").exists()
    answer, *_ = three.run.predict(bars / "lying" / "000.png")
    assert answer.best in ("lying", "standing")
    assert three.run.evaluate(bars)["n"] == 80
    assert three.run.report().exists()


def test_members_of_other_sizes_are_joined_and_saved(first: Run, tmp_path: Path) -> None:
    small = load(first.path)
    size = small.recipe.data
    data = dataclasses.replace(size, height=2 * size.height, width=2 * size.width)
    large = dataclasses.replace(small, recipe=dataclasses.replace(small.recipe, data=data))
    both = joined([small, large], [1, 3])
    assert both.recipe.data == data and both.weights == (0.75, 0.25)
    own = reopen(first.path).images(np.arange(4))
    images = own.repeat(2, axis=1).repeat(2, axis=2)
    each = [one.probabilities(one.logits(images)) for one in (large, small)]  # each resizes for itself
    assert np.ptp(each[1][:, 0]) > 0.01, "a net that answers the same to all would show nothing"
    expected = 0.75 * each[0] + 0.25 * each[1]
    np.testing.assert_allclose(np.exp(both.logits(images)), expected, atol=1e-5)
    both.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "m.safetensors").logits(images), both.logits(images))


def test_an_ensemble_is_not_trained_for_longer(three: Ensembled) -> None:
    with pytest.raises(ConvclinicError, match="is an ensemble"):
        resume(three.run.path, extend="5s", quiet=True)


def test_a_soup_says_who_is_in_it(three: Ensembled, tmp_path: Path) -> None:
    paths = [one["run"] for one in three.facts["members"]]
    done = ensemble(paths, method="soup", out=tmp_path / "soup", quiet=True)
    weights = [one["weight"] for one in done.facts["members"]]
    kept = [k for k, weight in enumerate(weights) if weight]
    assert sum(weights) == pytest.approx(1.0) and len({weights[k] for k in kept}) == 1
    states = [load(Path(paths[k])).net.state_dict() for k in kept]
    name = next(name for name, value in states[0].items() if value.is_floating_point())
    mean = sum(state[name].double() for state in states) / len(states)
    np.testing.assert_allclose(load(done.run.path).net.state_dict()[name].numpy(), mean.numpy(), atol=1e-6)


def test_auto_says_what_each_method_is_worth(first: Run, three: Ensembled, tmp_path: Path) -> None:
    paths = [one["run"] for one in three.facts["members"]]
    done = ensemble(paths, out=tmp_path / "auto", quiet=True)
    losses = done.facts["validation_log_loss"]
    assert set(losses) == {"mean", "greedy", "single", "soup", "fusion"}
    assert done.facts["method"] == min(losses, key=lambda name: losses[name])
    assert "points beside the best member" in done.table()


def test_a_soup_of_one_net_is_that_net(first: Run, tmp_path: Path) -> None:
    done = ensemble([first.path, first.path], method="soup", out=tmp_path / "soup", quiet=True)
    model, own = load(done.run.path), load(first.path)
    assert not isinstance(model, Ensemble)
    images = reopen(first.path).images(np.arange(6))
    np.testing.assert_allclose(model.logits(images), own.logits(images), atol=1e-5)
    assert done.facts["gain"][0] == 0.0


def test_what_cannot_be_joined_is_refused(bars: Path, first: Run, tmp_path: Path) -> None:
    with pytest.raises(ConvclinicError, match="needs two runs"):
        ensemble([first.path], out=tmp_path / "a", quiet=True)
    with pytest.raises(ConvclinicError, match=r"no method 'meen'.*mean"):
        ensemble([first.path, first.path], method="meen", out=tmp_path / "b", quiet=True)
    other = fit(bars, out=tmp_path / "other", quiet=True, settings=SHORT, seed=5)
    with pytest.raises(ConvclinicError, match="other validation images"):
        ensemble([first.path, other.path], out=tmp_path / "c", quiet=True)
    with pytest.raises(ConvclinicError, match="no run folder"):
        ensemble([tmp_path / "nowhere", first.path], out=tmp_path / "d", quiet=True)
    assert not [name for name in "abcd" if (tmp_path / name).exists()], "nothing is left of a refusal"


def test_a_run_of_another_seed_and_size_takes_over_a_split_and_is_joined(
    bars: Path, first: Run, tmp_path: Path
) -> None:
    large = (*SHORT, "data.height=20", "data.width=20")
    other = fit(bars, out=tmp_path / "other", quiet=True, settings=large, seed=5, split=first.path)
    said = json.loads((other.path / "recipe.json").read_text())["reasons"][0]
    assert said["choice"] == "split" and str(first.path) in said["value"]
    assert reopen(other.path).splits.tolist() == reopen(first.path).splits.tolist()
    done = ensemble([first.path, other.path], out=tmp_path / "joined", quiet=True)
    assert len(done.facts["members"]) == 2


def test_the_store_with_the_largest_images_is_everyones(two: tuple[Run, Run], tmp_path: Path) -> None:
    small, large = two
    done = ensemble([small.path, large.path], method="mean", out=tmp_path / "out", quiet=True)
    assert [one["run"] for one in done.facts["members"]] == [str(small.path), str(large.path)]
    assert reopen(done.run.path).store.shape[1:3] == (28, 28)
    assert done.run.recipe.net == large.recipe.net
    data = reopen(large.path)
    model = load(large.path)
    right = model.logits(data.images(data.indices("test"))).argmax(1) == data.labels[data.indices("test")]
    assert done.facts["members"][1]["test"] == pytest.approx(right.mean())


def test_the_command_prints_the_members(three: Ensembled, tmp_path: Path) -> None:
    paths = [one["run"] for one in three.facts["members"]]
    words = ["ensemble", *paths, "--method", "greedy", "--out", str(tmp_path / "e"), "--quiet"]
    result = CliRunner().invoke(build(), words)
    assert result.exit_code == 0, result.output
    assert "member" in result.output and "greedy: test accuracy" in result.output
    words = ["ensemble", *paths, "--method", "mean", "--out", str(tmp_path / "f"), "--json"]
    assert json.loads(CliRunner().invoke(build(), words).stdout)["method"] == "mean"
