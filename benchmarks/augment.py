"""Augmentation: images a second on one core, uint8 in, normalised float32 out, beside the usual libraries.

    export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647
    python benchmarks/augment.py DATA --images 256 --rounds 5

The two variables let glibc keep what is freed, for all programs alike; without them a good part of the time
goes into fresh pages for every batch.

DATA is a folder of photos, for example of class folders; their centre squares are decoded once to the size of
the job and held in memory, so no decoding is measured. Three jobs:

    224    from 256 pixels: random resized crop + flip + brightness, contrast, saturation and hue + normalise
    32     pad and crop by 4 + flip + the same colours + normalise
    pca    fancy PCA + normalise, 224 pixels, no geometry

convclinic and kornia work on batches of 64 images (512 of 32 pixels), albumentations and torchvision on one
image after the other, as their users do. Every round runs all programs in turn; printed are the median rate,
the range and the ratio to each peer in the same round (median over rounds). Peers that are not installed are
left out and said to be: `pip install '.[peers]'` brings them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import numpy as np
import torch
from PIL import Image

from convclinic.ground import rng
from convclinic.kinds import Batch
from convclinic.tricks.augment._pipeline import augment
from convclinic.tricks.augment.colour_jitter import ColourJitter
from convclinic.tricks.augment.fancy_pca import FancyPCA
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.augment.resized_crop import ResizedCrop
from convclinic.tricks.augment.shift import Shift
from convclinic.tricks.prepare.standardise import Standardise

BATCHES = {"224": 64, "32": 512, "pca": 64}  # as nets of these input sizes are trained
AMOUNTS = (0.4, 0.4, 0.4, 0.1)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Job = Callable[[np.ndarray], None]  # (n, h, w, 3) uint8 images, all of them once


def ours(name: str, images: np.ndarray) -> Job:
    jitter = ColourJitter(*AMOUNTS)
    tricks = {
        "224": (ResizedCrop(area_low=0.08, area_high=1.0), Flip(), jitter),
        "32": (Shift(pixels=4), Flip(), jitter),
        "pca": (FancyPCA().fit([torch.from_numpy(images).permute(0, 3, 1, 2)]),),
    }[name]
    side = 32 if name == "32" else 224
    then = Standardise().channelwise({"mean": torch.tensor(MEAN), "std": torch.tensor(STD)})

    batch_size = BATCHES[name]

    def work(images: np.ndarray) -> None:
        for start in range(0, len(images), batch_size):
            part = torch.from_numpy(images[start : start + batch_size]).permute(0, 3, 1, 2)
            batch = Batch(part, torch.zeros(len(part), 2), torch.arange(len(part)))
            augment(batch, tricks, lambda trick, at=start: rng.generator(0, trick, at), (side, side), then)

    return work


def albumentations(name: str) -> Job:
    A = importlib.import_module("albumentations")
    pytorch = importlib.import_module("albumentations.pytorch")
    importlib.import_module("cv2").setNumThreads(0)
    first = {
        "224": [
            A.RandomResizedCrop((224, 224), scale=(0.08, 1.0)),
            A.HorizontalFlip(),
            A.ColorJitter(*_ranges(), p=1.0),
        ],
        "32": [
            A.PadIfNeeded(40, 40),
            A.RandomCrop(32, 32),
            A.HorizontalFlip(),
            A.ColorJitter(*_ranges(), p=1.0),
        ],
        "pca": [A.FancyPCA(alpha=0.1, p=1.0)],
    }[name]
    pipeline = A.Compose([*first, A.Normalize(MEAN, STD), pytorch.ToTensorV2()])

    batch_size = BATCHES[name]

    def work(images: np.ndarray) -> None:
        for start in range(0, len(images), batch_size):
            torch.stack([pipeline(image=image)["image"] for image in images[start : start + batch_size]])

    return work


def torchvision(name: str) -> Job:
    sys.path.insert(0, str(Path(__file__).parent / "peers"))
    importlib.import_module("peer_torchvision")
    v2 = importlib.import_module("torchvision.transforms.v2")
    first = {
        "224": [v2.RandomResizedCrop(224, scale=(0.08, 1.0), antialias=True)],
        "32": [v2.RandomCrop(32, padding=4)],
    }[name]
    pipeline = v2.Compose(
        [
            *first,
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(*AMOUNTS),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )

    batch_size = BATCHES[name]

    def work(images: np.ndarray) -> None:
        for start in range(0, len(images), batch_size):
            part = torch.from_numpy(images[start : start + batch_size]).permute(0, 3, 1, 2)
            torch.stack([pipeline(image) for image in part])

    return work


def kornia(name: str) -> Job:
    K = importlib.import_module("kornia.augmentation")
    first = {
        "224": [K.RandomResizedCrop((224, 224), scale=(0.08, 1.0))],
        "32": [K.RandomCrop((32, 32), padding=4)],
    }[name]
    colours = K.ColorJiggle(*AMOUNTS, p=1.0)
    normalise = K.Normalize(torch.tensor(MEAN), torch.tensor(STD))
    pipeline = torch.nn.Sequential(*first, K.RandomHorizontalFlip(), colours, normalise)

    batch_size = BATCHES[name]

    def work(images: np.ndarray) -> None:
        for start in range(0, len(images), batch_size):
            part = torch.from_numpy(images[start : start + batch_size]).permute(0, 3, 1, 2)
            pipeline(part.float() / 255)

    return work


PEERS: dict[str, dict[str, Callable[[str], Job]]] = {
    "224": {"albumentations": albumentations, "torchvision": torchvision, "kornia": kornia},
    "32": {"albumentations": albumentations, "torchvision": torchvision, "kornia": kornia},
    "pca": {"albumentations": albumentations},
}


def _ranges() -> tuple[tuple[float, float], ...]:
    """albumentations takes ranges of factors where the others take amounts."""
    hue = AMOUNTS[3]
    return *((1 - amount, 1 + amount) for amount in AMOUNTS[:3]), (-hue, hue)


def load(folder: Path, side: int, count: int) -> np.ndarray:
    """(n, side, side, 3): the centre squares of `count` images of the folder, repeated where it has fewer."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        raise SystemExit(f"no images in {folder}")
    images = []
    for file in files[:: max(1, len(files) // count)][:count]:
        with Image.open(file) as image:
            square = min(image.size)
            left, top = (image.width - square) // 2, (image.height - square) // 2
            cut = image.convert("RGB").crop((left, top, left + square, top + square))
            images.append(np.asarray(cut.resize((side, side), Image.Resampling.BILINEAR)))
    return np.stack([images[i % len(images)] for i in range(count)])


def rate(work: Job, images: np.ndarray) -> float:
    begin = time.perf_counter()
    work(images)
    return len(images) / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", nargs="+", choices=PEERS, default=list(PEERS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.jobs:
        side = {"224": 256, "32": 32, "pca": 224}[name]
        images = load(arguments.data, side, max(arguments.images, 4 * BATCHES[name]))
        jobs = {"convclinic": ours(name, images)}
        for peer, build in PEERS[name].items():
            try:
                jobs[peer] = build(name)
            except ModuleNotFoundError as error:
                print(f"{name}: {peer} is not installed ({error.name})", file=sys.stderr)
        # a peer that is twenty times slower need not see all the images
        shares = {
            peer: images if peer == "convclinic" else images[: max(BATCHES[name], len(images) // 4)]
            for peer in jobs
        }
        for peer, work in jobs.items():
            work(shares[peer][: BATCHES[name]])
        rates = [
            {peer: rate(work, shares[peer]) for peer, work in jobs.items()} for _ in range(arguments.rounds)
        ]
        for peer in jobs:
            own = [row[peer] for row in rates]
            ratios = [row["convclinic"] / row[peer] for row in rates]
            print(
                json.dumps(
                    {
                        "job": name,
                        "program": peer,
                        "images_per_second": round(statistics.median(own), 1),
                        "range": [round(min(own), 1), round(max(own), 1)],
                        "ours_over_it": round(statistics.median(ratios), 2),
                        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
                        "n": len(rates),
                    }
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
