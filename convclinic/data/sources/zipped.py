"""Members of a zip archive, read by their place in it."""

from __future__ import annotations

import bz2
import struct
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convclinic.data.sources.base import StreamReader

Ints: TypeAlias = NDArray[np.int64]
_HEAD = 30  # bytes of a member's local header before its name
_MOST = 10**9  # bytes a member may unfold to


def open_binary(path: Path) -> BinaryIO:
    return open(path, "rb")


class Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class ZipReader:
    """Reads members of a zip archive by their place in it, without keeping the archive's directory.

    Layout of a local header: APPNOTE.TXT 6.3.10, section 4.3.7.
    """

    def __init__(self, path: Path, offsets: Ints, sizes: Ints, methods: Ints) -> None:
        heads = StreamReader(partial(open_binary, path), offsets, np.full(len(offsets), _HEAD))
        self._heads = heads
        self._offsets = offsets
        self._sizes = sizes
        self._methods = methods

    def __call__(self, i: int) -> bytes:
        head = self._heads(i)
        if not head.startswith(b"PK\x03\x04"):
            raise OSError("the archive is broken")
        flags, _, _, _, crc, _, _, name_length, extra_length = struct.unpack("<HHHHIIIHH", head[6:])
        if flags & 1:
            raise OSError("the archive is encrypted")
        start = int(self._offsets[i]) + _HEAD + name_length + extra_length
        data = _inflate(self._heads.piece(start, int(self._sizes[i])), int(self._methods[i]))
        if not flags & 8 and zlib.crc32(data) != crc:
            raise OSError("the member's checksum is wrong")
        return data


def _inflate(data: bytes, method: int) -> bytes:
    try:
        if method == zipfile.ZIP_STORED:
            return data
        if method == zipfile.ZIP_DEFLATED:
            return _bounded(zlib.decompressobj(-15), data)
        if method == zipfile.ZIP_BZIP2:
            return _bounded(bz2.BZ2Decompressor(), data)
    except (zlib.error, OSError, ValueError) as error:
        raise OSError(f"the archive is broken: {error}") from error
    raise OSError("compressed by a method other than deflate or bzip2")


def _bounded(tool: Decompressor, data: bytes) -> bytes:
    """Decompress up to _MOST bytes: a few kilobytes can be made to unfold into all of the memory."""
    out = tool.decompress(data, _MOST)
    if not tool.eof:
        raise OSError("the archive is broken or a member unfolds to more than 1 GB")
    return out
