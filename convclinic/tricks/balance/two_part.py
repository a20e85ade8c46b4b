"""Two-part training: first the classes with many images, then the classes with few.

Formula   rare classes are those with n_k < below max n; m = images of all others. While progress < switch an
          epoch visits each of those m once; from then on it has round(keep m) visits of the others and
          m - round(keep m) of rare classes, within either group every image equally often or once more
Shapes    labels (n,) int64 -> positions (m,) int64 into them, shuffled; m is the same in every epoch
Strength  below in [0, 1]: 0 is off (no class is rare), 1 makes all but the largest rare. switch in (0, 1):
          share of training of the first part. keep in [0, 1]: share of the second part's visits that still
          goes to the classes with many images; 0 is the source's
Helps     fine-tuning, where classes fall into two groups that are each nearly balanced
Hurts     a small keep: the net forgets the first group while it learns the second, the more so from scratch
          and at a high LR; runs of so few epochs that none begins after the switch never see a rare class
Clashes   any other balance policy: this one decides alone what is visited
Source    Wei, Must Know Tips/Tricks in Deep Neural Networks, 2015, where it is a way to fine-tune

Deviations: keep is 1/2 by default, since with the source's 0 nothing holds what the first part learnt. The
net's head has all classes throughout. Parts change only between epochs, and the second part's epochs are as
long as the first's: its images repeat, or are a part of all, to fill them. Where no class is rare, every
epoch visits every image once. What few images are is ours: the source gives no number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.balance._visits import check_share, rare, visited


def wanted(many: int, few: int, second: bool, keep: float) -> tuple[int, int]:
    """Visits an epoch has of images of the classes with many, and of those with few.

    >>> wanted(100, 20, second=False, keep=0.25), wanted(100, 20, second=True, keep=0.25)
    ((100, 0), (25, 75))
    """
    kept = round(keep * many) if second and few else many
    return kept, many - kept


@dataclass(frozen=True)
class TwoPart:
    slot: ClassVar[str] = "balance"
    kind: ClassVar[Literal["sampling"]] = "sampling"
    OFF: ClassVar[dict[str, object]] = {"below": 0.0}
    below: float = 0.5
    switch: float = 0.5
    keep: float = 0.5

    def __post_init__(self) -> None:
        check_share("two_part.below", self.below)
        check_share("two_part.keep", self.keep)
        if not 0 < self.switch < 1:
            raise ConvclinicError(
                f"two_part.switch is {self.switch}", fix="give a share of training between 0 and 1"
            )

    def visits(self, rng: torch.Generator, labels: Tensor, progress: float) -> Tensor:
        group = rare(labels.bincount(), self.below)[labels].long()  # 0 of many images, 1 of few
        many, few = group.bincount(minlength=2).tolist()
        return visited(rng, group, torch.tensor(wanted(many, few, progress >= self.switch, self.keep)))
