"""The input pipeline: images/s from files (first epoch, check-up included) and from the cached store.

    python benchmarks/input.py DATA --size 128

Resized crop, flip, colour jitter and normalisation to float32, batch 64, as the training loop does it; run
benchmarks/peers/torchvision_input.py on the same folder beside it, in turn, on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from convclinic.data.dataset import Dataset, assemble
from convclinic.data.sources import open_source
from convclinic.data.survey import survey
from convclinic.ground import rng
from convclinic.kinds import Batch
from convclinic.model import to_tensor
from convclinic.tricks.augment._pipeline import augment
from convclinic.tricks.augment.colour_jitter import ColourJitter
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.augment.resized_crop import ResizedCrop
from convclinic.tricks.balance._policies import visits
from convclinic.tricks.prepare.standardise import Standardise

BATCH = 64
TRICKS = (
    ResizedCrop(area_low=0.08, area_high=1.0),
    Flip(),
    ColourJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
)


def epoch(data: Dataset, fitted: dict[str, torch.Tensor], size: int, number: int) -> int:
    """One pass over all images in random order; returns how many."""
    positions = visits((), torch.from_numpy(data.labels), 0, number, 0.0).numpy()
    for start in range(0, len(positions), BATCH):
        chosen = positions[start : start + BATCH]
        images = to_tensor(data.images(chosen))
        batch = Batch(images, torch.zeros(len(chosen), 2), torch.from_numpy(chosen), number, start)
        step = f"{number}-{start}"
        out = augment(
            batch, TRICKS, lambda name, step=step: rng.generator(0, name, step), (size, size)
        ).images
        Standardise().apply(out, fitted)
    return len(positions)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    fitted = {"mean": torch.full((3,), 0.5), "std": torch.full((3,), 0.25)}
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        source = open_source(arguments.data)
        seen = survey(source)
        height, width = float(seen.heights.mean()), float(seen.widths.mean())
        scale = arguments.size / min(height, width)  # the store has the training size, as in `fit`
        shape = (round(height * scale), round(width * scale), 3)
        data = assemble(source, seen, shape, Path(folder), seed=0)
        seconds = []
        for number in range(arguments.epochs):
            count = epoch(data, fitted, arguments.size, number)
            seconds.append(time.perf_counter() - begin)
            begin = time.perf_counter()
    rates = [count / s for s in seconds]
    print(json.dumps({"first_epoch": rates[0], "cached_epochs": rates[1:], "store": shape, "images": count}))


if __name__ == "__main__":
    main()
