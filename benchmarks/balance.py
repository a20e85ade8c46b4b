"""The policies for rare classes, compared: one plan, a fixed number of steps, several seeds.

    python benchmarks/balance.py DATA --steps 400 --seeds 0 1 2 --out DIR [--policies up_sampling two_part]

The recipe is planned once, without a policy; every run follows it, with its own seed for split, weights and
draws, and with one policy more. Weights are those of the last step, so no policy is favoured by how the best
ones would be chosen. Prints one line a run; then for each policy the balanced accuracy on validation as mean
and standard deviation over the seeds, what it gains over no policy on the same seed, and the recall of the
class recalled worst. JSON goes to DIR/summary.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import convclinic
from convclinic.recipe import Recipe

POLICIES: dict[str, tuple[str, ...]] = {
    "none": ("balance=none",),
    "up_sampling": ("balance=up_sampling",),
    "up_sampling, half": ("balance.up_sampling.strength=0.5",),
    "down_sampling": ("balance=down_sampling",),
    "rare_crops": ("balance=rare_crops",),
    "two_part": ("balance=two_part",),
    "two_part, keep 0": ("balance.two_part.keep=0.0",),
    "class_weights": ("balance=class_weights",),
    "class_weights, root": ("balance.class_weights.power=0.5",),
    "class_weights, beta 0.999": ("balance.class_weights.beta=0.999",),
    "logit_adjustment": ("balance=logit_adjustment",),
}


def one(data: Path, recipe: Recipe, policy: str, seed: int, out: Path) -> dict[str, Any]:
    """Run once and read the run's validation."""
    folder = out / f"{policy.replace(', ', '-').replace(' ', '-')}-{seed}"
    settings = POLICIES[policy]
    run = convclinic.fit(data, out=folder, seed=seed, recipe=recipe, settings=settings, quiet=True)
    validation = run.metrics["validation"]
    recalls = {row["class"]: row["recall"] for row in validation["per_class"]}
    return {
        "policy": policy,
        "seed": seed,
        "balanced_accuracy": validation["balanced_accuracy"],
        "accuracy": validation["accuracy"],
        "worst_recall": min(recall for recall in recalls.values() if recall is not None),
        "recalls": recalls,
        "train_seconds": run.metrics["seconds"]["train"],
    }


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation, in per cent."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):6.2f} ({100 * deviation:.2f})"


def table(rows: list[dict[str, Any]]) -> str:
    """One line a policy; differences are taken seed by seed."""
    bare = {row["seed"]: row["balanced_accuracy"] for row in rows if row["policy"] == "none"}
    lines = [f"{'policy':<26} {'balanced (sd)':>15} {'gain (sd)':>15} {'worst recall':>15} {'accuracy':>15}"]
    for policy in dict.fromkeys(row["policy"] for row in rows):
        own = [row for row in rows if row["policy"] == policy]
        gains = [row["balanced_accuracy"] - bare[row["seed"]] for row in own if row["seed"] in bare]
        columns = [
            spread([row["balanced_accuracy"] for row in own]),
            spread(gains) if gains else "",
            spread([row["worst_recall"] for row in own]),
            spread([row["accuracy"] for row in own]),
        ]
        lines.append(f"{policy:<26} " + " ".join(f"{column:>15}" for column in columns) + f"  n {len(own)}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--policies", nargs="+", choices=list(POLICIES), default=list(POLICIES))
    parser.add_argument("--set", dest="settings", action="append", default=[], help="for every run")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    fixed = [
        "balance=none",
        *arguments.settings,
        f"run.steps={arguments.steps}",
        f"run.evaluate_every={arguments.steps}",
    ]
    plan, _ = convclinic.plan(arguments.data, seed=arguments.seeds[0], settings=fixed, quiet=True)
    recipe = plan.recipe.override(fixed)  # the plan counts its own evaluations
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        for policy in arguments.policies:
            rows.append(one(arguments.data, recipe, policy, seed, arguments.out))
            print(json.dumps(rows[-1]), flush=True)
            (arguments.out / "summary.json").write_text(json.dumps(rows, indent=2))
    print(table(rows))


if __name__ == "__main__":
    main()
