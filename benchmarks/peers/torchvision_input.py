"""Images per second of torchvision's usual input pipeline, without a network behind it.

Measures  ImageFolder and DataLoader with RandomResizedCrop, RandomHorizontalFlip,
          ColorJitter(0.4, 0.4, 0.4, 0.1), conversion to float in [0, 1] and Normalize; whole epochs, the last
          incomplete batch included.
          The first epoch also pays for starting the workers and for files the disk cache lacks; the workers
          then stay alive, which favours this peer. The consumer does nothing but count.
Variants  --backend pil (the usual: transforms on PIL images) or tensor (uint8 tensors right after decoding,
          as torchvision's documentation recommends for speed)
Prints    one JSON object; a second is wall time on an otherwise idle machine

Set up an environment apart, with torch of the build you want to measure:
    python3.11 -m venv peers-env
    peers-env/bin/pip install torch==2.13.0 numpy Pillow
    peers-env/bin/pip install --no-deps torchvision==0.28.0
    peers-env/bin/python benchmarks/peers/torchvision_input.py DATA
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch
from peer_torchvision import torchvision
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def transforms(size: int, backend: str) -> v2.Compose:
    """PIL image -> float (3, size, size), standardised. Both backends draw the same random quantities."""
    random_part = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4, 0.1)]
    to_tensor = [v2.ToImage()]
    ordered = random_part + to_tensor if backend == "pil" else to_tensor + random_part
    return v2.Compose(
        [*ordered, v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    )


def epoch_seconds(loader: DataLoader, expected: int) -> float:
    """Wall seconds to draw every batch once."""
    start = time.perf_counter()
    seen = sum(len(images) for images, _ in loader)
    seconds = time.perf_counter() - start
    if seen != expected:
        raise SystemExit(f"the loader gave {seen} images of {expected}")
    return seconds


def measure(options: argparse.Namespace) -> dict[str, object]:
    torch.manual_seed(options.seed)
    images = ImageFolder(str(options.data), transforms(options.size, options.backend))
    loader = DataLoader(
        images,
        batch_size=options.batch,
        shuffle=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    seconds = [epoch_seconds(loader, len(images)) for _ in range(options.epochs)]
    first, later = seconds[0], seconds[1:]
    return {
        "images_per_second_first": round(len(images) / first, 1),
        "images_per_second_later": round(len(images) * len(later) / sum(later), 1) if later else None,
        "epoch_seconds": [round(value, 3) for value in seconds],
        "images": len(images),
        **{name: getattr(options, name) for name in ("size", "batch", "workers", "backend", "seed")},
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of class folders")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--size", type=int, default=128, help="side of the crop in pixels")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--backend", choices=("pil", "tensor"), default="pil")
    parser.add_argument("--seed", type=int, default=0)
    print(json.dumps(measure(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
