"""All images of a data set as one flat file of uint8, read row by row.

Not a memory map: a random read of one row makes a modern kernel map up to 2 MB around it, so resident memory
would follow the file's size. Reading by position costs a few microseconds an image and no memory.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import explain
from convclinic.ground.units import size

_SPARE = 64 * 2**20  # bytes of disk left free for everything else

Shape4 = tuple[int, int, int, int]


class Store:
    """Images (n, h, w, c) uint8 in one file.

    While it is being written the file is called `<path>.part`; `commit` gives it its name, so a file under
    that name is always whole. Thread-safe.
    """

    def __init__(self, path: Path, shape: Shape4, file: io.FileIO, writable: bool) -> None:
        self.path = path
        self.shape = shape
        self._file = file
        self._writable = writable
        self._row = math.prod(shape[1:])
        self._lock = threading.Lock()

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
        return cls(path, shape, file, writable=True)

    @classmethod
    def open(cls, path: Path, shape: Shape4) -> Store:
        """An existing store for reading. Raises ConvclinicError when it is absent or of another size."""
        try:
            file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
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
        """Copies of the rows `indices` (b,), as (b, h, w, c) contiguous. Raises ConvclinicError."""
        indices = np.asarray(indices, np.int64)
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self.shape[0]:
            raise IndexError(f"rows run from 0 to {self.shape[0] - 1}")
        out = np.empty((len(indices), *self.shape[1:]), np.uint8)
        view = memoryview(out.reshape(-1).data)
        ends = np.flatnonzero(np.diff(indices, append=-2) != 1) + 1  # neighbours are read in one go
        start = 0
        try:
            for end in ends.tolist():
                self._read_into(view[start * self._row : end * self._row], int(indices[start]) * self._row)
                start = end
        except OSError as error:
            raise ConvclinicError(f"cannot read the image cache {self.path}: {error}") from error
        return out

    def _read_into(self, view: memoryview, offset: int) -> None:
        while view:
            if hasattr(os, "preadv"):
                n = os.preadv(self._file.fileno(), [view], offset)
            else:
                with self._lock:
                    self._file.seek(offset)
                    n = self._file.readinto(view)
            if not n:
                raise OSError("it ends too early")
            view = view[n:]
            offset += n

    def flush(self) -> None:
        """Hand what was written to the operating system. Raises ConvclinicError.

        There is no fsync, which can cost a second: a store lost with a power cut is built again.
        """
        if self._writable:
            try:
                self._file.flush()
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
        self._file.close()

    def __del__(self) -> None:
        self.close()


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")
