"""Evidence for tricks as one command, on made photos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import convclinic as cc
from convclinic.cli import build
from convclinic.job.studying import EVIDENCE
from convclinic.study.step_times import ROUNDS

SMALL = ("net.widths=[8,8,8]", "run.batch_size=16", "run.steps=30", "optimise.lr=0.05")
TRICKS = ("cutout", "momentum", "initialise.zero", "flip_views")


@pytest.fixture(scope="module")
def found(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> cc.Evidence:
    out = tmp_path_factory.mktemp("evidence") / "out"
    return cc.evidence(bars, TRICKS, net="fast", seeds=2, out=out, settings=SMALL, workers=2, quiet=True)


def test_each_trick_has_a_row_with_its_interval(found: cc.Evidence) -> None:
    assert {row.trick for row in found.rows} == {
        "augment.cutout", "optimise.momentum", "initialise.zero", "combine.flip_views",
    }  # fmt: skip
    assert all(row.gain.n == 2 and row.gain.low is not None for row in found.rows)
    assert all(row.step_time is not None and row.step_time.n == ROUNDS for row in found.rows)
    assert found.facts["steps"] == 30 and found.facts["failed"] == {}
    nothing = next(row for row in found.rows if row.trick == "initialise.zero")
    assert nothing.accuracy.mean < 0.7, "units that start equal stay equal"
    views = next(row for row in found.rows if row.trick == "combine.flip_views")
    assert abs(views.gain.mean) < 0.3, "the same weights, asked twice"


def test_what_was_found_is_kept_as_data(found: cc.Evidence) -> None:
    kept = json.loads((found.folder / EVIDENCE).read_text())
    assert kept == json.loads(json.dumps(found.facts))
    assert kept["rows"][0]["verdict"] and kept["recipe"]["net"]["name"] == "fast"


def test_a_base_recipe_that_a_linear_classifier_beats_is_told(found: cc.Evidence) -> None:
    plain = {"base": 0.3, "linear_probe": 0.5}
    unfit = cc.Evidence(found.rows, found.facts | {"plain": plain}, found.folder)
    assert unfit.unfit and "30.0% and a linear classifier 50.0%" in unfit.table()
    fit = cc.Evidence(found.rows, found.facts | {"plain": plain | {"base": 0.6}}, found.folder)
    assert not fit.unfit and "linear classifier" not in fit.table()
    assert 0 < found.facts["plain"]["base"] <= 1


def test_the_command_goes_on_where_it_was(found: cc.Evidence, bars: Path) -> None:
    stamps = {p: p.stat().st_mtime_ns for p in found.folder.rglob("result.json")}
    words = ["evidence", *TRICKS, "--data", str(bars), "--net", "fast", "--seeds", "2", "--quiet"]
    words += ["--budget", "30s"]  # another one: what is done stays done
    words += ["--out", str(found.folder), *(w for s in SMALL for w in ("--set", s))]
    shown = CliRunner().invoke(build(), words)
    assert shown.exit_code == 0, shown.output
    assert "augment.cutout" in shown.output and "30 steps" in shown.output
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


def test_a_net_that_fails_is_told_and_the_others_count(
    bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convclinic.study import comparing

    train = comparing.train

    def failing(one, *args):
        if one.label == "augment.cutout":
            raise RuntimeError("out of luck")
        return train(one, *args)

    monkeypatch.setattr(comparing, "train", failing)
    found = cc.evidence(
        bars, ("cutout", "momentum"), net="fast", seeds=1, out=tmp_path / "out",
        settings=(*SMALL, "run.steps=4"), workers=1, quiet=True,
    )  # fmt: skip
    assert list(found.facts["failed"]) == ["augment.cutout, seed 0"]
    assert [row.trick for row in found.rows] == ["optimise.momentum"]
    assert "out of luck" in found.table()
