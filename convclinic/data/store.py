"""All images of a data set as one flat file of uint8, mapped into memory a little at a time."""

from __future__ import annotations

import math
import mmap
import os
import shutil
import threading
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import explain
from convclinic.ground.units import size

_RESIDENT = 64 * 2**20  # bytes touched before the pages are given back
_AROUND = 65_536  # bytes the kernel maps around a touched page
_SPARE = 64 * 2**20  # bytes of disk left free for everything else

Shape4 = tuple[int, int, int, int]


class Store:
    """Images (n, h, w, c) uint8 in one file.

    While it is being written the file is called `<path>.part`; `commit` gives it its name, so a file under
    that name is always whole. Reading copies rows out of a memory map whose pages are given back, so resident
    memory does not grow with the file.
    """

    def __init__(self, path: Path, shape: Shape4, file: BinaryIO, writable: bool) -> None:
        self.path = path
        self.shape = shape
        self._file = file
        self._writable = writable
        self._row = math.prod(shape[1:])
        self._lock = threading.Lock()
        self._map: mmap.mmap | None = None
        self._rows: NDArray[np.uint8] | None = None
        self._touched = 0

    @classmethod
    def create(cls, path: Path, shape: Shape4) -> Store:
        """A new store to be filled. Raises ConvclinicError when the disk has no room for it."""
        need = math.prod(shape)
        part = _part(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.unlink(missing_ok=True)
            free = shutil.disk_usage(path.parent).free
            if free < need + _SPARE:
                raise ConvclinicError(
                    f"the image cache needs {size(need)} in {path.parent}, where {size(free)} are free",
                    fix="free some disk space or give another folder with --out",
                )
            file = open(part, "w+b", buffering=0)  # noqa: SIM115 - closed by close()
            file.truncate(need)
        except OSError as error:
            raise explain(error, part) from error
        return cls(path, shape, file, writable=True)  # pyright: ignore[reportArgumentType]

    @classmethod
    def open(cls, path: Path, shape: Shape4) -> Store:
        """An existing store for reading. Raises ConvclinicError when it is absent or of another size."""
        try:
            file = open(path, "rb")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise ConvclinicError(f"cannot open the image cache {path}: {error.strerror}") from error
        found = os.fstat(file.fileno()).st_size
        if found != math.prod(shape):
            file.close()
            raise ConvclinicError(
                f"the image cache {path} has {size(found)} instead of {size(math.prod(shape))}",
                fix="delete it; it is rebuilt from the photos",
            )
        return cls(path, shape, file, writable=False)

    def write(self, i: int, images: NDArray[np.uint8]) -> None:
        """Write one image (h, w, c), or several (b, h, w, c), to row i and the rows after it. Thread-safe.

        Goes through the file, not the map: a full disk is then an error and not a crash.
        """
        data = np.ascontiguousarray(images).reshape(-1)
        if not self._writable or data.size % self._row or i * self._row + data.size > math.prod(self.shape):
            raise ValueError(
                f"rows {i}.. of {images.shape} do not fit into {self.shape}, writable={self._writable}"
            )
        try:
            with self._lock:
                self._file.seek(i * self._row)
                view = memoryview(data.data)
                while view:
                    view = view[self._file.write(view) :]
        except OSError as error:
            raise explain(error, self.path) from error

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Copies of the rows `indices` (b,), as (b, h, w, c) contiguous."""
        with self._lock:
            rows = self._mapped()
            out = np.take(rows, indices, axis=0)
            self._touched += min(len(indices) * (self._row + _AROUND), rows.nbytes)
            if self._touched > _RESIDENT:
                self._give_back()
        return out

    def _mapped(self) -> NDArray[np.uint8]:
        if self._rows is None:
            if self._writable:
                self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
            self._rows = np.frombuffer(self._map, np.uint8).reshape(self.shape)
        return self._rows

    def _give_back(self) -> None:
        """Drop the mapped pages from this process; the system keeps what it likes of them."""
        self._touched = 0
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def flush(self) -> None:
        """Bring what was written to the disk. Raises ConvclinicError."""
        if self._writable:
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                raise explain(error, self.path) from error

    def commit(self) -> None:
        """The store is complete: give the file its name. From here on it is for reading."""
        if self._writable:
            self.flush()
            try:
                _part(self.path).replace(self.path)
            except OSError as error:
                raise explain(error, self.path) from error
            self._writable = False

    def discard(self) -> None:
        """Close, and remove a file that was never committed."""
        self.close()
        if self._writable:
            _part(self.path).unlink(missing_ok=True)

    def close(self) -> None:
        self._rows = None
        if self._map is not None:
            self._map.close()
            self._map = None
        self._file.close()

    def __del__(self) -> None:
        self.close()


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")
