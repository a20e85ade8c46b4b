"""The comparison of activations as one command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from convclinic.cli import build
from convclinic.ground.errors import ConvclinicError
from convclinic.job.studying import Request, study_activations
from convclinic.recipe import Recipe
from convclinic.study import activations, comparing

SMALL = ("net.widths=[8, 8, 8]", "run.batch_size=16")


def run(bars: Path, out: Path) -> object:
    only = ("relu", "tanh")
    return study_activations(Request(bars, "fast", 2, "40s", only, out, SMALL, quiet=True))


@pytest.fixture(scope="module")
def studied(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    # few steps, whatever the machine's speed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "steps_within", lambda *args: 40)
        result = run(bars, out)
    rows = activations.summary(result.outcomes)
    assert [(row.label, row.n) for row in rows] == [("ReLU", 2), ("tanh", 2)]
    assert result.steps == 40 and result.epochs > 5
    return out


def nets(folder: Path) -> dict[str, dict]:
    found = sorted((folder / comparing.NETS).glob("*/result.json"))
    times = {"seconds": 0}
    return {path.parent.name: json.loads(path.read_text())["result"] | times for path in found}


def test_every_net_is_trained_and_judged_once(studied: Path) -> None:
    found = nets(studied)
    assert list(found) == ["relu-0", "relu-1", "tanh-0", "tanh-1"]
    scores = [row["test"] for row in found.values()]
    assert all(sum(score["of"]) == sum(scores[0]["of"]) > 0 for score in scores)
    errors = [1 - sum(score["right"]) / sum(score["of"]) for score in scores]
    assert min(errors) < 0.4, "bars are easy: something is learned"


def test_a_stopped_study_goes_on_and_repeats_exactly(
    studied: Path, bars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = nets(studied)
    shutil.rmtree(studied / comparing.NETS / "tanh-0")
    stamp = (studied / comparing.NETS / "relu-1" / "result.json").stat().st_mtime_ns
    monkeypatch.setattr(comparing, "steps_within", lambda *args: pytest.fail("the steps are known"))
    run(bars, studied)
    assert nets(studied) == whole
    assert (studied / comparing.NETS / "relu-1" / "result.json").stat().st_mtime_ns == stamp


def test_another_study_is_not_mixed_in(studied: Path, bars: Path) -> None:
    with pytest.raises(ConvclinicError, match="other settings"):
        study_activations(Request(bars, "compact", 1, "40s", out=studied, quiet=True))


def test_a_budget_too_small_says_what_would_do(bars: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvclinicError, match=r"allow each of the 18 nets .* steps .*give "):
        out = tmp_path / "x"
        study_activations(Request(bars, "fast", 2, "2s", out=out, settings=SMALL, quiet=True))


def test_the_table_has_the_sources_figures(
    studied: Path, bars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["study", "activations", "--data", str(bars), "--net", "fast", "--seeds", "2", "--quiet"]
    only = ["--only", "relu", "--only", "tanh", "--out", str(studied)]
    changes = [word for setting in SMALL for word in ("--set", setting)]
    shown = CliRunner().invoke(build(), [*arguments, *only, *changes])
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    relu = next(line for line in lines if line.startswith("ReLU"))
    assert "0.1245" in relu and "0.4290" in relu
    assert "-" in next(line for line in lines if line.startswith("tanh"))
    assert any("40 steps" in line for line in lines)


def test_an_unknown_question_or_activation_names_the_nearest(bars: Path) -> None:
    with pytest.raises(ConvclinicError, match="ReLU"):
        activations.contenders(Recipe(), ["relo"])
    wrong = CliRunner().invoke(build(), ["study", "activation", "--data", str(bars)])
    assert isinstance(wrong.exception, ConvclinicError)
    assert "activations" in str(wrong.exception)


def test_leaky_means_both_of_them() -> None:
    found = activations.contenders(Recipe(), ["leaky"])
    assert [one.label for one in found] == ["leaky (a = 100)", "leaky (a = 5.5)"]
    assert len(activations.contenders(Recipe())) == 9
