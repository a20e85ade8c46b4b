"""What a search finds in equal wall time: ours, Optuna's defaults, Ray Tune's ASHA, on one space.

    python benchmarks/search.py DATA --out DIR [--seconds 100] [--seeds 5] [--tools TOOL…] [--ray PYTHON]

All train by the same function: the same small net, data, epochs and validations a trial, one trial at a time
with one thread. Ours is the product's own trial (SQLite storage, the planned recipe first, some given up by
the clinic's verdict and by their curve); Optuna has `create_study()` as it comes (TPE, and the median pruner
asked at every validation), and once no pruner; Ray Tune has ASHA as it comes over random draws, actors used
again. PYTHON is an interpreter with ray[tune] and convclinic. Two runs go at once, each on a core of its own.
Prints the best validation accuracy among the trials that came to their end, by seed, and ours minus the
others' with a 95 % interval, paired by seed. JSON goes to DIR/summary.json; what is finished is not repeated.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SPACE: dict[str, Any] = {
    "optimise.lr": {"log": [1e-3, 10.0]},
    "optimise.momentum": {"range": [0.0, 0.99]},
    "optimise.weight_decay": {"log": [1e-6, 1e-1]},
    "run.batch_size": [32, 64, 128, 256],
    "regularise.label_smoothing.smoothing": {"range": [0.0, 0.3]},
    "augment": ["none", "shift", "flip,shift", "flip,shift,cutout"],
    "mix": ["none", "mixup", "cutmix"],
    "schedule": ["one_cycle", "linear", "cosine", "constant"],
}
SETTINGS = ("net=fast", "net.widths=[8,16,32]", "activate=relu", "initialise=none", "optimise=sgd")
IMAGES, EVALUATIONS, SIDE = 13500, 8, 14
TOOLS = ("ours", "ours without pruning", "optuna", "optuna without pruning", "asha")


def planned(out: Path) -> dict[str, Any]:
    """The plan that all tools follow."""
    from convclinic.recipe import Recipe
    from convclinic.slots import Input
    from convclinic.study import spaces

    base = dataclasses.replace(Recipe(), data=Input(SIDE, SIDE, 1)).override(SETTINGS)
    return {
        "recipe": base.to_dict(),
        "space": spaces.to_plain(spaces.parse(SPACE, base)),
        "sampler": "tpe",
        "prune": True,
        "clinic": "watch",
        "measure": "accuracy",
        "images": IMAGES,
        "evaluations": EVALUATIONS,
        "seconds": 0.0,
    }


def curve(out: Path, plan: dict[str, Any], values: dict[str, Any]) -> Iterator[tuple[int, float]]:
    """Train one trial; yields the number of each validation and the best accuracy so far."""
    import torch

    from convclinic import loop
    from convclinic.job.search_trial import with_length
    from convclinic.recipe import Recipe
    from convclinic.study import spaces
    from convclinic.study.comparing import opened

    space = spaces.from_plain(plan["space"])
    recipe = with_length(spaces.applied(Recipe.from_dict(plan["recipe"]), space, values), plan)
    data, device = opened(out / "data"), torch.device("cpu")
    state, best, number = loop.start(recipe, data, device), 0.0, 0
    for record in loop.fit(recipe, data, state):
        if record.val_accuracy is not None:
            number, best = number + 1, max(best, record.val_accuracy)
            yield number, best


def ours(out: Path, folder: Path, seed: int, seconds: float, prune: bool) -> list[dict[str, Any]]:
    from convclinic.job.search_trial import work
    from convclinic.recipe import Recipe
    from convclinic.study import search as store
    from convclinic.study import spaces

    plan = {**planned(out), "seed": seed, "prune": prune}
    url, ends, slot = f"sqlite:///{folder / 'trials.db'}", time.time() + seconds, 0
    study, _ = store.open_study(url, "search")
    space, base = spaces.from_plain(plan["space"]), Recipe.from_dict(plan["recipe"])
    store.begin(study, plan, [spaces.planned_values(space, base)])
    shared = {"storage": url, "name": "search", "folder": str(out / "data"), "device": "cpu"}
    while time.time() < ends:
        own = folder / f"slot-{slot}"
        own.mkdir()
        if work({**shared, "slot": slot, "most": 10**6, "ends": ends}, own) is None:
            break
        slot += 1
    return [{"score": one.score, "whole": one.state == store.COMPLETE} for one in store.tried(study)]


def by_optuna(out: Path, folder: Path, seed: int, seconds: float, prune: bool) -> list[dict[str, Any]]:
    import optuna

    from convclinic.study import spaces
    from convclinic.study.search import suggested

    plan, ends = planned(out), time.time() + seconds
    space = spaces.from_plain(plan["space"])

    def objective(trial: optuna.Trial) -> float:
        best = 0.0
        for number, best in curve(out, plan, suggested(trial, space)):
            trial.report(best, number)
            if number < EVALUATIONS and (trial.should_prune() or time.time() > ends):
                raise optuna.TrialPruned
        return best

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner()
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    study.optimize(objective, timeout=seconds)
    whole = optuna.trial.TrialState.COMPLETE
    return [
        {"score": max(one.intermediate_values.values(), default=0.0), "whole": one.state == whole}
        for one in study.trials
    ]


def by_asha(out: Path, folder: Path, seed: int, seconds: float) -> list[dict[str, Any]]:
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    plan = planned(out)

    def drawn(p: dict[str, Any]) -> Any:
        if p["kind"] == "choices":
            return tune.choice(list(p["choices"]))
        return (tune.loguniform if p["kind"] == "log" else tune.uniform)(p["low"], p["high"])

    class Trial(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            import torch

            torch.set_num_threads(1)
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.curve = curve(out, plan, new_config)
            return True

        def step(self) -> dict[str, Any]:
            number, best = next(self.curve)
            return {"score": best, "done": number == EVALUATIONS}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            return None

    ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    # the clock starts when a worker is up, with its libraries loaded
    ray.get(ray.remote(lambda: __import__("convclinic.loop") and None).remote())
    tuner = tune.Tuner(
        Trial,
        param_space={p["name"]: drawn(p) for p in plan["space"]},
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max",
            num_samples=-1,
            time_budget_s=seconds,
            scheduler=ASHAScheduler(max_t=EVALUATIONS),
            reuse_actors=True,
            max_concurrent_trials=1,
            search_alg=tune.search.BasicVariantGenerator(random_state=seed, max_concurrent=1),
        ),
        run_config=tune.RunConfig(storage_path=str(folder.resolve()), verbose=0),
    )
    rows = [one.metrics for one in tuner.fit() if one.metrics]
    return [
        {"score": row["score"], "whole": row["training_iteration"] == EVALUATIONS}
        for row in rows
        if "score" in row
    ]


def one(tool: str, out: Path, folder: Path, seed: int, seconds: float) -> None:
    """One search, in this process; its result into `folder`."""
    import torch

    torch.set_num_threads(1)
    begin = time.time()
    if tool == "asha":
        rows = by_asha(out, folder, seed, seconds)
    else:
        by = ours if tool.startswith("ours") else by_optuna
        rows = by(out, folder, seed, seconds, "without" not in tool)
    whole = [row["score"] for row in rows if row["whole"]]
    wall = time.time() - begin
    found = {"best": max(whole, default=0.0), "trials": len(rows), "whole": len(whole), "wall": wall}
    (folder / "found.json").write_text(json.dumps(found))


def assembled(data: Path, out: Path) -> None:
    from convclinic.data.dataset import assemble
    from convclinic.data.sources import open_source
    from convclinic.data.survey import survey

    if not (out / "data" / "data.json").exists():
        (out / "data").mkdir(parents=True, exist_ok=True)
        source = open_source(data)
        assemble(source, survey(source, seed=0), (SIDE, SIDE, 1), out / "data", seed=0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ray", default="", help="an interpreter with ray[tune] and convclinic")
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=TOOLS)
    parser.add_argument("--one", nargs=2, metavar=("TOOL", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    tools = [tool for tool in TOOLS if tool in options.tools and (tool != "asha" or options.ray)]
    if options.one:
        tool, seed = options.one[0], int(options.one[1])
        one(tool, options.out, options.out / f"{tool.replace(' ', '-')}-{seed}", seed, options.seconds)
        return
    assembled(options.data, options.out)
    jobs = [(tool, seed) for seed in range(options.seeds) for tool in tools]
    folders = {job: options.out / f"{job[0].replace(' ', '-')}-{job[1]}" for job in jobs}
    left = [job for job in jobs if not (folders[job] / "found.json").exists()]
    running: dict[int, subprocess.Popen[bytes]] = {}
    while left or running:
        for core in range(min(2, os.cpu_count() or 1)):
            if core in running and running[core].poll() is not None and running.pop(core).returncode:
                raise SystemExit("a search failed")
            if core not in running and left:
                tool, seed = left.pop(0)
                folders[tool, seed].mkdir(parents=True)
                python = options.ray if tool == "asha" else sys.executable
                words = [python, __file__, str(options.data), "--out", str(options.out)]
                words += ["--seconds", str(options.seconds), "--one", tool, str(seed)]
                pinned = ["taskset", "-c", str(core), *words]
                running[core] = subprocess.Popen(pinned, env={**os.environ, "OMP_NUM_THREADS": "1"})
        time.sleep(0.5)
    found = {job: json.loads((folder / "found.json").read_text()) for job, folder in folders.items()}
    for tool in tools:
        rows = [found[tool, seed] for seed in range(options.seeds)]
        scores = ", ".join(f"{row['best']:.2%}" for row in rows)
        mean = statistics.fmean(row["best"] for row in rows)
        trials = statistics.fmean(row["trials"] for row in rows)
        whole = statistics.fmean(row["whole"] for row in rows)
        print(f"{tool}: {mean:.2%} ({scores}); {trials:.0f} trials, {whole:.0f} to their end")
    from convclinic.study.comparing import mean_of

    gains = {
        tool: mean_of([found["ours", s]["best"] - found[tool, s]["best"] for s in range(options.seeds)])
        for tool in tools[1:]
    }
    for tool, gain in gains.items():
        print(
            f"ours minus {tool}: {100 * gain.mean:+.2f} points "
            f"({100 * (gain.low or 0):+.2f} to {100 * (gain.high or 0):+.2f}, n = {gain.n})"
        )
    summary = {
        "found": {f"{tool}-{seed}": row for (tool, seed), row in found.items()},
        "gains": {tool: dataclasses.asdict(gain) for tool, gain in gains.items()},
    }
    (options.out / "summary.json").write_text(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
