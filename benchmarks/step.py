"""What the tricks cost: a step of the training loop with all default tricks, against a bare loop's.

    python benchmarks/step.py DATA --size 32 --rounds 7 --steps 10

Both train the net, the optimiser and the batch size that the planner chooses for images of this size. The
bare loop has its batch at hand, as a normalised float tensor, and does nothing but forward, loss,
backward and update; the other one is `convclinic.loop.fit` with augmentation, preparation, label
smoothing, schedule, gradient norm, averaging and records, from the cached store. Rounds alternate;
printed are the median step times and the median of their ratio within a round.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from convclinic import loop
from convclinic.data.dataset import Dataset, assemble
from convclinic.data.sources import open_source
from convclinic.data.survey import survey
from convclinic.model import prepared, to_tensor
from convclinic.planning import hardware, planner
from convclinic.planning.orientation import MirrorTest
from convclinic.recipe import Recipe
from convclinic.slots import Input

CPU = torch.device("cpu")
FOREVER = 10**9


def bare_step(recipe: Recipe, data: Dataset, state: loop.State, steps: int) -> float:
    """Median seconds of forward, loss, backward and update on one prepared batch."""
    chosen = data.indices("train")[: recipe.run.batch_size]
    images = prepared(recipe.prepare, state.fitted, to_tensor(data.images(chosen)).float() / 255)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(data.labels[chosen])
    low = recipe.run.precision == "bfloat16"
    times: list[float] = []
    for _ in range(steps):
        begin = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            logits = state.net(images).float()
        loss = F.cross_entropy(logits, labels)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def full_step(recipe: Recipe, data: Dataset, state: loop.State, steps: int) -> float:
    """Median seconds of a step of the real loop."""
    times: list[float] = []
    last = time.perf_counter()
    for record in loop.fit(recipe, data, state):
        now = time.perf_counter()
        times.append(now - last)
        last = now
        if len(times) == steps or record.step == recipe.total_steps:
            break
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    source = open_source(arguments.data)
    with tempfile.TemporaryDirectory() as folder:
        shape = Input(arguments.size, arguments.size, 3)
        size = (shape.height, shape.width, shape.channels)
        data = assemble(source, survey(source, seed=0), size, Path(folder), seed=0)
        machine = hardware.measure(CPU)
        recipe, _ = planner.draft(data.profile, shape, machine, MirrorTest(1000, 0.9, 0.9, 0.1), 0)
        run = dataclasses.replace(recipe.run, steps=FOREVER, evaluate_every=FOREVER, sizes=())
        recipe = dataclasses.replace(recipe, run=run)
        state = loop.start(recipe, data, CPU)
        full_step(recipe, data, state, 2)
        bare_step(recipe, data, state, 2)
        rows = [
            (
                bare_step(recipe, data, state, arguments.steps),
                full_step(recipe, data, state, arguments.steps),
            )
            for _ in range(arguments.rounds)
        ]
    ratios = [full / bare for bare, full in rows]
    print(
        json.dumps(
            {
                "net": type(recipe.net).__name__,
                "batch_size": recipe.run.batch_size,
                "precision": recipe.run.precision,
                "bare_ms": round(1000 * statistics.median(bare for bare, _ in rows), 1),
                "full_ms": round(1000 * statistics.median(full for _, full in rows), 1),
                "full_over_bare": round(statistics.median(ratios), 3),
                "range": [round(min(ratios), 3), round(max(ratios), 3)],
                "n": len(rows),
            }
        )
    )


if __name__ == "__main__":
    main()
