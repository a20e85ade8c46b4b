"""What the policies that act in the loss have in common."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from convclinic.ground.errors import ConvclinicError


def priors(counts: Int[Tensor, " k"]) -> Float[Tensor, " k"]:
    """The share of each class, float64. Raises ConvclinicError where a class has no training images."""
    empty = (counts == 0).nonzero()
    if len(empty):
        raise ConvclinicError(
            f"class number {int(empty[0])} (from 0) has no training images, so its loss cannot be balanced",
            fix="give it images, or take it out of the data",
        )
    return counts.double() / counts.sum()
