"""How many images per second the augmentation delivers, on one and on two threads.

    python benchmarks/augment_profile.py [--profile] [--seconds 3]

Prints the best of several passes by the clock, and images per second of processor time: on a machine that
does other work as well, the second is the steadier number. With --profile, also what the time goes into.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from convclinic.ground.rng import generator
from convclinic.kinds import Batch
from convclinic.tricks.augment._pipeline import augment
from convclinic.tricks.augment.colour_jitter import ColourJitter
from convclinic.tricks.augment.cutout import Cutout
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.augment.resized_crop import ResizedCrop
from convclinic.tricks.augment.rotate import Rotate
from convclinic.tricks.augment.shift import Shift

# name: tricks, stored (h, w), output (h, w), images in a batch
CASES: dict[str, tuple[tuple[object, ...], tuple[int, int], tuple[int, int], int]] = {
    "32 px: shift, flip": ((Shift(), Flip()), (32, 32), (32, 32), 512),
    "128 px of 144x192: crop, flip, colour": (
        (ResizedCrop(), Flip(), ColourJitter()),
        (144, 192),
        (128, 128),
        128,
    ),
    "128 px of 144x192: crop, flip": ((ResizedCrop(), Flip()), (144, 192), (128, 128), 128),
    "128 px of 144x192: crop, flip, rotate": (
        (ResizedCrop(), Flip(), Rotate()),
        (144, 192),
        (128, 128),
        128,
    ),
    "224 px of 256x341: crop, flip, colour, cutout": (
        (ResizedCrop(), Flip(), ColourJitter(), Cutout()),
        (256, 341),
        (224, 224),
        64,
    ),
}


def photographs(n: int, size: tuple[int, int]) -> Batch:
    """Smooth made-up pictures: the work does not depend on what they show."""
    small = torch.rand((n, 3, 8, 8), generator=generator(0, "benchmark"))
    images = torch.nn.functional.interpolate(small, size=size, mode="bilinear").mul_(255).to(torch.uint8)
    images = images.contiguous(memory_format=torch.channels_last)
    return Batch(images, torch.ones(n, 1), torch.arange(n))


def rates(work: Callable[[], object], n: int, seconds: float) -> tuple[float, float]:
    """Images per second by the clock and per second of processor time, best of the passes that fit."""
    work()
    best, least = float("inf"), float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        clock, processor = time.perf_counter(), time.process_time()
        work()
        best, least = min(best, time.perf_counter() - clock), min(least, time.process_time() - processor)
    return n / best, n / least


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", action="store_true", help="also print the shares of a torch profile")
    parser.add_argument("--seconds", type=float, default=2.0, help="per line of the table")
    options = parser.parse_args()
    print(f"{'case':48} {'threads':>7} {'images/s':>10} {'per processor second':>21}")
    for name, (tricks, stored, size, n) in CASES.items():
        batch = photographs(n, stored)

        def work(
            batch: Batch = batch, tricks: tuple[object, ...] = tricks, size: tuple[int, int] = size
        ) -> None:
            augment(batch, tricks, lambda trick: generator(0, trick), size)

        for threads in (1, 2):
            torch.set_num_threads(threads)
            clock, processor = rates(work, n, options.seconds)
            print(f"{name:48} {threads:7} {clock:10.0f} {processor:21.0f}")
        if options.profile:
            torch.set_num_threads(1)
            with profile(activities=[ProfilerActivity.CPU]) as shares:
                work()
            print(shares.key_averages().table(sort_by="self_cpu_time_total", row_limit=10))


if __name__ == "__main__":
    main()
