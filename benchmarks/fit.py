"""The main job, measured: `convclinic fit DATA --budget B` for several seeds, each in a process of its own.

    python benchmarks/fit.py DATA --budget 10m --seeds 0 1 2 --out DIR

Prints one line a run and a summary: test accuracy (read once, at the end), wall time against the
budget, and the training's arithmetic rate (operations of the convolutions and linear layers, three times
the forward pass) against the float32 matrix product measured just before and after. JSON goes to
DIR/summary.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from convclinic.loop import size_at
from convclinic.planning.speed import forward_operations, training_sizes
from convclinic.recipe import Recipe


def product_rate(side: int = 2048, repeats: int = 8) -> float:
    """float32 operations a second of a square matrix product; the best of `repeats`."""
    a, b = torch.randn(side, side), torch.randn(side, side)
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - begin)
    return 2 * side**3 / best


def training_operations(recipe: Recipe, n_classes: int, n_train: int) -> float:
    """Operations of all updates of a run: three forward passes' worth an image (forward, two backward)."""
    cost = {
        size: 3 * forward_operations(recipe, n_classes, *size) * min(recipe.run.batch_size, n_train)
        for size in training_sizes(recipe)
    }
    return sum(cost[size_at(recipe, recipe.progress(step))] for step in range(recipe.total_steps))


def one(data: Path, budget: str, seed: int, out: Path, extra: list[str]) -> dict[str, float]:
    """Run once and read the run folder."""
    before = product_rate()
    command = [sys.executable, "-m", "convclinic", "fit", str(data), "--budget", budget, "--seed", str(seed)]
    begin = time.perf_counter()
    subprocess.run([*command, "--out", str(out), *extra], check=True)
    wall = time.perf_counter() - begin
    rate = max(before, product_rate())
    metrics = json.loads((out / "metrics.json").read_text())
    profile = json.loads((out / "data.json").read_text())["profile"]
    recipe = Recipe.from_dict(json.loads((out / "recipe.json").read_text())["recipe"])
    n_classes = len(metrics["test"]["per_class"])
    done = training_operations(recipe, n_classes, profile["n_train"]) / metrics["seconds"]["train"]
    return {
        "seed": seed,
        "test_accuracy": metrics["test"]["accuracy"],
        "balanced_accuracy": metrics["test"]["balanced_accuracy"],
        "validation_accuracy": metrics["validation"]["accuracy"],
        "wall_seconds": wall,
        "train_seconds": metrics["seconds"]["train"],
        "steps": recipe.total_steps,
        "training_gflops": done / 1e9,
        "product_gflops": rate / 1e9,
        "peak_memory_mb": metrics["peak_memory_bytes"] / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True)
    arguments, extra = parser.parse_known_args()
    rows = []
    for seed in arguments.seeds:
        rows.append(one(arguments.data, arguments.budget, seed, arguments.out / f"seed-{seed}", extra))
        print(json.dumps(rows[-1]), flush=True)
        (arguments.out / "summary.json").write_text(json.dumps(rows, indent=2))
    for key in ("test_accuracy", "balanced_accuracy", "wall_seconds", "training_gflops", "product_gflops"):
        values = [row[key] for row in rows]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{key:<20} mean {statistics.mean(values):.4f}  sd {spread:.4f}  n {len(values)}")


if __name__ == "__main__":
    main()
