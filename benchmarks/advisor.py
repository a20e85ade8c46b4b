"""Few images: is the strategy that the two-by-two table advises as good as the best of all of them?

    python benchmarks/advisor.py DATA --weights FILE --out DIR [--train 10] [--budget 60s] [--draws 3]

From a folder of class folders each draw takes `--train` training and `--validate` validation images a class;
a fixed number of the others are the test images. One run without a word about the strategy, and one with each
strategy, for the same budget. Prints test accuracy by strategy, what was advised, and how far that is from
the best in hindsight and from fine-tuning everything. JSON goes to DIR/summary.json; what is finished is kept
and not repeated.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import subprocess
import sys
from pathlib import Path

from convclinic.planning.transfer import STRATEGIES

ADVISED = "advised"


def drawn(data: Path, out: Path, train: int, validate: int, test: int, seed: int) -> Path:
    """A table of the draw, beside nothing: its paths are absolute."""
    rng = random.Random(seed)
    table = out / f"draw-{seed}.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "split"))
        for folder in sorted(path for path in data.iterdir() if path.is_dir()):
            photos = sorted(folder.iterdir())
            rng.shuffle(photos)
            ends = (train, train + validate, train + validate + test)
            for number, photo in enumerate(photos[: ends[2]]):
                part = next(
                    name for name, end in zip(("train", "val", "test"), ends, strict=True) if number < end
                )
                rows.writerow((photo.resolve(), folder.name, part))
    return table


def accuracy(table: Path, strategy: str, options: argparse.Namespace, folder: Path, seed: int) -> dict:
    """One run; {test, advised}."""
    if not (folder / "report.html").exists():
        command = [sys.executable, "-m", "convclinic", "fit", str(table), "--weights", str(options.weights)]
        command += ["--budget", options.budget, "--seed", str(seed), "--out", str(folder), "--quiet"]
        subprocess.run([*command, *(() if strategy == ADVISED else ("--strategy", strategy))], check=True)
    metrics = json.loads((folder / "metrics.json").read_text())
    reasons = json.loads((folder / "recipe.json").read_text())["reasons"]
    taken = next((r["value"] for r in reasons if r["choice"] == "strategy"), "scratch")
    return {"test": metrics["test"]["accuracy"], "taken": taken.split()[0], "n": metrics["test"]["n"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=10)
    parser.add_argument("--validate", type=int, default=10)
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, dict]] = []
    for seed in range(options.draws):
        table = drawn(options.data, options.out, options.train, options.validate, options.test, seed)
        row = {
            name: accuracy(table, name, options, options.out / f"{seed}-{name}", seed)
            for name in (ADVISED, *STRATEGIES)
        }
        found.append(row)
        told = ", ".join(f"{name} {one['test']:.1%}" for name, one in row.items())
        print(f"draw {seed}: advised {row[ADVISED]['taken']}; {told}", flush=True)
    means = {name: statistics.fmean(row[name]["test"] for row in found) for name in found[0]}
    best = max(STRATEGIES, key=lambda name: means[name])
    (options.out / "summary.json").write_text(json.dumps({"means": means, "draws": found}, indent=1))
    print(
        f"best on the mean of {len(found)}: {best} {means[best]:.1%}; advised {means[ADVISED]:.1%}; "
        f"everything fine-tuned {means['all']:.1%}"
    )


if __name__ == "__main__":
    main()
