"""Many tasks: each done once, kept at once, whoever fails or is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convclinic.ground.errors import ConvclinicError
from convclinic.study import engine
from convclinic.study.engine import RESULT, Done, Task, run

WORK = "tests.study.work"


def tasks(n: int) -> list[Task]:
    return [Task(f"t{x}", {"x": x}) for x in range(n)]


def by_name(ends: list[Done]) -> dict[str, Done]:
    return {done.task.name: done for done in ends}


def calls(folder: Path) -> dict[str, int]:
    return {path.parent.name: len(path.read_text()) for path in folder.glob("*/calls")}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_done_once_and_kept(tmp_path: Path, workers: int) -> None:
    ends = by_name(list(run(tasks(4), f"{WORK}:square", tmp_path, workers=workers)))
    assert {name: (end.result or {})["square"] for name, end in ends.items()} == {
        "t0": 0, "t1": 1, "t2": 4, "t3": 9
    }  # fmt: skip
    again = list(run(tasks(5), f"{WORK}:square", tmp_path, workers=workers))
    assert [end.kept for end in again] == [True] * 4 + [False]
    assert calls(tmp_path) == {f"t{x}": 1 for x in range(5)}


def test_workers_are_processes_that_share_the_cores(tmp_path: Path) -> None:
    ends = list(run(tasks(4), f"{WORK}:slow", tmp_path, workers=2))
    seen = {(end.result or {})["process"] for end in ends}
    assert len(seen) == 2 and os.getpid() not in seen
    assert {(end.result or {})["threads"] for end in ends} == {max(1, (os.cpu_count() or 1) // 2)}


@pytest.mark.parametrize("workers", [1, 2])
def test_what_fails_is_told_tried_again_and_hinders_nobody(tmp_path: Path, workers: int) -> None:
    ends = by_name(list(run(tasks(4), f"{WORK}:picky", tmp_path, workers=workers)))
    assert ends["t1"].error == "ones are not liked (give a two)"
    assert "ZeroDivisionError: of all things" in ends["t2"].error
    assert "ZeroDivisionError" in (tmp_path / "t2" / "error.txt").read_text()
    assert (ends["t3"].result or {})["square"] == 9
    again = by_name(list(run(tasks(4), f"{WORK}:square", tmp_path, workers=workers)))
    assert not any(end.error for end in again.values())
    assert [name for name, end in again.items() if not end.kept] == ["t1", "t2"]


def test_a_killed_worker_costs_only_its_own_task(tmp_path: Path) -> None:
    ends = by_name(list(run(tasks(4), f"{WORK}:deadly", tmp_path, workers=2)))
    assert "killed" in ends["t1"].error and ends["t1"].result is None
    assert {name for name, end in ends.items() if not end.error} == {"t0", "t2", "t3"}


def test_a_result_of_other_settings_is_not_taken_for_this_one(tmp_path: Path) -> None:
    list(run(tasks(1), f"{WORK}:square", tmp_path))
    with pytest.raises(ConvclinicError, match="other settings"):
        list(run([Task("t0", {"x": 7})], f"{WORK}:square", tmp_path))


def test_two_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConvclinicError, match="two tasks are called t0"):
        list(run([*tasks(1), *tasks(1)], f"{WORK}:square", tmp_path))


RUN = """
import sys
from pathlib import Path
from convclinic.study.engine import Task, run
tasks = [Task(f"t{x}", {"x": x, "seconds": 0.1}) for x in range(8)]
if __name__ == "__main__":
    for done in run(tasks, "tests.study.work:slow", Path(sys.argv[1]), workers=2):
        pass
"""


def test_killed_at_a_random_moment_nothing_is_lost_and_nothing_repeated(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN)
    folder, drawn = tmp_path / "results", random.Random(0)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    finished: set[str] = set()
    for _ in range(3):
        process = subprocess.Popen([sys.executable, str(script), str(folder)], env=environment)
        until = time.monotonic() + 60
        while not (folder / "t0" / "begun").exists() and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(drawn.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = finished
        finished = {path.parent.name for path in folder.glob(f"*/{RESULT}")}
        assert before <= finished
        stamps = {name: (folder / name / RESULT).stat().st_mtime_ns for name in finished}
        time.sleep(engine.ORPHAN_SECONDS + 0.5)
        assert {name: (folder / name / RESULT).stat().st_mtime_ns for name in finished} == stamps
    subprocess.run([sys.executable, str(script), str(folder)], env=environment, check=True)
    assert {path.parent.name for path in folder.glob(f"*/{RESULT}")} == {f"t{x}" for x in range(8)}
    assert all((folder / name / RESULT).stat().st_mtime_ns == stamps[name] for name in stamps)
