"""Random numbers by name for a room without torch: the same derivation as everywhere, numpy's generator."""

from __future__ import annotations

import hashlib

import numpy as np


def rng(seed: int, *names: str | int) -> np.random.Generator:
    """A fresh generator for the stream called `names`.

    >>> int(rng(0, "split").integers(100)) == int(rng(0, "split").integers(100))
    True
    """
    text = "\x1f".join([str(seed), *map(str, names)])
    key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    return np.random.Generator(np.random.PCG64(key))
