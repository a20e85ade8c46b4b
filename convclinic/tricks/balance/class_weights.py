"""Class-weighted loss: an image counts the more, the fewer images its class has.

Formula   w_k = 1 / E_k^power, scaled so that the mean of w over the training images is one;
          E_k = (1 - beta^n_k) / (1 - beta), the effective number of class k's n_k images, n_k at beta = 1;
          loss = mean over images of -sum_k w_k y_k log p_k
Shapes    counts (k,) int64 -> weights (k,) float32
Strength  power in [0, 2]: 0 is off, 1/2 a common middle way, 1 makes all classes count the same.
          beta in [0, 1]: 1 counts every image in full; the smaller, the less a further image of a large class
          adds; 0 is off. Its source tried 0.9, 0.99, 0.999 and 0.9999
Helps     balanced accuracy and the recall of rare classes, at no cost in time
Hurts     accuracy where testing is as skewed as training; with weights of a hundred, a few images make large
          steps; the net's probabilities are those of balanced classes
Clashes   up_sampling, down_sampling and logit_adjustment: what is done twice is overdone;
          label_smoothing, whose share for rare classes it raises as well
Source    King and Zeng, Logistic Regression in Rare Events Data, 2001, for 1 / n_k; Cui et al.,
          Class-Balanced Loss Based on Effective Number of Samples, 2019, arXiv:1901.05555, for beta

Deviations: the 2019 source scales the weights to sum to the number of classes, which makes the loss smaller
the more skewed the classes are; here the loss keeps its scale, and with it the LR. There power is 1.
A class without training images is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.balance._counts import priors


def effective_number(counts: Int[Tensor, " k"], beta: float) -> Float[Tensor, " k"]:
    """How many images each class's are worth, float64.

    >>> effective_number(torch.tensor([1, 2, 1000]), 0.9)
    tensor([ 1.0000,  1.9000, 10.0000], dtype=torch.float64)
    """
    n = counts.double()
    return n if beta == 1 else (1 - beta**n) / (1 - beta)


def weights(counts: Int[Tensor, " k"], power: float, beta: float) -> Float[Tensor, " k"]:
    """The formula, float64.

    >>> weights(torch.tensor([60, 30, 10]), power=1, beta=1)
    tensor([0.5556, 1.1111, 3.3333], dtype=torch.float64)
    """
    share = priors(counts)
    raw = effective_number(counts, beta) ** -power
    return raw / (share * raw).sum()


@dataclass(frozen=True)
class ClassWeights:
    slot: ClassVar[str] = "balance"
    kind: ClassVar[Literal["loss"]] = "loss"
    OFF: ClassVar[dict[str, object]] = {"power": 0.0}
    power: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.power <= 2:
            raise ConvclinicError(f"class_weights.power is {self.power}", fix="give a number from 0 to 2")
        if not 0 <= self.beta <= 1:
            raise ConvclinicError(f"class_weights.beta is {self.beta}", fix="give a number from 0 to 1")

    def weights(self, counts: Tensor) -> Tensor:
        return weights(counts, self.power, self.beta).float()

    def offsets(self, counts: Tensor) -> Tensor:
        return torch.zeros(len(counts), device=counts.device)
