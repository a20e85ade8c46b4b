"""The one pass over the files: read, hash, decode, resize, store. Everything later works on its columns."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convclinic.data.decode import Unreadable, decode
from convclinic.data.quiet import quiet
from convclinic.data.sources.base import Raw, Source
from convclinic.data.store import Store
from convclinic.data.survey import Survey, survey

__all__ = ["Intake", "Survey", "survey", "take_in"]

_CHUNK = 64  # images a task: enough to hide the cost of handing it over
_CHUNK_BYTES = 8 * 2**20
THUMB = 8  # side of a thumbnail in pixels

Progress = Callable[[int, int], None]
Shape3 = tuple[int, int, int]


@dataclass(frozen=True)
class Intake:
    """What one pass over n images found, in columns.

    ok (n,) bool; reason: index -> why it failed; traits (n,) uint16 bits of `decode`; heights and widths
    (n,) int32 of the originals, upright; file_hash (n,) uint64 of the bytes; pixel_hash (n,) uint64 of the
    original size and the decoded, resized pixels; thumbs (n, 64) uint8, 8 x 8 gray; store: row i is image
    i, None if none was asked for; shape (h, w, c).
    """

    ok: NDArray[np.bool_]
    reason: dict[int, str]
    traits: NDArray[np.uint16]
    heights: NDArray[np.int32]
    widths: NDArray[np.int32]
    file_hash: NDArray[np.uint64]
    pixel_hash: NDArray[np.uint64]
    thumbs: NDArray[np.uint8]
    store: Store | None
    shape: Shape3 | None

    def __len__(self) -> int:
        return len(self.ok)


class _Taken(NamedTuple):
    """One image after the pass."""

    reason: str
    traits: int
    height: int
    width: int
    file_hash: int
    pixel_hash: int


class _Chunk(NamedTuple):
    """Consecutive images after the pass; thumbs (b, 64)."""

    taken: list[_Taken]
    thumbs: NDArray[np.uint8]


def take_in(
    source: Source,
    shape: Shape3 | None,
    cache: Path | None,
    *,
    survey: Survey,
    progress: Progress | None = None,
) -> Intake:
    """Read every image of `source` once and write it, resized to `shape` (h, w, c), to the store `cache`.

    Memory beside the columns does not grow with the number of images. Broken files are told of in
    `reason`. `progress(done, total)` is called from this thread. Raises ConvclinicError when the disk is
    full.
    """
    if cache is not None and shape is None:
        raise ValueError("a store needs one shape for all images")
    n = len(source)
    store = Store.create(cache, (n, *shape)) if cache is not None and shape is not None else None
    intake = _blank(n, store, shape)
    workers = max(2, os.cpu_count() or 2)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="intake")
    pending: deque[tuple[int, Future[_Chunk]]] = deque()
    try:
        with quiet:
            for start, raws in _chunks(source, workers):
                pending.append(
                    (start, pool.submit(_take_chunk, source, start, raws, intake, survey.deep_max))
                )
                if len(pending) > 2 * workers:
                    _collect(intake, pending, progress)
            while pending:
                _collect(intake, pending, progress)
        if store is not None:
            store.commit()
    except BaseException:
        pool.shutdown(cancel_futures=True)
        if store is not None:
            store.discard()
        raise
    pool.shutdown()
    return intake


def _blank(n: int, store: Store | None, shape: Shape3 | None) -> Intake:
    return Intake(
        ok=np.zeros(n, np.bool_),
        reason={},
        traits=np.zeros(n, np.uint16),
        heights=np.zeros(n, np.int32),
        widths=np.zeros(n, np.int32),
        file_hash=np.zeros(n, np.uint64),
        pixel_hash=np.zeros(n, np.uint64),
        thumbs=np.zeros((n, THUMB * THUMB), np.uint8),
        store=store,
        shape=shape,
    )


def _chunks(source: Source, workers: int) -> Iterator[tuple[int, list[Raw | OSError] | range]]:
    """Ranges of images for the workers to read, or, where reading must be in order, images read here."""
    n = len(source)
    step = min(_CHUNK, max(1, n // (8 * workers)))
    if not source.sequential:
        yield from ((start, range(start, min(start + step, n))) for start in range(0, n, step))
        return
    start, held = 0, 0
    raws: list[Raw | OSError] = []
    for i in range(n):
        raw = _read(source, i)
        raws.append(raw)
        held += _n_bytes(raw)
        if len(raws) >= step or held >= _CHUNK_BYTES or i == n - 1:
            yield start, raws
            start, held, raws = i + 1, 0, []


def _n_bytes(raw: Raw | OSError) -> int:
    if isinstance(raw, OSError):
        return 0
    return raw.nbytes if isinstance(raw, np.ndarray) else len(raw)


def _read(source: Source, i: int) -> Raw | OSError:
    try:
        return source.read(i)
    except OSError as error:
        return error


def _take_chunk(
    source: Source, start: int, raws: list[Raw | OSError] | range, intake: Intake, deep_max: int
) -> _Chunk:
    """Runs in a worker: take in some consecutive images and write them to the store in one go."""
    shape, store = intake.shape, intake.store
    rows = None if shape is None else np.zeros((len(raws), *shape), np.uint8)
    thumbs = np.zeros((len(raws), THUMB * THUMB), np.uint8)
    taken: list[_Taken] = []
    for k, given in enumerate(raws):
        raw = _read(source, given) if isinstance(given, int) else given
        one, image = _take(raw, source.names[start + k], shape, deep_max)
        taken.append(one)
        if image is not None and rows is not None:
            rows[k] = image
        elif image is not None:
            thumbs[k] = thumbnails(image[None])[0]
    if store is not None and rows is not None:
        store.write(start, rows)
    return _Chunk(taken, thumbs if rows is None else thumbnails(rows))


def _take(
    raw: Raw | OSError, name: str, shape: Shape3 | None, deep_max: int
) -> tuple[_Taken, NDArray[np.uint8] | None]:
    if isinstance(raw, OSError):
        return _Taken(f"cannot be read: {raw.strerror or raw}", 0, 0, 0, 0, 0), None
    file_hash = _hash(np.ascontiguousarray(raw).data if isinstance(raw, np.ndarray) else raw)
    try:
        decoded = decode(raw, shape, name=name, deep_max=deep_max)
    except Unreadable as error:
        return _Taken(error.reason, 0, 0, 0, file_hash, 0), None
    pixels = np.ascontiguousarray(decoded.image)
    pixel_hash = _hash(
        pixels.data, decoded.height.to_bytes(4, "little") + decoded.width.to_bytes(4, "little")
    )
    return _Taken("", decoded.traits, decoded.height, decoded.width, file_hash, pixel_hash), pixels


def _hash(data: bytes | memoryview, salt: bytes = b"") -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, salt=salt).digest(), "little")


def thumbnails(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (b, h, w, c) shrunk by area to 8 x 8 gray levels, as (b, 64).

    All are shrunk as one tall picture: h / 8 is exact in binary, so no image bleeds into the next. One axis
    after the other, since Pillow rounds in between and chooses the order by the picture's shape.
    """
    b, h, w, c = images.shape
    tall = Image.fromarray(images.reshape((b * h, w, c) if c == 3 else (b * h, w)))
    narrow = tall.convert("L").resize((THUMB, b * h), Image.Resampling.BOX)
    return np.asarray(narrow.resize((THUMB, b * THUMB), Image.Resampling.BOX)).reshape(b, THUMB * THUMB)


def _collect(intake: Intake, pending: deque[tuple[int, Future[_Chunk]]], progress: Progress | None) -> None:
    """Move the oldest chunk's results into the columns."""
    start, future = pending.popleft()
    taken, thumbs = future.result()
    part = slice(start, start + len(taken))
    intake.thumbs[part] = thumbs
    intake.ok[part] = [not one.reason for one in taken]
    intake.traits[part] = [one.traits for one in taken]
    intake.heights[part] = [one.height for one in taken]
    intake.widths[part] = [one.width for one in taken]
    intake.file_hash[part] = np.array([one.file_hash for one in taken], np.uint64)
    intake.pixel_hash[part] = np.array([one.pixel_hash for one in taken], np.uint64)
    for i, one in enumerate(taken, start):
        if one.reason:
            intake.reason[i] = one.reason
    if progress is not None:
        progress(part.stop, len(intake))
