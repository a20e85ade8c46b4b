"""The comparison of policies for rare classes as one command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from making import photos
from typer.testing import CliRunner

from convclinic.cli import build
from convclinic.job.studying import Request, study_balance
from convclinic.study import comparing
from convclinic.study.balance import NONE

SMALL = ("net.widths=[8, 8, 8]", "run.batch_size=16", "data.height=16", "data.width=16")
ONLY = ("up_sampling", "logit_adjustment")
TIMES = {"seconds": 0}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars, of which few stand."""
    folder = photos(tmp_path_factory.mktemp("few") / "photos", per_class=80)
    for photo in sorted((folder / "standing").iterdir())[16:]:
        photo.unlink()
    return folder


@pytest.fixture(scope="module")
def studied(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "steps_within", lambda *args: 12)
        study_balance(Request(few, None, 2, "40s", ONLY, out, SMALL, quiet=True))
    return out


def outcomes(folder: Path) -> list[dict]:
    nets = [
        json.loads(path.read_text())["result"] for path in (folder / comparing.NETS).glob("*/result.json")
    ]
    order = [NONE, *ONLY]
    return sorted(nets, key=lambda net: (net["seed"], order.index(net["label"])))


def test_each_policy_meets_the_same_test_images_and_other_validation_images(studied: Path) -> None:
    rows = outcomes(studied)
    assert [(row["label"], row["seed"]) for row in rows] == [
        (label, seed) for seed in (0, 1) for label in (NONE, *ONLY)
    ]
    assert len({tuple(row["test"]["of"]) for row in rows}) == 1
    assert all(min(row["validation"]["of"]) >= 1 for row in rows)


def test_it_is_planned_as_fit_would_without_a_policy(studied: Path) -> None:
    recipe = json.loads((studied / comparing.FILE).read_text())["recipe"]
    assert recipe["balance"] == [] and recipe["optimise"]["name"] == "muon"
    assert recipe["net"]["widths"] == [8, 8, 8]


def test_a_stopped_study_goes_on_without_planning_anew(
    studied: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = outcomes(studied)
    copy = Path(shutil.copytree(studied, tmp_path / "copy"))
    for name in ("up_sampling-1", "logit_adjustment-1"):
        shutil.rmtree(copy / comparing.NETS / name)
    monkeypatch.setattr("convclinic.planning.hardware.measure", lambda *args: pytest.fail("planned already"))
    result = study_balance(Request(few, None, 2, "40s", ONLY, copy, SMALL, quiet=True))
    assert len(result.outcomes) == 6 and sum(result.counts.values()) > 0
    for first, second in zip(whole, outcomes(copy), strict=True):
        assert first | TIMES == second | TIMES


def test_the_command_prints_policies_recalls_and_verdict(studied: Path, few: Path) -> None:
    words = ["study", "balance", "--data", str(few), "--seeds", "2", "--out", str(studied), "--quiet"]
    words += [word for one in ONLY for word in ("--only", one)]
    words += [word for setting in SMALL for word in ("--set", setting)]
    shown = CliRunner().invoke(build(), words)
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert [line.split()[0] for line in lines if line.startswith((NONE, *ONLY))][:3] == [NONE, *ONLY]
    recalls = [line.split()[0] for line in lines if line.startswith(("lying", "standing"))]
    assert recalls == ["standing", "lying"], "the rarest class first"
    assert any("best on validation" in line for line in lines)
    assert any("12 steps" in line for line in lines)
    plain = json.loads(CliRunner().invoke(build(), [*words, "--json"]).output)
    assert {row["label"] for row in plain["validation"]} == {NONE, *ONLY}
    assert set(plain["verdict"]["test"]) == {NONE, plain["verdict"]["chosen"]}
    assert plain["class_counts"]["standing"] < plain["class_counts"]["lying"]
    assert np.isfinite([row["balanced_accuracy"]["low"] for row in plain["validation"]]).all()
