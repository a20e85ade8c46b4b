"""Images as arrays: idx files (the MNIST family) and npz."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from convclinic.data.sources.base import FREE, TEST, TRAIN, UNLABELLED, VALIDATION, Source, StreamReader
from convclinic.data.sources.naming import SPLITS, sort_names
from convclinic.data.words import listed, shown
from convclinic.ground.errors import ConvclinicError

_IDX = re.compile(
    r"(?P<part>[a-z0-9]+)[-_.](?P<what>images|labels)[-_.]idx[13][-_.]ubyte(\.gz)?$", re.IGNORECASE
)
_IDX_PARTS = {**SPLITS, "t10k": TEST}
_SPELLINGS = (("x_{0}", "y_{0}"), ("{0}_images", "{0}_labels"), ("{0}_x", "{0}_y"), ("X_{0}", "y_{0}"))
_WHOLE = (("images", "labels"), ("x", "y"), ("X", "y"), ("data", "labels"), ("image", "label"))
_PARTS = {TRAIN: ("train",), VALIDATION: ("val", "valid", "validation"), TEST: ("test",)}
_BROKEN = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, struct.error, KeyError)


@dataclass(frozen=True)
class _Part:
    """One array of images (n, h, w) or (n, h, w, c) inside a file, and its labels (n,)."""

    name: str
    split: int
    opener: Callable[[], BinaryIO]
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    labels: NDArray[np.generic] | None


class ArrayReader:
    """Reads image i of several arrays laid end to end."""

    def __init__(self, parts: list[_Part]) -> None:
        self._starts = np.cumsum([0, *(part.shape[0] for part in parts)])
        self._parts = parts
        self._streams: list[StreamReader] = []
        for part in parts:
            n = part.shape[0]
            size = math.prod(part.shape[1:]) * part.dtype.itemsize
            self._streams.append(
                StreamReader(part.opener, part.start + size * np.arange(n), np.full(n, size))
            )

    def __call__(self, i: int) -> NDArray[np.generic]:
        k = int(np.searchsorted(self._starts, i, side="right")) - 1
        part = self._parts[k]
        data = self._streams[k](i - int(self._starts[k]))
        return np.frombuffer(data, part.dtype).reshape(part.shape[1:])


def has_idx(folder: Path) -> bool:
    return any(_IDX.search(entry.name) for entry in folder.iterdir())


def open_idx(folder: Path, labelled: bool) -> Source:
    """A folder of idx files such as train-images-idx3-ubyte.gz (format: LeCun, MNIST, 1998)."""
    files: dict[str, dict[str, Path]] = {}
    for entry in sorted(folder.iterdir()):
        match = _IDX.search(entry.name)
        if match:
            files.setdefault(match["part"].lower(), {}).setdefault(match["what"].lower(), entry)
    parts: list[_Part] = []
    for name in sorted(files, key=lambda part: (_IDX_PARTS.get(part, FREE) % 9, part)):
        images, labels = files[name].get("images"), files[name].get("labels")
        if images is None or (labels is None and labelled):
            missing = "images" if images is None else "labels"
            raise ConvclinicError(
                f"{folder} has no {missing} beside {name}-*", fix="both idx files are needed"
            )
        split = _IDX_PARTS.get(name, FREE)
        opener = _opener(images)
        shape = _idx_header(images, 3)
        known = _idx_labels(labels, shape[0]) if labels is not None and labelled else None
        parts.append(
            _Part("test" if name == "t10k" else name, split, opener, 16, shape, np.dtype(np.uint8), known)
        )
    return _source(folder, "idx", parts, labelled)


def _opener(path: Path) -> Callable[[], BinaryIO]:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return lambda: cast("BinaryIO", gzip.open(path, "rb")) if packed else open(path, "rb")


def _idx_header(path: Path, n_axes: int) -> tuple[int, ...]:
    """Shape from the header: magic 0x00000800 + axes, then big-endian sizes."""
    try:
        with _opener(path)() as file:
            magic, *shape = struct.unpack(f">{1 + n_axes}i", file.read(4 * (1 + n_axes)))
    except _BROKEN as error:
        raise ConvclinicError(f"{path} is broken: {error}", fix="download it again") from error
    if magic != 0x0800 + n_axes or min(shape) < 1:
        raise ConvclinicError(f"{path} is not an idx file of {n_axes} axes of bytes", fix="download it again")
    return tuple(shape)


def _idx_labels(path: Path, n: int) -> NDArray[np.uint8]:
    if _idx_header(path, 1) != (n,):
        raise ConvclinicError(
            f"{path} has not one label for each of the {n:,} images", fix="download it again"
        )
    try:
        with _opener(path)() as file:
            return np.frombuffer(file.read()[8:], np.uint8)
    except _BROKEN as error:
        raise ConvclinicError(f"{path} is broken: {error}", fix="download it again") from error


def open_npz(path: Path, labelled: bool) -> Source:
    """An npz file with x_train, y_train, x_test, y_test, or images and labels, or x and y.

    Images are (n, h, w) or (n, h, w, c) with c in 1, 3, 4. Pickled objects are refused.
    """
    try:
        with zipfile.ZipFile(path) as file:
            arrays = {name[:-4] for name in file.namelist() if name.endswith(".npy")}
        pairs = _pairs(arrays)
        if not pairs:
            raise ConvclinicError(
                f"{path} has the arrays {listed(sorted(arrays), 12)}",
                fix="name them x_train, y_train, x_test, y_test, or images and labels",
            )
        with np.load(path, allow_pickle=False) as loaded:
            parts = [
                _npz_part(path, x, split, np.asarray(loaded[y]) if labelled and y in arrays else None)
                for split, x, y in pairs
            ]
    except _BROKEN as error:
        raise ConvclinicError(
            f"{path} is not a readable npz file: {error}", fix="save it with numpy.savez"
        ) from error
    return _source(path, "npz", parts, labelled)


def _pairs(arrays: set[str]) -> list[tuple[int, str, str]]:
    """(split, name of the images, name of the labels) for every part the file has."""
    found: list[tuple[int, str, str]] = []
    for split, names in _PARTS.items():
        spelled = [(x.format(name), y.format(name)) for name in names for x, y in _SPELLINGS]
        found += [(split, x, y) for x, y in spelled if x in arrays][:1]
    if any(split == TRAIN for split, _, _ in found):
        return found
    return [(FREE, x, y) for x, y in _WHOLE if x in arrays][:1] or found


def _npz_part(path: Path, name: str, split: int, labels: NDArray[np.generic] | None) -> _Part:
    def opener() -> BinaryIO:
        return cast("BinaryIO", zipfile.ZipFile(path).open(f"{name}.npy"))

    with opener() as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file)
        start = file.tell()
    fits = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3, 4))
    if not fits or fortran or dtype.kind not in "uif" or min(shape) < 1:
        raise ConvclinicError(
            f"array '{name}' of {path} has shape {shape} and type {dtype}",
            fix="images must be (n, h, w) or (n, h, w, c) with c in 1, 3, 4, of type uint8, in C order",
        )
    part = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}.get(split, "images")
    return _Part(part, split, opener, start, shape, dtype, labels)


def _source(path: Path, kind: str, parts: list[_Part], labelled: bool) -> Source:
    names = [f"{part.name}/{i:06d}" for part in parts for i in range(part.shape[0])]
    splits = np.concatenate([np.full(part.shape[0], part.split, np.int8) for part in parts])
    if set(splits.tolist()) == {TRAIN}:
        splits[:] = FREE
    classes, labels = _labels(path, parts) if labelled else ((), np.full(len(names), UNLABELLED, np.int32))
    if not labelled:
        splits[:] = FREE
    return Source(
        path.absolute(),
        kind,
        names,
        labels,
        classes,
        None,
        splits,
        reader=ArrayReader(parts),
        sequential=True,
    )


def _labels(path: Path, parts: list[_Part]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    columns: list[NDArray[np.generic]] = []
    for part in parts:
        if part.labels is None or part.labels.size != part.shape[0] or part.labels.dtype.kind not in "uiUSb":
            raise ConvclinicError(
                f"{path} has no usable labels for its {part.name} images",
                fix=f"give one whole number or word an image: {part.shape[0]:,} of them",
            )
        columns.append(part.labels.reshape(-1))
    values, inverse = np.unique(np.concatenate(columns), return_inverse=True)
    words = [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for value in values.tolist()
    ]
    if len(words) < 2:
        raise ConvclinicError(f"{path} has one class only, '{words[0]}'", fix="at least two are needed")
    classes = list(words)
    sort_names(classes)
    new = np.array([classes.index(word) for word in words], np.int32)
    return tuple(shown(name) for name in classes), new[inverse.reshape(-1)]
