"""Up-sampling: an epoch visits the images of rare classes several times, until all classes are level.

Formula   m_k = n_k + strength (max n - n_k), rounded: visits of class k, which has n_k images. Each of them
          is visited floor(m_k / n_k) times or once more; which ones once more is drawn anew every epoch
Shapes    labels (n,) int64 -> positions (m,) int64 into them, shuffled; m = sum of m_k in every epoch
Strength  strength in [0, 1]: 0 is off, every image once; 1 brings every class to the size of the largest
Helps     balanced accuracy and the recall of rare classes; loses no image
Hurts     accuracy where testing is as skewed as training; epochs are longer, up to k max n; a rare class is
          learnt by heart unless augmentation shows it differently each time
Clashes   any other balance policy, down_sampling and class_weights first: what is done twice is overdone
Source    Masko and Hensman, The Impact of Imbalanced Training Data for Convolutional Neural Networks, 2015;
          recommended in Wei, Must Know Tips/Tricks in Deep Neural Networks, 2015, and found best of four
          policies by Buda, Maki and Mazurowski, 2018, arXiv:1710.05381

Deviation: the sources copy images drawn at random; here copies are spread evenly. A class without training
images stays without.
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
    tensor([100,  60,   0])
    """
    missing = (counts.max() - counts).double()
    return (counts + (strength * missing).round().long()) * (counts > 0)


@dataclass(frozen=True)
class UpSampling:
    slot: ClassVar[str] = "balance"
    kind: ClassVar[Literal["sampling"]] = "sampling"
    OFF: ClassVar[dict[str, object]] = {"strength": 0.0}
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_share("up_sampling.strength", self.strength)

    def visits(self, rng: torch.Generator, labels: Tensor, progress: float) -> Tensor:
        return visited(rng, labels, wanted(labels.bincount(), self.strength))
