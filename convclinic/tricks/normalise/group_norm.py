"""Group norm: each image's maps, a group at a time, get mean zero and variance one, whatever the batch.

Formula   y = gamma (x - mean) / sqrt(var + eps) + beta, with mean and var (over n) of each image and group of
          neighbouring maps, over the group's maps and all pixels
Shapes    maps (b, c, h, w), kept; gamma and beta (c,)
Strength  groups >= 1, at most: a layer takes the largest divisor of its channels that is not above `groups`
          and leaves two maps or more to a group; eps > 0. Leave it out with `none`
Helps     batches of a few images; images judged alike in training and testing; small sets to fine-tune on
Hurts     large batches, where batch norm regularises and does a little better; speed a little. Maps of one
          pixel with two maps to a group: only their order is left
Clashes   nothing
Source    Wu and He, Group normalization, 2018, arXiv:1803.08494, equation 7, with its 32 groups. The paper's
          nets have 64 channels and more; the rule for fewer is ours, as a group of one map would be instance
          norm, which does worse there (table 3)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError


def group_norm(
    x: Float[Tensor, "b c h w"],
    groups: int,
    gamma: Float[Tensor, " c"],
    beta: Float[Tensor, " c"],
    eps: float,
) -> Float[Tensor, "b c h w"]:
    """The formula; `groups` divides c.

    >>> x = torch.tensor([1.0, 3.0, 50.0, 50.0]).view(1, 4, 1, 1)
    >>> group_norm(x, 2, torch.ones(4), torch.zeros(4), eps=1e-9).flatten().tolist()
    [-1.0, 1.0, 0.0, 0.0]
    """
    grouped = x.unflatten(1, (groups, -1))
    mean = grouped.mean((2, 3, 4), keepdim=True)
    var = (grouped - mean).square().mean((2, 3, 4), keepdim=True)
    flat = ((grouped - mean) / torch.sqrt(var + eps)).flatten(1, 2)
    return gamma.view(-1, 1, 1) * flat + beta.view(-1, 1, 1)


def groups_for(channels: int, most: int) -> int:
    """The largest divisor of `channels` not above `most` that leaves two maps or more to a group.

    >>> [groups_for(channels, 32) for channels in (1, 2, 6, 7, 48, 64, 96, 192)]
    [1, 1, 3, 1, 24, 32, 32, 32]
    """
    limit = max(1, min(most, channels // 2))
    return next(groups for groups in range(limit, 0, -1) if channels % groups == 0)


@dataclass(frozen=True)
class GroupNorm:
    slot: ClassVar[str] = "normalise"
    groups: int = 32
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise ConvclinicError(
                f"group_norm's groups must be 1 or more, not {self.groups}", fix="32 is usual"
            )
        if not 0 < self.eps < math.inf:
            raise ConvclinicError(f"group_norm's eps must be above 0, not {self.eps}", fix="1e-5 is usual")

    def build(self, channels: int) -> nn.Module:
        return nn.GroupNorm(groups_for(channels, self.groups), channels, eps=self.eps)
