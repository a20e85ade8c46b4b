"""What the policies that choose which images an epoch visits have in common."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from convclinic.ground.errors import ConvclinicError


def visited(rng: torch.Generator, labels: Int[Tensor, " n"], wanted: Int[Tensor, " k"]) -> Int[Tensor, " m"]:
    """(m,) positions into `labels`, shuffled, `wanted[k]` of them with label k.

    Within a label every image is visited as often as any other or once more; which ones is drawn. A label
    without images gets no visits.
    """
    counts = torch.bincount(labels, minlength=len(wanted))
    mixed = torch.randperm(len(labels), generator=rng)
    grouped = mixed[labels[mixed].argsort(stable=True)]  # by label, in the order drawn within each
    label = labels[grouped]
    rank = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[label]
    times = wanted[label] // counts[label] + (rank < wanted[label] % counts[label])
    visits = grouped.repeat_interleave(times)
    return visits[torch.randperm(len(visits), generator=rng)]


def rare(counts: Int[Tensor, " k"], below: float) -> Bool[Tensor, " k"]:
    """Which classes have fewer than `below` of the largest class's images.

    >>> rare(torch.tensor([100, 50, 49]), 0.5)
    tensor([False, False,  True])
    """
    return counts.double() < below * counts.max().double()


def check_share(option: str, share: float) -> None:
    """Raise ConvclinicError unless `share` lies in [0, 1]."""
    if not 0 <= share <= 1:
        raise ConvclinicError(f"{option} is {share}", fix="give a share from 0 to 1")
