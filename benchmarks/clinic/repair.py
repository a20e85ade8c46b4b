"""Repairs: does `fit --clinic treat` cure planted faults, and better than random changes do?

    python benchmarks/clinic/repair.py --half tuning --out DIR [--seed N] [--only PATTERN]

Plants faults into convclinic's own recipes on small real data, one line a planting: test accuracy of the
healthy twin, of the faulty run, of the faulty run with `--clinic treat`, and of the same with random changes
in place of the clinic's remedies. Random changes are tried at the same moments, from the same checkpoints,
within the same budget, and kept by the same rule; where the clinic is silent they begin after a quarter of
the run all the same. A planting counts as a fault where it costs 3 points of test accuracy, and as repaired
where 90 % of them come back. "worse": a kept remedy after which the test accuracy is lower than the faulty
run's, by more than two standard errors paired by image. cost: images trained on, over those of the plain run;
preflight, which fits a copy to one batch for about ten steps, and evaluations are not counted. Some healthy
recipes run with treatment too. `--data` is a folder with `fashion-mnist/`, `cifar10-jpeg.tar.xz` and
`trashnet-256.tar`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from clinic.repair_cases import HALVES, Case, cases, changes, load  # noqa: E402
from convclinic import loop  # noqa: E402
from convclinic.clinic.remedies import Remedy  # noqa: E402
from convclinic.data.dataset import Dataset  # noqa: E402
from convclinic.ground.errors import ConvclinicError  # noqa: E402
from convclinic.ground.stats import wilson  # noqa: E402
from convclinic.job import treating, watching  # noqa: E402
from convclinic.job.display import Silent  # noqa: E402
from convclinic.job.training import train  # noqa: E402
from convclinic.kinds import Finding  # noqa: E402
from convclinic.recipe import Recipe  # noqa: E402

DATA = HERE.parents[2] / "shared" / "data"
HARM, REGAINED = 0.03, 0.9
SILENT = 0.25  # of the run, after which random changes begin where the clinic has said nothing
CPU = torch.device("cpu")


@dataclass
class Outcome:
    """right: whether each test image is; cost in images trained on; what was tried."""

    right: np.ndarray
    images: int
    trials: list[dict[str, Any]] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def kept(self) -> list[str]:
        return [f"{trial['cause']}: {trial['edit']}" for trial in self.trials if trial["kept"]]


def run(
    recipe: Recipe, data: Dataset, folder: Path, mode: str, chance: random.Random | None = None
) -> Outcome:
    """One training as `fit` does it, without plan and report. chance: random changes instead of remedies."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    fit, images = loop.fit, 0

    def counted(recipe: Recipe, data: Dataset, state: loop.State) -> Iterator[Any]:
        nonlocal images
        for record in fit(recipe, data, state):
            images += recipe.run.batch_size
            yield record

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(loop, "fit", counted))
        if chance is not None:
            at_random(stack, chance)
        try:
            recipe, state = train(recipe, data, folder, CPU, Silent(), None, mode)
        except ConvclinicError:  # broken down, and no remedy: as bad as chance
            return Outcome(_chance(data), images, *_written(folder))
    if state.best is not None:
        state.judged.load_state_dict(state.best)
    logits, labels = loop.split_logits(recipe, data, "test", state.judged, state.fitted, CPU)
    return Outcome((logits.argmax(1) == labels).numpy(), images, *_written(folder))


def at_random(stack: ExitStack, chance: random.Random) -> None:
    """Random changes in place of remedies, also where the clinic is silent."""
    alarms = watching.Watcher.alarms.fget
    assert alarms is not None

    def proposed(finding: Finding, recipe: Recipe) -> Iterator[Remedy]:
        del finding
        yield from changes(recipe, chance)

    def heard(watcher: watching.Watcher) -> list[Finding]:
        begun = watcher.state.step >= SILENT * watcher.recipe.total_steps
        return list(alarms(watcher)) or ([Finding("silence", "warning")] if begun else [])

    stack.enter_context(mock.patch.object(treating, "candidates", proposed))
    stack.enter_context(mock.patch.object(treating, "general", lambda recipe: ()))
    stack.enter_context(mock.patch.object(treating, "suspects", lambda recipe, data: []))
    stack.enter_context(mock.patch.object(watching.Watcher, "alarms", property(heard)))


def _chance(data: Dataset) -> np.ndarray:
    labels = data.labels[data.indices("test")]
    return labels == labels[0]


def _written(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    trials, findings = folder / treating.TREATMENTS, folder / watching.CLINIC
    found = json.loads(findings.read_text()) if findings.exists() else []
    causes = [row["cause"] + ("" if row["severity"] != "info" else "?") for row in found]
    return json.loads(trials.read_text()) if trials.exists() else [], causes


@dataclass
class Row:
    """One planting, its twin and its two treatments."""

    name: str
    healthy: float
    faulty: float
    treated: float
    random: float
    worse: bool
    random_worse: bool
    kept: list[str]
    random_kept: list[str]
    tried: list[str]
    random_tried: int
    alarms: list[str]
    cost: float
    random_cost: float
    seconds: float

    @property
    def harmed(self) -> bool:
        return self.healthy - self.faulty >= HARM

    def regained(self, accuracy: float) -> float:
        """Share of the lost accuracy."""
        return (accuracy - self.faulty) / (self.healthy - self.faulty)

    def line(self) -> str:
        ends = (self.treated, self.random)
        share = [f"{self.regained(end):6.0%}" if self.harmed else "   -  " for end in ends]
        return (
            f"{self.name:44} {self.healthy:.3f} {self.faulty:.3f} | {self.treated:.3f} {share[0]} "
            f"{self.cost:4.2f} {'worse' if self.worse else ''} | {self.random:.3f} {share[1]} "
            f"{self.random_cost:4.2f} {'worse' if self.random_worse else ''} | {'; '.join(self.kept) or '-'}"
            f"{' <- ' + ', '.join(self.alarms) if not self.kept else ''}"
        )


class Bench:
    """Runs cases; twins and data are kept for the next case that has them."""

    def __init__(self, folder: Path, out: Path, seed: int, alone: bool) -> None:
        self.folder, self.out, self.seed, self.alone = folder, out, seed, alone
        self.twins: dict[str, Outcome] = {}

    def twin(self, case: Case, data: Dataset) -> Outcome:
        key = case.twin_name
        if key not in self.twins:
            self.twins[key] = run(case.healthy, data, self.out / "run", "off")
        return self.twins[key]

    def row(self, case: Case) -> Row:
        begin = time.perf_counter()
        data = load(case.data, self.folder, self.out / "cache", self.seed, case.few, case.rare)
        healthy, scratch = self.twin(case, data), self.out / "run"
        faulty = run(case.faulty, data, scratch, "off")
        treated = run(case.faulty, data, scratch, "treat")
        drawn = random.Random(f"{case.name} {self.seed}")
        chance = faulty if self.alone else run(case.faulty, data, scratch, "treat", drawn)
        return Row(
            case.name,
            healthy.accuracy,
            faulty.accuracy,
            treated.accuracy,
            chance.accuracy,
            _worse(treated, faulty),
            _worse(chance, faulty),
            treated.kept,
            chance.kept,
            [f"{t['cause']}: {t['edit']}" for t in treated.trials],
            len(chance.trials),
            treated.causes,
            treated.images / _plain(case.faulty),
            chance.images / _plain(case.faulty),
            time.perf_counter() - begin,
        )


def _plain(recipe: Recipe) -> int:
    return recipe.total_steps * recipe.run.batch_size


def _worse(treated: Outcome, faulty: Outcome) -> bool:
    """Whether something was kept, and the result is worse by more than two standard errors."""
    lost = faulty.right.astype(float) - treated.right.astype(float)
    return bool(treated.kept) and bool(lost.mean() > 2 * lost.std(ddof=1) / math.sqrt(len(lost)) > 0)


def summary(rows: list[Row]) -> str:
    """The measures, over the plantings that harmed, and the treatment of healthy runs."""
    faults = [row for row in rows if row.harmed and not row.name.startswith("healthy")]
    healthy = [row for row in rows if row.name.startswith("healthy")]
    lines = [f"{len(rows) - len(healthy)} plantings, {len(faults)} of which harmed", ""]
    lines += ["| | treat | random changes |", "|---|---|---|"]
    treated = [row.regained(row.treated) >= REGAINED for row in faults]
    chance = [row.regained(row.random) >= REGAINED for row in faults]
    lines.append(f"| regained 90 % of the lost accuracy | {_share(treated)} | {_share(chance)} |")
    heard = [row.regained(row.treated) >= REGAINED for row in faults if row.tried]
    lines.append(f"| the same, where the clinic gave an alarm | {_share(heard)} | |")
    kept = [(sum(bool(r.kept) for r in rows), sum(r.worse for r in rows))]
    kept.append((sum(bool(r.random_kept) for r in rows), sum(r.random_worse for r in rows)))
    lines.append("| kept, and worse for it | " + " | ".join(f"{w} of {k}" for k, w in kept) + " |")
    costs = [[r.cost for r in faults], [r.random_cost for r in faults]]
    told = " | ".join(f"{np.mean(c):.2f}, at most {max(c):.2f}" for c in costs if c)
    lines.append(f"| cost in trainings, mean | {told} |")
    touched = (sum(bool(row.kept) for row in healthy), sum(bool(row.random_kept) for row in healthy))
    told = " | ".join(f"{count} of {len(healthy)}" for count in touched)
    lines.append(f"| healthy recipes in which something was kept | {told} |")
    return "\n".join(lines)


def _share(hits: list[bool]) -> str:
    low, high = wilson(sum(hits), len(hits))
    return f"{sum(hits)} of {len(hits)} = {sum(hits) / max(1, len(hits)):.1%} ({low:.0%} to {high:.0%})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--half", choices=HALVES, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/clinic-repair"))
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="*", help="pattern of names, such as 'lr_*'")
    parser.add_argument("--alone", action="store_true", help="without random changes, for tuning")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments.data, arguments.out, arguments.seed, arguments.alone)
    rows: list[Row] = []
    for case in cases(arguments.half, arguments.seed):
        if fnmatch(case.name, f"*{arguments.only}*"):
            rows.append(bench.row(case))
            print(rows[-1].line(), flush=True)
    (arguments.out / f"{arguments.half}-{arguments.seed}.json").write_text(
        json.dumps([asdict(row) for row in rows], indent=1)
    )
    print("\n" + summary(rows))


if __name__ == "__main__":
    main()
