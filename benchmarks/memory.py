"""Does memory grow with the number of images? The main job with a few steps, on generated sets.

    python benchmarks/memory.py --counts 10000 500000 --folder SCRATCH

Each count runs in a process of its own and prints its peak resident memory. Images are 16 x 16 BMPs of noise,
each file distinct, deleted afterwards.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image


def generate(folder: Path, count: int) -> None:
    """`count` distinct images in ten class folders; BMP, so that writing is quick."""
    rng = np.random.default_rng(0)
    for start in range(0, count, 1000):
        block = rng.integers(0, 256, (min(1000, count - start), 16, 16, 3), dtype=np.uint8)
        for i, pixels in enumerate(block, start):
            path = folder / f"class{i % 10}" / f"{i // 10000:03d}"
            path.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path / f"{i:07d}.bmp")


def train(folder: Path, out: Path) -> None:
    """The main job in this process, for a fixed handful of steps; prints its peak memory."""
    from convclinic.job.fitting import fit

    begin = time.perf_counter()
    settings = ("run.steps=20", "net.widths=[16, 32, 32]", "run.batch_size=64")
    run = fit(folder, budget="60m", out=out, quiet=True, settings=settings)
    metrics = run.metrics
    print(json.dumps({"peak_mb": metrics["peak_memory_bytes"] / 1e6, "seconds": time.perf_counter() - begin}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 500_000])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.train, arguments.folder)
        return
    peaks = []
    for count in arguments.counts:
        images, out = arguments.folder / f"images-{count}", arguments.folder / f"run-{count}"
        generate(images, count)
        command = [sys.executable, __file__, "--train", str(images), "--folder", str(out)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks.append(json.loads(answer)["peak_mb"])
        print(f"{count:>8} images: {answer.strip()}", flush=True)
        shutil.rmtree(images)
        shutil.rmtree(out)
    print(f"growth {peaks[-1] - peaks[0]:.0f} MB")


if __name__ == "__main__":
    main()
