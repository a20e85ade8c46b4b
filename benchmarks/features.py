"""The extractor's rate beside the backbone's bare forward pass, both in one process, in turn.

    python benchmarks/features.py [--model mobilenet_v2] [--side 193] [--images 112] [--pairs 7] [--cache]

Bare: the net's forward pass on float batches that lie ready in memory. Extracted:
`convclinic.features.extract` of every stage from uint8 images, scaling and pooling included, and with --cache
also hashing the images and writing the files. Weights are random: they do not change the time. Prints both
rates, and the ratio of each pair as median and range; other work on the machine slows both halves of a pair.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from convclinic.features import extract, seen
from convclinic.kinds import Layers
from convclinic.model import batches
from convclinic.models.backbone import Backbone
from convclinic.tricks.activate.relu import ReLU
from convclinic.tricks.prepare.given import Given


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--side", type=int, default=193)
    parser.add_argument("--images", type=int, default=112)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--cache", action="store_true")
    options = parser.parse_args()
    device, size = torch.device("cpu"), (options.side, options.side)
    net = Backbone(model=options.model).build(3, 1000, Layers(ReLU().build)).eval()
    net = net.to(memory_format=torch.channels_last)
    images = np.random.default_rng(0).integers(0, 256, (options.images, *size, 3), dtype=np.uint8)
    given = Given()
    state = given.fit([torch.zeros(1, 3, 1, 1)])
    ready = [seen((given,), (state,), part, size, device) for part in batches(images)]

    @torch.inference_mode()
    def bare() -> None:
        for inputs in ready:
            net(inputs)

    def extracted() -> None:
        with tempfile.TemporaryDirectory() as folder:
            cache = Path(folder) if options.cache else None
            extract(net, (given,), (state,), images, net.stage_names, device, size, cache=cache)

    bare(), extracted()
    rates: list[tuple[float, float]] = []
    for pair in range(options.pairs):
        turn = (bare, extracted) if pair % 2 else (extracted, bare)
        taken: dict[object, float] = {}
        for work in turn:
            begin = time.perf_counter()
            work()
            taken[work] = time.perf_counter() - begin
        rates.append((options.images / taken[bare], options.images / taken[extracted]))
    ratios = sorted(extracted / bare for bare, extracted in rates)
    for name, values in zip(("bare", "extracted"), zip(*rates, strict=True), strict=True):
        print(f"{name:<10} {statistics.median(values):7.1f} images a second")
    middle = statistics.median(ratios)
    print(f"ratio      {middle:7.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}), {len(ratios)} pairs")


if __name__ == "__main__":
    main()
