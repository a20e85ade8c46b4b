"""The fault bench: does the clinic name planted faults, and is it silent on healthy runs?

    python benchmarks/clinic/bench.py --half tuning --out DIR [--only PATTERN] [--quick] [--seed N]

Trains small nets on small data in a plain loop, with a fault planted or without, and asks the clinic for its
findings on the way (after 5, 10, 20, 50 and 100 steps) and at the end. Each planted run is compared with its
healthy twin (same net, data, optimizer, seed): it counts as a fault only if it harms. Results go to
DIR/results.jsonl, one line a run, and are reused as long as the code behind them is the same. `--quick` takes
every fourth scenario, `--preflight` forces preflight on or off (else about half the runs have one), and
`--unwatched` measures the harm alone, `--keep` takes earlier results whatever code made them. `--data` is a
folder with `fashion-mnist/`, `cifar10-jpeg.tar.xz` and
`bccd-crops.tar`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import torch  # noqa: E402

from clinic.families import HALVES, Base  # noqa: E402
from clinic.loop import Attach, train  # noqa: E402
from clinic.scenarios import STEPS, Scenario, scenarios  # noqa: E402
from clinic.scoring import report  # noqa: E402

DATA = HERE.parents[2] / "shared" / "data"
LOOP = ("data.py", "nets.py", "loop.py", "families.py")  # what an unwatched healthy run depends on
Row = dict[str, Any]


def attach(model: torch.nn.Module, optimizer: torch.optim.Optimizer, classes: int) -> Any:
    """The clinic as the contract makes it."""
    from convclinic.clinic import Clinic

    return Clinic(model, optimizer, classes=classes)


def fingerprint(files: list[Path]) -> str:
    """A short hash of what is written in these files."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()[:12]


class Results:
    """The lines of `results.jsonl`; a later line replaces an earlier one of the same key."""

    def __init__(self, file: Path, keep: bool) -> None:
        self.file, self.keep = file, keep
        self.rows: dict[str, Row] = {}
        if file.exists():
            for line in file.read_text().splitlines():
                row = json.loads(line)
                self.rows[row["key"]] = row

    def get(self, key: str, code: str) -> Row | None:
        row = self.rows.get(key)
        return row if row and (self.keep or row["code"] == code) else None

    def add(self, row: Row) -> None:
        self.rows[row["key"]] = row
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as out:
            out.write(json.dumps(row) + "\n")


class Bench:
    """Runs scenarios and twins, or takes them from earlier results."""

    def __init__(self, data: Path, out: Path, watched: Attach | None, keep: bool = False) -> None:
        self.data, self.cache, self.watched = data, out / "cache", watched
        self.results = Results(out / "results.jsonl", keep)
        own = [HERE / name for name in LOOP]
        self.loop = fingerprint(own)
        clinic = HERE.parents[1] / "convclinic" / "clinic"
        planted = [*own, *HERE.glob("faults_*.py"), *HERE.glob("healthy_*.py"), HERE / "planting.py"]
        self.code = fingerprint([*planted, *(clinic.rglob("*.py") if watched else [])])

    def twin(self, base: Base) -> Row:
        """The healthy base, unwatched."""
        key = f"twin/{base.name}"
        row = self.results.get(key, self.loop)
        if row is None:
            result = train(base.run(self.data, self.cache))
            row = {"key": key, "code": self.loop, "kind": "twin", **asdict(result)}
            self.results.add(row)
        return row

    def watch(self, scenario: Scenario) -> Row:
        key = scenario.name + ("" if self.watched else "/unwatched")
        row = self.results.get(key, self.code)
        if row is None:
            torch.manual_seed(scenario.base.seed)
            run = scenario.base.run(self.data, self.cache)
            scenario.fault.plant(run)
            result = train(run, self.watched, scenario.preflight)
            row = {
                "key": key,
                "code": self.code,
                "kind": scenario.kind,
                "fault": scenario.fault.name,
                "causes": list(scenario.fault.causes),
                "base": scenario.base.name,
                "half": scenario.half,
                "preflight": scenario.preflight,
                "batch": run.batch,
                "planned": run.steps,
                **asdict(result),
            }
            self.results.add(row)
        return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--half", choices=HALVES, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/clinic-bench"))
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", default="*", help="pattern of scenario names, such as 'fault/lr_*'")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0, help="of the split, the places, weights and order")
    parser.add_argument("--preflight", choices=("mixed", "on", "off"), default="mixed")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--unwatched", action="store_true")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    every = scenarios(arguments.half, arguments.steps, arguments.seed, arguments.preflight)
    chosen = [one for one in every if fnmatch(one.name, f"*{arguments.only}*")]
    chosen = chosen[::4] if arguments.quick else chosen
    watched = None if arguments.unwatched else attach
    bench = Bench(arguments.data, arguments.out, watched, arguments.keep)
    pairs: list[tuple[Row, Row]] = []
    for number, scenario in enumerate(chosen, 1):
        begin = time.perf_counter()
        pairs.append((bench.watch(scenario), bench.twin(scenario.base)))
        took = time.perf_counter() - begin
        print(f"{number}/{len(chosen)} {took:5.1f} s {scenario.name}", file=sys.stderr, flush=True)
    print(report(pairs))


if __name__ == "__main__":
    main()
