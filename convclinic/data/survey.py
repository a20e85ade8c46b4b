"""A quick look at a data set through the headers of some of its images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convclinic.data.decode import GRAY, Unreadable, decode, header, largest_value
from convclinic.data.levels import depth
from convclinic.data.seeding import rng
from convclinic.data.sources.base import Raw, Source

_LOOKED_AT = 64  # colour images whose pixels are checked for being gray
_GRAY_MODES = {"1", "L", "LA", "I;16", "I;16B", "I;16L", "I", "F"}
_DEEP_MODES = {"I;16", "I;16B", "I;16L", "I"}
_PEEK = (64, 64, 3)


@dataclass(frozen=True)
class Survey:
    """Sizes (m,) in pixels of a sample of m readable images of n; the share that is gray, in [0, 1]; and
    the largest value of the data set's bit depth (255, 1023, 4095, 16383 or 65535; 65535 if none is deep).
    """

    heights: NDArray[np.int32]
    widths: NDArray[np.int32]
    gray_share: float
    deep_max: int
    n: int


def survey(source: Source, sample: int = 512, seed: int = 0) -> Survey:
    """Look at a random sample of the images; the same seed looks at the same ones.

    Files that cannot be read are passed over here: the full pass tells of them.
    """
    n = len(source)
    chosen = np.sort(rng(seed, "survey").permutation(n)[:sample])
    heights: list[int] = []
    widths: list[int] = []
    gray = peeked = peeked_gray = coloured = 0
    largest = 0.0
    for i in chosen.tolist():
        try:
            raw = source.read(i)
            height, width, mode = header(raw)
            if mode in _DEEP_MODES:
                largest = max(largest, largest_value(raw))
        except (OSError, Unreadable):
            continue
        heights.append(height)
        widths.append(width)
        if mode in _GRAY_MODES:
            gray += 1
            continue
        coloured += 1
        if peeked < _LOOKED_AT:
            peeked += 1
            peeked_gray += _looks_gray(raw, source.names[i])
    gray_share = (gray + coloured * peeked_gray / max(peeked, 1)) / max(len(heights), 1)
    return Survey(
        np.array(heights, np.int32),
        np.array(widths, np.int32),
        gray_share,
        depth(largest) if largest else 65535,
        n,
    )


def _looks_gray(raw: Raw, name: str) -> bool:
    try:
        return bool(decode(raw, _PEEK, name=name).traits & GRAY)
    except Unreadable:
        return False
