"""Fitting PCA whitening in one streamed pass, against scikit-learn's IncrementalPCA in the same run.

    python benchmarks/whitening.py [FOLDER] --images 50000 --threads 2

FOLDER holds class folders of square images of one size, such as CIFAR-10's 50,000 training images as JPEG
files; without it, made-up 32 x 32 images of rank 300 and the noise that rounding to 256 levels leaves. Both
are given the same uint8 images in memory: ours in chunks of 1,000, as the training loop does it;
IncrementalPCA by `partial_fit` in float32, in its own default batches of five times the number of dimensions,
all components kept. The leading components are held against scikit-learn's PCA by a full SVD in float64
(--no-full leaves that out): the largest principal angle between the subspaces, in radians. Run it on a quiet
machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA, IncrementalPCA
from threadpoolctl import threadpool_limits

from convclinic.tricks.prepare.pca_whitening import PCAWhitening

Fit = Callable[[NDArray[np.uint8]], NDArray[np.float64]]

CHUNK = 1000
LEADING = (10, 100, 1000)


def photographs(folder: Path, count: int) -> NDArray[np.uint8]:
    """(n, c h w) uint8 in the order (c, h, w), of images spread evenly over the folder."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)]
    images = []
    for path in chosen:
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGB")).transpose(2, 0, 1).reshape(-1))
    return np.stack(images)


def made_up(count: int, d: int = 3072, rank: int = 300) -> NDArray[np.uint8]:
    """Images whose variance falls as the inverse of the component's number, as it does in photographs."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(rank, d)).astype(np.float32) / np.arange(1, rank + 1)[:, None] ** 0.5
    out = np.empty((count, d), np.uint8)
    for begin in range(0, count, CHUNK):
        rows = rng.normal(size=(len(out[begin : begin + CHUNK]), rank)).astype(np.float32)
        out[begin : begin + CHUNK] = (128 + 20 * rows @ directions).clip(0, 255).round()
    return out


def timed(name: str, fit: Fit, images: NDArray[np.uint8]) -> tuple[float, NDArray[np.float64]]:
    """Seconds by the clock, and the components (d, d) as columns; prints both kinds of seconds."""
    clock, processor = time.perf_counter(), time.process_time()
    components = fit(images)
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    print(f"{name:15} {clock:6.1f} s by the clock {processor:6.1f} s of processor time", flush=True)
    return clock, components


def ours(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    side = round((images.shape[1] / 3) ** 0.5)

    def chunks() -> Iterator[torch.Tensor]:
        for begin in range(0, len(images), CHUNK):
            yield torch.from_numpy(images[begin : begin + CHUNK]).view(-1, 3, side, side)

    return PCAWhitening().fit(chunks())["matrix"].double().numpy()


def incremental(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    batch = 5 * images.shape[1]
    fitted = IncrementalPCA(whiten=True)
    for start in range(0, len(images), batch):
        fitted.partial_fit(images[start : start + batch].astype(np.float32) / np.float32(255))
    return fitted.components_.T.astype(np.float64)


def full(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return PCA(svd_solver="full", whiten=True, copy=False).fit(images / 255.0).components_.T


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="class folders of square RGB images")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="passes of ours; the median counts")
    parser.add_argument("--no-full", action="store_true", help="leave out the full SVD")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder, count = arguments.folder, arguments.images
    images = photographs(folder, count) if folder else made_up(count)
    print(f"{len(images)} images of {images.shape[1]} dimensions, {arguments.threads} threads", flush=True)
    with threadpool_limits(arguments.threads):
        seconds, components = timed("convclinic", ours, images)
        peer_seconds, peer = timed("IncrementalPCA", incremental, images)
        again = [timed("convclinic", ours, images)[0] for _ in range(arguments.repeat - 1)]
        result = {"ratio": peer_seconds / float(np.median([seconds, *again]))}
        if not arguments.no_full:
            _, exact = timed("full PCA", full, images)
            for k in LEADING if folder else LEADING[:2]:  # beyond its rank, made-up noise has no order
                for name, found in (("convclinic", components), ("IncrementalPCA", peer)):
                    result[f"angle of {k}, {name}"] = float(subspace_angles(found[:, :k], exact[:, :k]).max())
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
