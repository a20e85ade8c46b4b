"""A search from the data to the best recipe: trials, verdicts, stops, several machines."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from making import TINY
from typer.testing import CliRunner

from convclinic.cli import build
from convclinic.ground.errors import ConvclinicError
from convclinic.job import search_trial, searching
from convclinic.job.ensembling import ensemble
from convclinic.job.fitting import fit
from convclinic.job.search_found import Searched
from convclinic.job.searching import search
from convclinic.recipe import Recipe, load
from convclinic.study import search as store
from convclinic.study.pruning import Curve, Standing

SHORT = (*TINY, "run.steps=16")
SPACE: dict[str, Any] = {"optimise.lr": {"times": [0.1, 10]}, "mix": ["none", "mixup"]}
OPTIONS: dict[str, Any] = {"space": SPACE, "settings": SHORT, "budget": "10m", "quiet": True, "workers": 1}


@pytest.fixture(scope="module")
def done(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    out = tmp_path_factory.mktemp("search") / "out"
    return search(bars, trials=4, top=2, out=out, prune=False, **OPTIONS)


def kept(folder: Path) -> dict[int, int]:
    """When each finished trial was written."""
    rows = [(path, json.loads(path.read_text())) for path in folder.glob("trials/*/result.json")]
    return {row["result"]["number"]: path.stat().st_mtime_ns for path, row in rows}


def test_the_planned_recipe_comes_first_and_the_best_is_kept(bars: Path, done: Searched) -> None:
    assert [one.number for one in done.trials] == [0, 1, 2, 3]
    assert done.trials[0].values == {"optimise.lr": 1.0, "mix": "none"}
    assert len({one.words for one in done.trials}) == 4
    best = done.finished[0]
    assert best.score == max(one.score or 0 for one in done.trials)
    recipe = load(done.folder / "best.json")
    assert recipe == done.best and recipe.run.steps == 16
    assert ("mixup" if best.values["mix"] == "mixup" else "none") == (
        type(recipe.mix[0]).__name__.lower() if recipe.mix else "none"
    )
    run = fit(bars, recipe=done.folder / "best.json", out=done.folder.parent / "fit", quiet=True)
    assert run.recipe == recipe


def test_the_best_are_runs_like_any_other(bars: Path, done: Searched) -> None:
    assert [run.path.name for run in done.runs] == [f"trial-{one.number}" for one in done.finished[:2]]
    for run, one in zip(done.runs, done.finished, strict=False):
        assert (run.path / "report.html").exists() and run.history[-1].step == run.metrics["steps"] == 16
        assert len(run.predict(bars / "lying" / "000.png")) == 1
        assert max(r.val_accuracy or 0 for r in run.history) == pytest.approx(one.score)
        assert run.metrics["validation"]["accuracy"] == pytest.approx(one.score, abs=0.2)


def test_the_best_are_joined_by_the_searchs_name(done: Searched, tmp_path: Path) -> None:
    joint = ensemble([done.folder], method="mean", out=tmp_path / "joint", quiet=True)
    assert [Path(one["run"]).name for one in joint.facts["members"]] == [run.path.name for run in done.runs]
    shutil.copytree(done.folder, tmp_path / "one")
    facts = json.loads((tmp_path / "one" / "search.json").read_text())
    (tmp_path / "one" / "search.json").write_text(json.dumps({**facts, "runs": facts["runs"][:1]}))
    with pytest.raises(ConvclinicError, match=r"1 run folders .*--top 5"):
        ensemble([tmp_path / "one"], out=tmp_path / "none", quiet=True)


def test_the_table_says_what_became_of_all(done: Searched) -> None:
    told = done.table()
    assert "4 trials: 4 trained to their end, 0 given up" in told
    assert f"--recipe {done.folder / 'best.json'}" in told and "scores higher on the" in told
    plain = json.loads((done.folder / "search.json").read_text())
    assert [one["number"] for one in plain["trials"]] == [0, 1, 2, 3]
    assert Recipe.from_dict(plain["best"]) == done.best


def test_the_same_call_repeats_nothing_and_more_trials_extend_it(
    bars: Path, done: Searched, tmp_path: Path
) -> None:
    out = tmp_path / "more"
    shutil.copytree(done.folder, out)
    stamps = kept(out)
    # the study names no folder: a copy is the same search
    again = search(bars, trials=4, top=0, out=out, prune=False, **OPTIONS)
    assert kept(out) == stamps and len(again.trials) == 4
    more = search(bars, trials=6, top=0, out=out, prune=False, **OPTIONS)
    assert [one.number for one in more.trials] == list(range(6))
    assert {number: stamp for number, stamp in kept(out).items() if number in stamps} == stamps


def test_a_worker_opens_its_storage_once_a_call_and_a_deleted_search_begins_anew(
    bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, opened = store.open_study, list[str]()
    monkeypatch.setattr(store, "open_study", lambda url, name: opened.append(url) or real(url, name))
    for _ in range(2):
        opened.clear()
        found = search(bars, trials=2, top=0, prune=False, out=tmp_path / "out", **OPTIONS)
        assert len(found.trials) == 2 and len(opened) == 2, "once by the call, once by its one worker"
        assert (tmp_path / "out" / "trials.db").exists()
        shutil.rmtree(tmp_path / "out")


def test_other_settings_do_not_mix(bars: Path, done: Searched, tmp_path: Path) -> None:
    with pytest.raises(ConvclinicError, match="other settings"):
        search(bars, trials=4, out=done.folder, **{**OPTIONS, "space": {"mix": ["none", "mixup"]}})
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ConvclinicError, match="not empty"):
        search(bars, out=tmp_path, **OPTIONS)


def test_a_grid_tries_every_combination_and_no_more(bars: Path, tmp_path: Path) -> None:
    space = {"mix": ["none", "mixup"], "optimise.lr": {"times": [0.5, 2], "points": 2}}
    found = search(bars, sampler="grid", top=0, out=tmp_path / "grid", **{**OPTIONS, "space": space})
    assert len(found.trials) == 4 == len({one.words for one in found.trials})


def test_a_trial_whose_curve_is_behind_is_given_up(
    bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = search_trial.pruning.standing

    def standing(curve: Curve, finished: list[Curve], images: int) -> Standing | None:
        assert real(curve, finished, images) is None  # too few are finished
        assert images == 12
        behind = Standing(curve.shares[-1], 0.4, 0.5, 1, 0.04)
        return behind if finished and len(curve.scores) == 2 else None

    monkeypatch.setattr(search_trial.pruning, "standing", standing)
    found = search(bars, trials=2, top=0, out=tmp_path / "out", **OPTIONS)
    good, bad = found.trials
    assert (good.state, bad.state) == (store.COMPLETE, store.PRUNED)
    assert bad.why.startswith("curve: after ") and "the median of 1 finished ones 50.0% ± 4.0%" in bad.why
    assert good.curve is not None and bad.curve is not None and len(good.curve.shares) > 2
    assert bad.curve.shares == good.curve.shares[:2]
    assert "1 trained to their end, 1 given up for their curve" in found.table()
    assert [path.parent.name for path in tmp_path.rglob("model.safetensors")] == ["slot-0000"]
    whole = search(bars, trials=2, top=0, prune=False, out=tmp_path / "whole", **OPTIONS)
    assert [one.state for one in whole.trials] == [store.COMPLETE] * 2


def test_the_clinics_verdict_ends_a_trial_that_cannot_succeed(bars: Path, tmp_path: Path) -> None:
    space = {"optimise.lr": {"log": [1e8, 1e9]}}
    settings = (*TINY, "run.steps=60", "optimise=sgd", "normalise=none")
    options = {**OPTIONS, "settings": settings, "space": space}
    with pytest.raises(ConvclinicError, match="no trial came to its end: clinic: "):
        search(bars, trials=1, sampler="random", out=tmp_path / "out", **options)
    study, _ = store.open_study(f"sqlite:///{tmp_path / 'out' / 'trials.db'}", _study_name(tmp_path / "out"))
    [one] = store.tried(study)
    assert one.state == store.PRUNED and one.why.startswith("clinic: ")


def _study_name(folder: Path) -> str:
    import sqlite3

    with sqlite3.connect(folder / "trials.db") as database:
        [(name,)] = database.execute("select study_name from studies").fetchall()
    database.close()
    return name


def test_a_trial_that_fails_is_told_and_the_others_go_on(
    bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = search_trial.loop.start

    def start(recipe: Recipe, *rest: Any) -> Any:
        if recipe.mix:
            raise RuntimeError("out of memory")
        return real(recipe, *rest)

    monkeypatch.setattr(search_trial.loop, "start", start)
    space = {"mix": ["none", "mixup"]}
    found = search(bars, sampler="grid", out=tmp_path / "out", **{**OPTIONS, "space": space})
    states = {str(one.values["mix"]): one for one in found.trials}
    assert states["none"].state == store.COMPLETE
    assert states["mixup"].state == store.FAILED and "out of memory" in states["mixup"].why
    assert "1 failed" in found.table() and "out of memory" in found.table()


def test_two_folders_on_one_storage_are_one_search(bars: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    first = search(bars, trials=2, top=1, storage=url, out=tmp_path / "a", **OPTIONS)
    second = search(bars, trials=4, top=4, storage=url, out=tmp_path / "b", **OPTIONS)
    assert len(first.trials) == 2 and [one.number for one in second.trials] == [0, 1, 2, 3]
    assert set(kept(tmp_path / "a")) == {0, 1} and set(kept(tmp_path / "b")) == {2, 3}
    assert {run.path.name for run in second.runs} <= {"trial-2", "trial-3"}
    assert second.trials[:2] == first.trials


def test_a_machine_with_other_images_is_refused(bars: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    search(bars, trials=1, top=0, storage=url, out=tmp_path / "a", **OPTIONS)
    other = tmp_path / "elsewhere" / bars.name
    shutil.copytree(bars, other)
    next(iter(sorted((other / "lying").iterdir()))).unlink()
    with pytest.raises(ConvclinicError, match="does not hold the images"):
        search(other, trials=2, storage=url, out=tmp_path / "b", **OPTIONS)
    assert not (tmp_path / "b").exists()


def test_the_time_ends_a_search_and_too_little_is_told(bars: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "settings": TINY, "budget": "6s"}
    with pytest.raises(ConvclinicError, match="allow each trial"):
        search(bars, trials=10_000, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": "tpee"}, "no sampler 'tpee' .*tpe"),
        ({"trials": 0}, "at least one trial"),
        ({"clinic": "treat"}, "no clinic mode 'treat' in a search"),
        ({"space": "missing.yaml"}, "cannot read the space missing.yaml"),
        ({"space": {"optimise.lrr": [1, 2]}}, "no option 'lrr'"),
    ],
)
def test_wrong_wishes_are_refused(bars: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConvclinicError, match=words):
        search(bars, out=tmp_path / "out", **{**OPTIONS, **options})


def command(bars: Path, out: Path, *more: str) -> list[str]:
    settings = [word for setting in SHORT for word in ("--set", setting)]
    return ["search", str(bars), "--out", str(out), "--budget", "10m", *settings, *more]


def test_the_command_searches_around_the_plan_without_a_space(bars: Path, tmp_path: Path) -> None:
    words = command(bars, tmp_path / "out", "--trials", "2", "--json", "--no-prune", "--workers", "1")
    result = CliRunner().invoke(build(), words)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert len(found["trials"]) == 2 and set(found["trials"][1]["values"]) >= {
        "optimise.lr",
        "augment",
        "mix",
    }
    assert found["measure"] == "accuracy" and (tmp_path / "out" / "best.json").exists()


def test_killed_at_a_random_moment_no_trial_is_lost_or_repeated(bars: Path, tmp_path: Path) -> None:
    out, drawn = tmp_path / "out", random.Random(1)
    space = tmp_path / "space.yaml"
    space.write_text("optimise.lr: {times: [0.1, 10]}\n")
    words = command(bars, out, "--trials", "4", "--space", str(space), "--workers", "1", "--no-prune")
    whole = [sys.executable, "-m", "convclinic", *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(whole, env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while not kept(out) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(drawn.uniform(0.0, 0.5))
    process.send_signal(signal.SIGKILL)
    process.wait()
    stamps = kept(out)
    assert 0 in stamps
    subprocess.run(whole, env=environment, check=True, stderr=subprocess.DEVNULL)
    assert stamps.items() <= kept(out).items() and sorted(kept(out)) == list(range(4))
    plain = json.loads((out / "search.json").read_text())
    assert [one["state"] for one in plain["trials"]] == ["complete"] * 4


@pytest.mark.parametrize("told", [False, True])
def test_a_trial_that_was_killed_at_its_end_is_not_trained_again(
    bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """Its end was written down; the storage was told, or not yet, and the engine was not."""
    real = store.tell

    def tell(*given: Any) -> None:
        if told:
            real(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "tell", tell)
    options = {**OPTIONS, "sampler": "random"}
    with pytest.raises(ConvclinicError, match="goes on"):
        search(bars, trials=1, out=tmp_path / "out", **options)
    monkeypatch.setattr(store, "tell", real)
    monkeypatch.setattr(search_trial.loop, "start", lambda *_: pytest.fail("trained again"))
    found = search(bars, trials=1, out=tmp_path / "out", **options)
    assert [one.state for one in found.trials] == [store.COMPLETE] and len(found.runs) == 1


def test_no_password_is_written_down(bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker is told of the storage stands in no file."""
    secret = "sqlite:///file:mem?mode=memory&cache=shared&uri=true&x=secret"
    real = store.open_study
    here = f"sqlite:///{tmp_path / 'x.db'}"
    monkeypatch.setattr(store, "open_study", lambda url, name: real(here if "secret" in url else url, name))
    monkeypatch.setattr(store, "_in_turn", lambda url: searching.Silent())
    monkeypatch.setattr(sys, "argv", ["convclinic", "search", "--storage", "postgresql://me:secret@here/x"])
    found = search(bars, trials=1, top=1, storage=secret, out=tmp_path / "out", **OPTIONS)
    written = json.loads((found.runs[0].path / "recipe.json").read_text())["command"]
    assert written == "convclinic search --storage postgresql://me:***@here/x"
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) > 5 and not any(b"secret" in path.read_bytes() for path in files)
