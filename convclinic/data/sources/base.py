"""A source of images: columns with one entry an image, and a way to read each."""

from __future__ import annotations

import lzma
import os
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convclinic.kinds import Finding

Raw: TypeAlias = "bytes | NDArray[np.generic]"
FREE, TRAIN, VALIDATION, TEST = -1, 0, 1, 2
UNLABELLED = -1


@dataclass(frozen=True)
class Source:
    """Images that were listed and not yet decoded.

    names: path relative to `root` with '/', a member's name, or "train/000012" for arrays;
    labels (n,) int32 index into `classes`, -1 where unlabelled; groups (n,) int32 or None: images of one
    group (patient, source photo) must not be parted; splits (n,) int8: -1 free, 0 train, 1 validation,
    2 test. `sequential` says that reading in ascending order is fast and jumping back is slow; `table` is the
    CSV file, if there is one.
    """

    root: Path
    kind: str
    names: list[str]
    labels: NDArray[np.int32]
    classes: tuple[str, ...]
    groups: NDArray[np.int32] | None
    splits: NDArray[np.int8]
    findings: tuple[Finding, ...] = ()
    reader: Callable[[int], Raw] = field(repr=False, compare=False, kw_only=True)
    sequential: bool = field(default=False, kw_only=True)
    table: Path | None = field(default=None, kw_only=True)

    @property
    def path(self) -> Path:
        """What was given, absolute: opening it again yields this source."""
        return self.table or self.root

    def __len__(self) -> int:
        return len(self.names)

    def read(self, i: int) -> Raw:
        """The bytes of image i, or its array (h, w) or (h, w, c). Thread-safe. Raises OSError."""
        return self.reader(i)


def unlabelled(
    root: Path,
    kind: str,
    names: list[str],
    reader: Callable[[int], Raw],
    findings: Sequence[Finding] = (),
    sequential: bool = False,
) -> Source:
    """A source without labels or splits, for predicting."""
    labels = np.full(len(names), UNLABELLED, np.int32)
    free = np.full(len(names), FREE, np.int8)
    return Source(
        root, kind, names, labels, (), None, free, tuple(findings), reader=reader, sequential=sequential
    )


class PathReader:
    """Reads files that lie under one folder."""

    def __init__(self, root: Path, names: list[str]) -> None:
        self._root = os.fspath(root)
        self._names = names

    def __call__(self, i: int) -> bytes:
        with open(os.path.join(self._root, self._names[i]), "rb", buffering=0) as file:  # noqa: PTH118
            return file.read()


class StreamReader:
    """Reads pieces of one file, plain or decompressed on the fly, one reader at a time.

    A decompressor can only move forward, so jumping back starts again from the beginning: read in
    ascending order of offset.
    """

    def __init__(
        self, opener: Callable[[], BinaryIO], offsets: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> None:
        self._opener = opener
        self._offsets = offsets
        self._sizes = sizes
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()

    def __call__(self, i: int) -> bytes:
        return self.piece(int(self._offsets[i]), int(self._sizes[i]))

    def piece(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on. Raises OSError."""
        with self._lock:
            if self._file is None:
                self._file = self._opener()
            try:
                self._file.seek(offset)
                data = self._file.read(size)
            except (EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise OSError(f"the archive is broken: {error}") from error
        if len(data) < size:
            raise OSError("the archive ends too early")
        return data

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()
