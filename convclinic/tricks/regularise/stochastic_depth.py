"""Stochastic depth: in training each image passes through a net with some residual branches left out.

Formula   training: y = x + b_l f_l(x) / (1 - p_l),   b_l = 0 with probability p_l, else 1, for each image;
          testing: y = x + f_l(x);   p_l = p l / L for the l-th of L branches, so that the early ones, which
          all others build on, stay most often
Shapes    branches (b, c, h, w), kept: on the output of each, before it is added to the shortcut
Strength  p in [0, 1), that of the last branch; 0 is off; 0.5 is the source's for 54 branches and more, 0.1 to
          0.2 is usual for the dozen of a ResNet-34 or less
Helps     very deep residual nets, which it makes trainable and regularises
Hurts     shallow ones and short runs; nets without residual branches have no place for it
Clashes   dropout inside the same branches
Source    Huang et al., Deep Networks with Stochastic Depth, 2016, arXiv:1603.09382, equations 2 to 5. There a
          branch is left out for a whole batch, and not computed, which saves a quarter of the time; here for
          each image, and all are computed, since the gradient is less noisy. There testing multiplies the
          branch by 1 - p_l; here training divides by it, so that testing needs no change
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError
from convclinic.models._layers import BranchPlace
from convclinic.tricks.regularise._places import check_p, fill, places


def rates(p: float, n: int) -> list[float]:
    """The probability of being left out of each of n branches.

    >>> rates(0.5, 4)
    [0.125, 0.25, 0.375, 0.5]
    """
    return [p * position / n for position in range(1, n + 1)]


def keep(branch: Float[Tensor, "b ..."], kept: Bool[Tensor, " b"], p: float) -> Float[Tensor, "b ..."]:
    """The branch over 1 - p for the images that keep it, and zero for the others."""
    factor = kept.to(branch.dtype) / (1 - p)
    return branch * factor.view(-1, *[1] * (branch.ndim - 1))


class DropBranch(nn.Module):
    """Draws in training, and in testing does not.

    A module is called with its input alone, so the draws come from torch's global generator, which the loop
    scopes by name for each step; that of the CPU, so that every device leaves out the same.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        if not self.training or self.p == 0:
            return x
        return keep(x, (torch.rand(len(x)) >= self.p).to(x.device), self.p)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"


@dataclass(frozen=True)
class StochasticDepth:
    slot: ClassVar[str] = "regularise"
    kind: ClassVar[Literal["noise"]] = "noise"
    OFF: ClassVar[dict[str, object]] = {"p": 0.0}
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"p": (0.0, 0.8)}
    p: float = 0.5

    def __post_init__(self) -> None:
        check_p("stochastic_depth", self.p, usual="0.5")

    def install(self, net: nn.Module) -> None:
        """Fill the place of each branch. Raises ConvclinicError when the net has none."""
        found = places(net, BranchPlace)
        if not found:
            raise ConvclinicError(
                "stochastic_depth needs a net with residual branches, and this one leaves no place for it",
                fix="take a ResNet, or dropout",
            )
        fill(found, [DropBranch(p) for p in rates(self.p, len(found))])
