"""Cross-validation killed at random moments: is a finished fold ever trained again, or lost?

    python benchmarks/kills.py [--kills 20] [--folds 40] [--steps 100] [--workers 2]

Trains small nets on scikit-learn's digits by `convclinic crossval` in a process of its own, kills that
(SIGKILL) a random time after it began to train, and starts the same command again, so many times; then lets
it finish.
After every kill each result that was there must be there still, untouched; at the end there must be all of
them, and each equal to that of a cross-validation which nobody killed. Exits with an error where one is not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
PATIENCE = 300.0  # seconds for a start to train


def results(folder: Path) -> dict[str, tuple[int, Any]]:
    """Of each finished fold: when it was written, and its metrics without the seconds they took."""
    found: dict[str, tuple[int, Any]] = {}
    for path in folder.glob("fold-*/result.json"):
        plain = json.loads(path.read_text())["result"]
        kept = {key: plain[key] for key in ("test", "validation", "best_step", "temperature")}
        found[path.parent.name] = path.stat().st_mtime_ns, kept
    return found


def training(folder: Path, since: float) -> bool:
    """Whether a fold's history has been written to since a time.time(): one that was begun before does not
    count until it goes on."""
    return any(path.stat().st_mtime > since for path in folder.glob("fold-*/history.jsonl"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--folds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    drawn = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        digits, data = load_digits(), Path(scratch) / "digits.npz"
        np.savez(data, x=(digits.images * 15.9).astype(np.uint8), y=digits.target)
        settings = ("net.widths=[16,32]", f"run.steps={options.steps}", "run.evaluate_every=100")

        def command(out: Path) -> list[str]:
            words = [sys.executable, "-m", "convclinic", "crossval", str(data), "--out", str(out), "--quiet"]
            words += ["--folds", str(options.folds), "--workers", str(options.workers)]
            return [*words, *(word for setting in settings for word in ("--set", setting))]

        out, before, useful = Path(scratch) / "killed", results(Path(scratch) / "killed"), 0
        for number in range(options.kills):
            process = subprocess.Popen(command(out), env=ENVIRONMENT, stderr=subprocess.DEVNULL)
            begun = time.time()
            while not training(out, begun) and process.poll() is None and time.time() < begun + PATIENCE:
                time.sleep(0.05)
            time.sleep(drawn.uniform(0.0, 6.0))
            useful += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(3.0)  # orphans end by themselves
            now = results(out)
            changed = [name for name, row in before.items() if now.get(name) != row]
            if changed:
                raise SystemExit(f"kill {number + 1}: {', '.join(changed)} lost or trained again")
            print(f"kill {number + 1}: {len(now)} of {options.folds} finished, all as before", flush=True)
            before = now
        subprocess.run(command(out), env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
        end = results(out)
        if len(end) != options.folds or any(end[name] != row for name, row in before.items()):
            raise SystemExit("a fold is missing or was trained again at the end")
        whole = Path(scratch) / "whole"
        subprocess.run(command(whole), env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
        other = [name for name, (_, kept) in results(whole).items() if end[name][1] != kept]
        if other:
            raise SystemExit(f"{', '.join(other)} differ from those that nobody killed")
    print(f"{useful} kills in the midst of training: nothing lost, nothing repeated, the same results")


if __name__ == "__main__":
    main()
