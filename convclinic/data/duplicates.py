"""Exact and near duplicates among the images of a data set.

Exact: the same pixels (pixel hash) or the same file. Near: a difference hash of the 8 x 8 thumbnail, looked
up by its four 16-bit pieces (multi-index hashing, Norouzi et al. 2012, arXiv:1307.2982), then verified on
the thumbnails and on the stored pixels. The work grows as n log n.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from convclinic.data.intake import THUMB, Intake
from convclinic.data.sources.base import Source
from convclinic.data.store import Store

Pairs = NDArray[np.int64]  # (m, 2), first < second

_NEIGHBOURS = 16  # each image meets this many followers in a sorted bucket: large buckets cannot explode
_MAX_BITS = 16  # of the 64 that may differ
_MIN_SIDE = 16  # pixels; below, different images of one thing are as alike as two copies
_MIN_CONTRAST = 8.0  # standard deviation of a thumbnail below which it says too little (0..255)
_MIN_THUMB = 0.97  # correlation of the thumbnails; correlations do not mind brightness and contrast
_MIN_PIXELS = 0.90  # correlation of the stored pixels
_MIN_DETAIL = 0.70  # correlation of what an 8 x 8 mosaic leaves out: all seas and skies agree in the coarse
_MIN_THUMB_ALONE = 0.995  # where no pixels were stored
_STRICT_PIXELS, _STRICT_DETAIL = 0.98, 0.97  # for images that are alike by nature, such as centred garments
_ALIKE = (20, 0.02)  # so many pairs, and this share of all, with different labels show that they are alike
_LARGEST = 8  # near duplicates in one group: a longer chain of likenesses proves nothing
_BLOCK = 100_000  # pairs verified at once
_BLOCK_BYTES = 16 * 2**20  # of stored pixels compared at once


def duplicate_groups(intake: Intake, source: Source) -> NDArray[np.int64]:
    """Group of each image (n,): the smallest index of the images that show the same; its own if alone.

    Near duplicates are looked for between the source's own groups only: within one they stay together
    anyway.
    """
    groups = exact_groups(intake)
    pairs, likeness = near_pairs(intake, source.groups, source.labels)
    return _merge(groups, pairs[np.argsort(-likeness, kind="stable")])


def exact_groups(intake: Intake) -> NDArray[np.int64]:
    """(n,) smallest index among the images with the same pixels; broken files are alone."""
    n = len(intake)
    groups = np.arange(n)
    good = np.flatnonzero(intake.ok)
    if not len(good):
        return groups
    _, first, inverse = np.unique(intake.pixel_hash[good], return_index=True, return_inverse=True)
    groups[good] = good[first[inverse.reshape(-1)]]
    return groups


def near_pairs(
    intake: Intake,
    apart: NDArray[np.int32] | None = None,
    labels: NDArray[np.int32] | None = None,
) -> tuple[Pairs, NDArray[np.float32]]:
    """Pairs (m, 2) of images that show nearly the same, and their correlation (m,).

    Exact duplicates are represented by their first copy. Pairs within one group of `apart` are left out.
    True duplicates share their label: where many pairs do not, likeness proves little and the bar is raised.
    """
    exact = exact_groups(intake)
    thumbs = intake.thumbs
    large = np.minimum(intake.heights, intake.widths) >= _MIN_SIDE
    good = intake.ok & large & (exact == np.arange(len(intake))) & (_contrast(thumbs) >= _MIN_CONTRAST)
    places = np.flatnonzero(good)
    pairs = places[_candidates(_signature(thumbs[places]))]
    if apart is not None:
        pairs = pairs[apart[pairs[:, 0]] != apart[pairs[:, 1]]]
    likeness = _thumb_likeness(thumbs, pairs)
    near = likeness >= (_MIN_THUMB if intake.store is not None else _MIN_THUMB_ALONE)
    pairs, likeness = pairs[near], likeness[near]
    if intake.store is None:
        near = np.full(len(pairs), not _alike_by_nature(pairs, labels))
        return pairs[near], likeness[near]
    likeness, detail = _pixel_likeness(intake.store, pairs)
    near = (likeness >= _MIN_PIXELS) & (detail >= _MIN_DETAIL)
    if _alike_by_nature(pairs[near], labels):
        near = (likeness >= _STRICT_PIXELS) & (detail >= _STRICT_DETAIL)
    return pairs[near], likeness[near]


def _alike_by_nature(pairs: Pairs, labels: NDArray[np.int32] | None) -> bool:
    """Whether so many look-alikes differ in label that likeness proves little."""
    if labels is None:
        return False
    unlike = int((labels[pairs[:, 0]] != labels[pairs[:, 1]]).sum())
    return unlike >= _ALIKE[0] and unlike > _ALIKE[1] * len(pairs)


def _contrast(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Standard deviation of each thumbnail, block by block so that memory stays small."""
    out = np.empty(len(thumbs), np.float32)
    for start in range(0, len(thumbs), _BLOCK):
        out[start : start + _BLOCK] = thumbs[start : start + _BLOCK].std(1, dtype=np.float32)
    return out


def _signature(thumbs: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """64 bits an image: is each pixel brighter than its right neighbour (the last: than the first)?"""
    grid = thumbs.reshape(-1, THUMB, THUMB)
    brighter = grid > np.roll(grid, -1, axis=2)
    return np.packbits(brighter.reshape(-1, THUMB * THUMB), axis=1).view(np.uint64)[:, 0]


def _candidates(bits: NDArray[np.uint64]) -> Pairs:
    """Pairs of positions that share one 16-bit piece, or nearly, and differ in at most _MAX_BITS bits."""
    n = len(bits)
    found: list[NDArray[np.int64]] = []
    for piece in range(4):
        turn = np.uint64(16 * piece)
        turned = bits if piece == 0 else (bits << turn) | (bits >> np.uint64(64 - 16 * piece))
        order = np.argsort(turned, kind="stable")
        for step in range(1, min(_NEIGHBOURS, n - 1) + 1):
            a, b = order[:-step], order[step:]
            close = _count_bits(bits[a] ^ bits[b]) <= _MAX_BITS
            low, high = np.minimum(a[close], b[close]), np.maximum(a[close], b[close])
            found.append(low * n + high)
    if not found:
        return np.empty((0, 2), np.int64)
    codes = np.unique(np.concatenate(found))
    return np.stack([codes // n, codes % n], axis=1)


_ONES = np.array([value.bit_count() for value in range(65536)], np.uint8)


def _count_bits(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Ones in each 64-bit word."""
    return _ONES[words.view(np.uint16).reshape(-1, 4)].sum(1, dtype=np.uint8)


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pearson's correlation of each row of a (m, d) with the same row of b."""
    a = a - a.mean(1, keepdims=True)
    b = b - b.mean(1, keepdims=True)
    scale = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return (a * b).sum(1) / np.maximum(scale, 1e-6)


def _thumb_likeness(thumbs: NDArray[np.uint8], pairs: Pairs) -> NDArray[np.float32]:
    out = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), _BLOCK):
        a, b = pairs[start : start + _BLOCK].T
        out[start : start + _BLOCK] = _correlation(thumbs[a].astype(np.float32), thumbs[b].astype(np.float32))
    return out


def _pixel_likeness(store: Store, pairs: Pairs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Correlation (m,) of the stored pixels of each pair, and of their detail."""
    likeness = np.empty(len(pairs), np.float32)
    detail = np.empty(len(pairs), np.float32)
    block = max(1, _BLOCK_BYTES // (4 * math.prod(store.shape[1:])))
    for start in range(0, len(pairs), block):
        part = slice(start, start + block)
        a, b = (store.gather(column).astype(np.float32) for column in pairs[part].T)
        likeness[part] = _correlation(a.reshape(len(a), -1), b.reshape(len(b), -1))
        detail[part] = _correlation(_detail(a), _detail(b))
    return likeness, detail


def _detail(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images (b, h, w, c) less their 8 x 8 mosaic, as (b, d); images too small for one are left whole."""
    b, h, w, c = images.shape
    high, wide = h // THUMB, w // THUMB
    if high < 2 or wide < 2:
        return images.reshape(b, -1)
    tiles = images[:, : high * THUMB, : wide * THUMB].reshape(b, THUMB, high, THUMB, wide, c)
    return (tiles - tiles.mean((2, 4), keepdims=True)).reshape(b, -1)


def _merge(groups: NDArray[np.int64], pairs: Pairs) -> NDArray[np.int64]:
    """Join groups along pairs, nearest first, as long as no group takes in more than _LARGEST others."""
    parent: dict[int, int] = {}
    members: dict[int, int] = {}

    def root(i: int) -> int:
        while i in parent:
            i = parent[i]
        return i

    for a, b in pairs.tolist():
        a, b = sorted((root(int(groups[a])), root(int(groups[b]))))
        together = members.get(a, 1) + members.get(b, 1)
        if a != b and together <= _LARGEST:
            parent[b] = a
            members[a] = together
    joined = groups.copy()
    for i in np.flatnonzero(np.isin(groups, list(parent))).tolist():
        joined[i] = root(int(groups[i]))
    return joined


def join_groups(first: NDArray[np.int64], second: NDArray[np.integer] | None) -> NDArray[np.int64]:
    """The finest grouping (n,) that keeps together what either grouping keeps together.

    >>> join_groups(np.array([0, 0, 2, 3]), np.array([5, 6, 6, 7])).tolist()
    [0, 0, 0, 3]
    """
    columns = [np.unique(first, return_inverse=True)[1].reshape(-1)]
    if second is not None:
        columns.append(np.unique(second, return_inverse=True)[1].reshape(-1))
    joined = np.arange(len(first), dtype=np.int64)
    while True:
        before = joined.copy()
        for column in columns:
            least = np.full(int(column.max(initial=-1)) + 1, len(joined), np.int64)
            np.minimum.at(least, column, joined)
            joined = least[column]
        if np.array_equal(before, joined):
            return joined
