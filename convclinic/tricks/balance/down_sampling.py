"""Down-sampling: an epoch visits only as many images of each class as the smallest class has.

Formula   m_k = n_k - strength (n_k - min n), rounded: visits of class k, which has n_k images; which of them
          is drawn anew every epoch, none twice in one
Shapes    labels (n,) int64 -> positions (m,) int64 into them, shuffled; m = sum of m_k in every epoch
Strength  strength in [0, 1]: 0 is off, every image once; 1 brings every class to the size of the smallest
Helps     balanced accuracy where the large classes are all alike; epochs are short
Hurts     everything where the smallest class is tiny: a short run never sees most of the others' images
Clashes   any other balance policy, up_sampling and class_weights first: what is done twice is overdone
Source    Wei, Must Know Tips/Tricks in Deep Neural Networks, 2015; compared with up-sampling by Buda, Maki
          and Mazurowski, 2018, arXiv:1710.05381

Deviation: there the images left out are removed for good; here every epoch leaves out others. The smallest
class is that of the classes that have images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from convclinic.tricks.balance._visits import check_share, visited


def wanted(counts: Int[Tensor, " k"], strength: float) -> Int[Tensor, " k"]:
    """Visits of each class in an epoch.

    >>> wanted(torch.tensor([100, 20, 0]), 0.5)
    tensor([60, 20,  0])
    """
    smallest = counts[counts > 0].min()
    surplus = (counts - smallest).clamp(min=0).double()
    return counts - (strength * surplus).round().long()


@dataclass(frozen=True)
class DownSampling:
    slot: ClassVar[str] = "balance"
    kind: ClassVar[Literal["sampling"]] = "sampling"
    OFF: ClassVar[dict[str, object]] = {"strength": 0.0}
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_share("down_sampling.strength", self.strength)

    def visits(self, rng: torch.Generator, labels: Tensor, progress: float) -> Tensor:
        return visited(rng, labels, wanted(labels.bincount(), self.strength))
