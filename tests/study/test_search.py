"""Trials asked for and told by several, in an SQLite file and in a PostgreSQL server."""

from __future__ import annotations

import math
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest

from convclinic.ground.errors import ConvclinicError
from convclinic.recipe import Recipe
from convclinic.study import search as store
from convclinic.study import spaces

SPACE = spaces.parse(
    {
        "optimise.lr": {"log": [0.01, 1.0]},
        "run.batch_size": [32, 64],
        "optimise.momentum": {"range": [0.0, 0.9], "when": {"run.batch_size": 32}},
        "optimise.weight_decay": {"times": [0.1, 10]},
        "run.evaluate_every": {"range": [1, 5]},
    },
    Recipe(),
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a PostgreSQL server of its own, where the machine has one."""
    pytest.importorskip("psycopg")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (str(found[-1]) if found else None)
    if initdb is None:
        pytest.skip("no PostgreSQL server on this machine")
    programs = Path(initdb).resolve().parent
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder, who = Path(name), dict[str, Any]()
        if os.getuid() == 0:  # the server refuses to be started by root
            folder.chmod(0o777)
            who = {"user": "nobody"}
        base = folder / "data"
        quiet: dict[str, Any] = {"check": True, "capture_output": True, "cwd": folder, **who}
        subprocess.run([initdb, "-D", base, "-U", "me", "--auth", "trust"], **quiet)
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        control = [programs / "pg_ctl", "-D", base, "-w"]
        with open(folder / "log", "w") as log:
            subprocess.run([*control, "-o", options, "start"], check=True, stdout=log, cwd=folder, **who)
        yield f"postgresql://me:secret@127.0.0.1:{port}/postgres"
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'trials.db'}"
    return request.getfixturevalue("server")


def one(url: str, name: str, slot: int, most: int) -> int | None:
    """Ask for a trial and tell it, as one worker does."""
    study, _ = store.open_study(url, name)
    store.with_sampler(study, "random", 0, slot)
    trial = store.ask(study, most, url)
    if trial is None:
        return None
    values = store.suggested(trial, SPACE)
    store.report(trial, 0.5, 0.25)
    time.sleep(0.05)
    store.report(trial, 1.0, 0.5)
    state = store.PRUNED if trial.number % 3 == 2 else store.COMPLETE
    store.tell(study, trial, state, 0.5 + 0.1 * float(values["optimise.lr"]), "why", 2.0)
    return trial.number


def test_several_share_one_search_and_no_number_is_given_twice(url: str) -> None:
    study, new = store.open_study(url, "shared")
    assert new and store.plan(study) is None
    store.begin(study, {"recipe": 1}, [{"optimise.lr": 0.5, "run.batch_size": "64"}])
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda slot: one(url, "shared", slot, 10), range(14)))
    given = [number for number in numbers if number is not None]
    assert sorted(given) == list(range(10))
    again, new = store.open_study(url, "shared")
    assert not new and store.plan(again) == {"recipe": 1}
    found = {trial.number: trial for trial in store.tried(again)}
    assert found[0].values["optimise.lr"] == 0.5 and found[0].values["run.batch_size"] == "64"
    assert "optimise.momentum" not in found[0].values
    assert all(0.01 <= float(t.values["optimise.lr"]) <= 1 for t in found.values() if t.values)
    finished = [trial for trial in found.values() if trial.number in given]
    assert {trial.state for trial in finished} == {store.COMPLETE, store.PRUNED}
    assert all(trial.curve and trial.curve.shares == (0.5, 1.0) for trial in finished)
    assert found[0].score == 0.5 and found[0].why == "why" and found[0].seconds == 2.0


def test_a_trial_that_was_cut_short_keeps_its_settings_and_what_it_reported(url: str) -> None:
    study, _ = store.open_study(url, "cut")
    trial = store.ask(store.with_sampler(study, "random", 0, 0), 2, url)
    assert trial is not None
    values = store.suggested(trial, SPACE)
    store.report(trial, 0.5, 0.3)
    other, _ = store.open_study(url, "cut")
    again = store.taken_up(store.with_sampler(other, "random", 0, 5), store.number_id(trial))
    assert again is not None and again.number == trial.number
    assert store.suggested(again, SPACE) == values
    store.report(again, 0.5, 0.9)  # was reported before: stays
    store.report(again, 1.0, 0.4)
    store.tell(other, again, store.COMPLETE, 0.4, "", 1.0)
    [told] = store.tried(other)
    assert told.curve is not None and told.curve.scores == (0.3, 0.4)
    assert store.taken_up(other, store.number_id(trial)) is None


def test_draws_follow_from_seed_and_slot(tmp_path: Path) -> None:
    def drawn(name: str, seed: int) -> list[spaces.Values]:
        file = f"sqlite:///{tmp_path / name}"
        study, _ = store.open_study(file, "a")
        found: list[spaces.Values] = []
        for slot in range(14):  # TPE learns from the tenth on
            trial = store.ask(store.with_sampler(study, "tpe", seed, slot), 14, file)
            assert trial is not None
            found.append(store.suggested(trial, SPACE))
            store.tell(study, trial, store.COMPLETE, float(found[-1]["optimise.lr"]), "", 1.0)
        return found

    first = drawn("1", 0)
    assert drawn("2", 0) == first != drawn("3", 1)
    assert len({str(values) for values in first}) == 14


def test_no_choice_is_given_up_for_ever() -> None:
    """Where the best of many candidates is taken, a search keeps to what its first trials spoke for."""
    space = spaces.parse(
        {
            "optimise.lr": {"log": [0.01, 1.0]},
            "optimise.momentum": {"range": [0.0, 0.99]},
            "optimise.weight_decay": {"log": [1e-5, 1e-1]},
            "augment": ["none", "flip", "shift", "flip,shift"],
            "mix": ["none", "mixup", "cutmix"],
            "run.batch_size": [32, 64, 128, 256],
        },
        Recipe(),
    )
    worth = {"none": 0.4, "flip": 0.8, "shift": 0.6, "flip,shift": 0.55, "mixup": 0.05, "cutmix": 0.1}

    def late(seed: int) -> int:
        """Pairs of choices that the later half of a search tries."""
        study, found = optuna.create_study(direction="maximize"), set[tuple[object, ...]]()
        for slot in range(60):
            trial = store.with_sampler(study, "tpe", seed, slot).ask()
            values = store.suggested(trial, space)
            lr, momentum = float(values["optimise.lr"]), float(values["optimise.momentum"])
            far = abs(momentum - 0.7) + abs(math.log10(lr) + 1)
            study.tell(trial, worth[str(values["augment"])] + worth[str(values["mix"])] - 0.5 * far)
            if slot >= 30:
                found.add((values["augment"], values["mix"]))
        return len(found)

    tried = [late(seed) for seed in range(8)]
    assert min(tried) > 1 and sum(tried) > 36, tried  # of 24 candidates: 1 in two of the searches, 26 in all


def test_importance_finds_what_the_scores_depend_on(tmp_path: Path) -> None:
    file = f"sqlite:///{tmp_path / 'x'}"
    study, _ = store.open_study(file, "a")
    assert store.importance(study) == {}
    for slot in range(24):
        trial = store.ask(store.with_sampler(study, "random", 0, slot), 99, file)
        assert trial is not None
        values = store.suggested(trial, SPACE)
        store.tell(study, trial, store.COMPLETE, 1 - abs(float(values["optimise.lr"]) - 0.3), "", 1.0)
    found = store.importance(study)
    assert max(found, key=lambda name: found[name]) == "optimise.lr" and found["optimise.lr"] > 0.7
    assert sum(found.values()) == pytest.approx(1.0)


def test_a_storage_that_does_not_answer_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(ConvclinicError, match="does not answer") as told:
        store.open_study("postgresql+psycopg://me:secret@127.0.0.1:1/none", "a")
    assert "secret" not in str(told.value) and "me:***@127.0.0.1" in str(told.value)
    with pytest.raises(ConvclinicError, match="is no storage"):
        store.open_study("what is this", "a")
