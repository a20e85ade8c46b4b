"""Rare-class crops: take extra crops, and only from the classes with few images.

Formula   each image of a class with n_k < below max n is visited 1 + extra times an epoch, every other image
          once; each visit draws its augmentation anew, and with it a crop of its own
Shapes    labels (n,) int64 -> positions (m,) int64 into them, shuffled; m is the same in every epoch
Strength  extra >= 0, visits more per epoch: 0 is off; max n / n_k - 1 makes a class as large as the largest.
          below in [0, 1] says which classes are rare: 0 none, 1 all but the largest
Helps     rare classes, by other pictures of them and not by copies alone
Hurts     nothing gained without a crop or a shift in the augmentation: then it only repeats images
Clashes   up_sampling and down_sampling (another hand on the same visits); balance policies of the loss
Source    Wei, Must Know Tips/Tricks in Deep Neural Networks, 2015, as done in Wei, Gao and Wu, Deep Spatial
          Pyramid Ensemble for Cultural Event Recognition, 2015

Deviations: the source extracts its crops once, before training; here they are those of the recipe's cropping
or shifting augmentation (resized_crop, shift) and differ every time. The numbers are ours: the source
names none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from convclinic.ground.typed import at_least
from convclinic.tricks.balance._visits import check_share, rare, visited


def wanted(counts: Int[Tensor, " k"], below: float, extra: int) -> Int[Tensor, " k"]:
    """Visits of each class in an epoch.

    >>> wanted(torch.tensor([100, 60, 20]), below=0.5, extra=3)
    tensor([100,  60,  80])
    """
    return counts * (1 + extra * rare(counts, below))


@dataclass(frozen=True)
class RareCrops:
    slot: ClassVar[str] = "balance"
    kind: ClassVar[Literal["sampling"]] = "sampling"
    OFF: ClassVar[dict[str, object]] = {"extra": 0}
    below: float = 0.5
    extra: int = 3

    def __post_init__(self) -> None:
        check_share("rare_crops.below", self.below)
        at_least("rare_crops.extra", self.extra, 0)

    def visits(self, rng: torch.Generator, labels: Tensor, progress: float) -> Tensor:
        return visited(rng, labels, wanted(labels.bincount(), self.below, self.extra))
