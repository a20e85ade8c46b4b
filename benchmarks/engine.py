"""The engine of many runs: what it costs beside the trainings, and what two at once gain.

    python benchmarks/engine.py [--runs 4] [--steps 600] [--rounds 2]

Each run trains a small net on scikit-learn's digits in a run folder of its own. Compared, interleaved: the
trainings called one after the other in a loop (bare), through the engine with one worker, and through the
engine with two, each with one thread. Prints seconds, the engine's share beside bare, and how many times as
fast two at once are. A process takes three seconds to start, which short trainings show (--steps). One
training before the first round warms up.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from sklearn.datasets import load_digits

from convclinic.job import tasks
from convclinic.job.crossvalidating import prepare
from convclinic.job.display import Silent
from convclinic.job.fitting import read_wish
from convclinic.study.engine import Task, run


def made(folder: Path, steps: int, runs: int) -> list[Task]:
    """A planned cross-validation of digits, whose folds are the tasks."""
    digits = load_digits()
    path = folder / "digits.npz"
    np.savez(path, x=(digits.images * 15.9).astype(np.uint8), y=digits.target)
    settings = ("net.widths=[32,64]", f"run.steps={steps}", f"run.evaluate_every={steps}")
    wish = read_wish(path, None, 0, None, settings, "cpu", None, False, {})
    (folder / "plan").mkdir()
    _, wanted = prepare(wish, folder / "plan", max(3, runs), 1, "watch", Silent())
    return wanted[:runs]


def once(wanted: list[Task], out: Path, workers: int) -> float:
    """Seconds that the trainings take, without the engine where no worker is named."""
    shutil.rmtree(out, ignore_errors=True)
    torch.set_num_threads(1)  # whatever the planning left; the pool's workers have a core each
    begin = time.perf_counter()
    if workers:
        ends = list(run(wanted, "convclinic.job.tasks:fit", out, workers=workers))
        assert not any(end.error for end in ends), ends
    else:
        for task in wanted:
            (out / task.name).mkdir(parents=True)
            tasks.fit(task.payload, out / task.name)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    times: dict[str, list[float]] = {"bare": [], "one worker": [], "two workers": []}
    with tempfile.TemporaryDirectory() as scratch:
        wanted = made(Path(scratch), options.steps, options.runs)
        once(wanted[:1], Path(scratch) / "out", 0)
        for _ in range(options.rounds):
            for workers, seconds in enumerate(times.values()):
                seconds.append(once(wanted, Path(scratch) / "out", workers))
    bare, one, two = (statistics.median(seconds) for seconds in times.values())
    for name, seconds in times.items():
        print(f"{name:12} {statistics.median(seconds):6.1f} s ({min(seconds):.1f} to {max(seconds):.1f})")
    print(f"the engine costs {one / bare - 1:+.1%} beside the trainings")
    print(f"two at once are {one / two:.2f} times as fast")


if __name__ == "__main__":
    main()
