"""What an ensemble of five gains over the best single net, and snapshots of one run over a run of equal cost.

    python benchmarks/ensemble.py DATA --out DIR [--budget 3m] [--set SLOT.OPTION=VALUE] [--half HALF]

One run by the planner's recipe in the budget; four more with other seeds, joined with it (`ensemble --members
5`); and one run of as many steps whose LR goes through five cycles, a snapshot at the end of each, joined.
The two halves can be measured alone (--half seeds, --half snapshots).
Prints test accuracies, and gains with a 95 % interval, paired by image. What is finished is not repeated.
JSON goes to DIR/summary.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

MEMBERS = 5
CYCLES = ("schedule=cyclic_cosine", f"schedule.cyclic_cosine.cycles={MEMBERS}", f"run.snapshots={MEMBERS}")


def convclinic(*words: str, out: Path) -> Path:
    if not (out / "report.html").exists():
        command = [sys.executable, "-m", "convclinic", *words, "--out", str(out), "--quiet"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


def changes(settings: tuple[str, ...] | list[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def answers(run: Path, data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, k) and labels (n,) of the test images that `data`'s split has."""
    from convclinic.data.dataset import reopen
    from convclinic.evaluate import split_logits
    from convclinic.model_file import load

    model = load(run)
    logits, labels = split_logits(model, reopen(data), "test")
    return model.probabilities(logits), labels


def main() -> None:
    from convclinic.study.ensembles import gained

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", default="3m")
    parser.add_argument("--set", action="append", default=[], metavar="SLOT.OPTION=VALUE")
    parser.add_argument("--half", choices=("seeds", "snapshots"))
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    planned = ["fit", options.data, "--budget", options.budget, *changes(options.set)]
    single = convclinic(*planned, out=out / "single")
    runs = {"single": single}
    if options.half != "snapshots":
        runs["joint"] = convclinic("ensemble", str(single), "--members", str(MEMBERS), out=out / "joint")
    if options.half != "seeds":
        recipe = ["--recipe", str(single / "recipe.json"), *changes(CYCLES)]
        runs["cycled"] = convclinic("fit", options.data, *recipe, out=out / "cycled")
        runs["snapshots"] = convclinic("ensemble", str(runs["cycled"]), out=out / "snapshots")
    facts = {name: json.loads((run / "metrics.json").read_text()) for name, run in runs.items()}
    summary: dict[str, Any] = {
        "steps": facts["single"]["steps"],
        "accuracy": {name: one["test"]["accuracy"] for name, one in facts.items()},
        "seconds": {name: facts[name]["seconds"]["train"] for name in facts if name in ("single", "cycled")},
        "joined": {name: one["ensemble"] for name, one in facts.items() if "ensemble" in one},
    }
    for name, one in summary["joined"].items():
        members = ", ".join(f"{member['test']:.2%}" for member in one["members"])
        print(
            f"{name} by {one['method']}: {one['accuracy']:.2%}, {words(one['gain'])} points over the best "
            f"member by validation; members {members}"
        )
    if "snapshots" in runs:
        plain, labels = answers(single, single)
        several, other = answers(runs["snapshots"], runs["cycled"])
        if (labels != other).any():
            raise SystemExit("the two runs have other test images")
        gain = summary["snapshots beside a run of equal cost"] = gained(several, plain, labels)
        print(f"snapshots beside a run of equal cost ({summary['accuracy']['single']:.2%}): {words(gain)}")
    (out / "summary.json").write_text(json.dumps(summary, indent=1))


def words(gain: Sequence[float]) -> str:
    mean, low, high = (100 * value for value in gain)
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


if __name__ == "__main__":
    main()
