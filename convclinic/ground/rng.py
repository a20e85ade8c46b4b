"""Random numbers by name: a draw depends on who asks, never on who asked before.

Every generator is derived from the run's seed and a path of names such as ("augment", "flip", 120).
So adding one trick changes no other's draws, and any step can be replayed alone.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator

import torch


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called `names`.

    >>> derive(0, "augment", 1) == derive(0, "augment", 1)
    True
    >>> derive(0, "augment", 1) == derive(0, "augment", 2)
    False
    """
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A fresh CPU generator for the stream called `names`; draws are the same on every device."""
    return torch.Generator().manual_seed(derive(seed, *names))


@contextlib.contextmanager
def scoped(seed: int, *names: str | int) -> Generator[None]:
    """Let code that draws from torch's global generators (dropout, default initialisers) draw from a named
    stream; the global state is put back afterwards."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, *names))
        yield
