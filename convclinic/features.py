"""What a net sees at every stage: one vector of pooled features an image and a stage, streamed and kept on
disk.

    features = extract(net, prepare, fitted, Part(data.images, train), net.stage_names, device, (193, 193))
    features["features18"]  # (n, c) float32

All stages come from one forward pass, and images and maps are held one batch at a time. With a cache folder
the vectors lie in memory-mapped .npy files under a name that follows from the weights, the preprocessing, the
images and their size: what was extracted once is found again, and a file that is damaged is made anew.

Source    Donahue et al., DeCAF, 2014, arXiv:1310.1531; Sharif Razavian et al., CNN features off-the-shelf,
          2014, arXiv:1403.6382: pooled activations of a trained net, and a linear classifier on them
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.ground.files import explain, write_json
from convclinic.kinds import State
from convclinic.model import prepared, to_tensor
from convclinic.tricks.augment._pipeline import resize

CHUNK = 512  # images read at once
BATCH_PIXELS = 2**20  # of a batch's images: the maps of the usual nets are then a few hundred megabytes
FORMAT = 1  # of the cache; another one is made anew

Features: TypeAlias = "dict[str, NDArray[np.float32]]"
Progress: TypeAlias = "Callable[[int, int], None]"


class Images(Protocol):
    """Images that can be read piece by piece: an array (n, h, w, c) uint8, or a `Part` of a data set."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Part:
    """Some images of a data set or a store, read when they are needed: `read` (`data.images`, `store.gather`)
    gives (b, h, w, c) uint8 of positions (b,)."""

    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    positions: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]:
        return self.read(self.positions[rows])


def extract(
    net: Any,
    prepare: Sequence[Any],
    fitted: Sequence[State],
    images: Images,
    stages: Sequence[str],
    device: torch.device,
    size: tuple[int, int],
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Features:
    """Pooled features (n, c) float32 of `images` at each of `stages`; `net` is a Staged, and left in
    evaluation mode.

    prepare and fitted: as in a recipe, from float images in [0, 1] to what the net sees; size (h, w) is what
    images are resized to. Arrays are memory-mapped, and read-only, where there is a `cache` folder. Raises
    ConvclinicError for a stage that the net does not have, and where the features are not finite.
    """
    check_stages(net, stages)
    net.to(device).eval()
    source = _Source(net, tuple(prepare), tuple(fitted), images, device, size)
    if cache is None:
        return _extracted(source, tuple(stages), lambda _, shape: np.empty(shape, np.float32), progress)
    folder = cache / _key(source)
    found = {stage: _kept(folder, stage, len(images)) for stage in stages}
    missing = tuple(stage for stage, values in found.items() if values is None)
    if missing:
        _keep(folder, source, missing, progress)
        found |= {stage: _kept(folder, stage, len(images)) for stage in missing}
    whole = {stage: values for stage, values in found.items() if values is not None}
    if len(whole) < len(found):
        raise ConvclinicError(f"features vanish from {folder} while they are used", fix="give another folder")
    return whole


def check_stages(net: Any, stages: Sequence[str]) -> None:
    """Raise ConvclinicError for a stage that the net does not have, with the nearest right name."""
    for stage in stages:
        if stage not in net.stage_names:
            raise ConvclinicError(f"the net has no stage '{stage}'", fix=nearest(stage, net.stage_names))


def seen(
    prepare: Sequence[Any],
    fitted: Sequence[State],
    images: NDArray[np.uint8],
    size: tuple[int, int],
    device: torch.device,
) -> Tensor:
    """What the net sees of images (b, h, w, c), as in evaluation: (b, c, *size) float32 on `device`."""
    scaled = resize(to_tensor(images), size).to(device).float().div_(255)
    return prepared(prepare, fitted, scaled).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class _Source:
    net: Any
    prepare: tuple[Any, ...]
    fitted: tuple[State, ...]
    images: Images
    device: torch.device
    size: tuple[int, int]


def _chunks(images: Images) -> Iterator[NDArray[np.uint8]]:
    for begin in range(0, len(images), CHUNK):
        yield np.asarray(images[begin : begin + CHUNK])


def _batches(source: _Source) -> Iterator[NDArray[np.uint8]]:
    """Batches that the net's maps fit beside, whose size is that of the resized images."""
    height, width = source.size
    size = int(min(CHUNK, max(8, BATCH_PIXELS // (height * width))))
    for chunk in _chunks(source.images):
        for begin in range(0, len(chunk), size):
            yield chunk[begin : begin + size]


@torch.inference_mode()
def _extracted(
    source: _Source,
    stages: tuple[str, ...],
    room: Callable[[str, tuple[int, int]], NDArray[np.float32]],
    progress: Progress | None,
) -> Features:
    """One pass over the images. `room(stage, (n, c))` is asked once a stage for the array to be filled."""
    out: Features = {}
    n, done = len(source.images), 0
    for part in _batches(source):
        for stage, values in _of_batch(source, part, stages).items():
            if stage not in out:
                out[stage] = room(stage, (n, values.shape[1]))
            out[stage][done : done + len(part)] = values.numpy()
        done += len(part)
        if progress is not None:
            progress(done, n)
    return {stage: out.get(stage, np.zeros((0, 0), np.float32)) for stage in stages}


def _of_batch(source: _Source, images: NDArray[np.uint8], stages: tuple[str, ...]) -> dict[str, Tensor]:
    """(b, c) float32 on the CPU of each stage."""
    maps = source.net.stages(seen(source.prepare, source.fitted, images, source.size, source.device), stages)
    values = {stage: source.net.pooled(maps[stage]).float().cpu() for stage in stages}
    for stage, vectors in values.items():
        if not bool(torch.isfinite(vectors).all()):
            raise ConvclinicError(
                f"the net gives no numbers at stage '{stage}'",
                fix="its weights are damaged, or belong to images on another scale",
            )
    return values


def _key(source: _Source) -> str:
    """A name for everything that the features follow from, but the stage. The head has no part in them."""
    total = hashlib.blake2b(digest_size=12)
    parts = [f"{name} {part!r}" for name, part in source.net.named_children() if name != "head"]
    total.update(f"{FORMAT} {source.size} {source.prepare!r} {parts}".encode())
    tensors = {name: value for name, value in source.net.state_dict().items() if not name.startswith("head.")}
    for state in (tensors, *source.fitted):
        for name, value in state.items():
            total.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    for chunk in _chunks(source.images):
        total.update(str(chunk.shape).encode())
        total.update(np.ascontiguousarray(chunk).data)
    return total.hexdigest()


def _files(folder: Path, stage: str) -> tuple[Path, Path]:
    """The array of a stage, and what it should hold. A stage's name may hold any sign, so it is hashed."""
    name = hashlib.blake2b(stage.encode(), digest_size=8).hexdigest()
    return folder / f"{name}.npy", folder / f"{name}.json"


def _kept(folder: Path, stage: str, n: int) -> NDArray[np.float32] | None:
    """The stage's features from the cache, None where they are absent, damaged or not ours."""
    array, words = _files(folder, stage)
    try:
        said = json.loads(words.read_text(encoding="utf-8"))
        if said["stage"] != stage or said["digest"] != _digest(array):
            return None
        values = np.load(array, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None  # whatever is wrong with it, it is made anew
    return values if values.dtype == np.float32 and values.ndim == 2 and len(values) == n else None


def _keep(folder: Path, source: _Source, stages: tuple[str, ...], progress: Progress | None) -> None:
    """Extract `stages` into the folder; a file has its name only once it is whole."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as name:
            parts = {stage: Path(name) / f"{i}.npy" for i, stage in enumerate(stages)}

            def room(stage: str, shape: tuple[int, int]) -> NDArray[np.float32]:
                return np.lib.format.open_memmap(parts[stage], "w+", np.float32, shape)

            for stage, values in _extracted(source, stages, room, progress).items():
                if isinstance(values, np.memmap):
                    values.flush()
                else:  # no images at all: nothing was mapped
                    np.save(parts[stage], values)
                array, words = _files(folder, stage)
                digest = _digest(parts[stage])
                parts[stage].replace(array)
                write_json(words, {"stage": stage, "digest": digest})
    except OSError as error:
        raise explain(error, folder) from error


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
