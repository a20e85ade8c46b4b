"""One thread per share of a batch, instead of many threads per operation.

A batch passes some dozens of short operations. When torch splits each of them, its threads wait for each
other dozens of times, and a machine that does anything else meanwhile loses most of its speed by that.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

import torch

CACHE_FLOATS = 400_000  # about as many as stay in a core's cache between two operations


@contextmanager
def own_threads(device: torch.device) -> Generator[int, None, None]:
    """Inside, torch splits no operation; gives the number of shares that the work is worth splitting into.

    torch keeps its number of threads per thread and starts new ones with the last number set: the threads of
    `shared_out` thus work alone, and the number is set back at the end.
    """
    n_threads = torch.get_num_threads()
    if device.type != "cpu" or n_threads == 1:
        yield 1
        return
    torch.set_num_threads(1)
    try:
        yield n_threads
    finally:
        torch.set_num_threads(n_threads)


def shared_out(work: Callable[[slice], None], n: int, shares: int) -> None:
    """Do `work` for n images in so many slices, each in a thread of its own."""
    shares = min(shares, n)
    if shares < 2:
        work(slice(0, n))
        return
    edges = [n * k // shares for k in range(shares + 1)]
    inference = torch.is_inference_mode_enabled()  # is kept per thread, and they write into the caller's

    def own(share: slice) -> None:
        with torch.inference_mode(inference):
            work(share)

    with ThreadPoolExecutor(shares) as pool:
        list(pool.map(own, [slice(start, end) for start, end in pairwise(edges)]))


def parts(share: slice, floats_each: int, device: torch.device) -> Iterator[slice]:
    """Slices of a slice, each small enough for the cache; the whole of it off the CPU."""
    n = share.stop - share.start
    step = max(1, CACHE_FLOATS // max(1, floats_each)) if device.type == "cpu" else max(1, n)
    return (slice(k, min(share.stop, k + step)) for k in range(share.start, share.stop, step))
