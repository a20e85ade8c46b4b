"""Logit adjustment: the loss adds what the class's share explains, so that the net need not learn it.

Formula   loss = cross-entropy of f_k(x) + tau log(n_k / n), in training alone; in testing f_k(x) as it is.
          At its minimum and tau = 1, softmax f(x) is the posterior under balanced classes: f_k(x) =
          log p(x | k) + a constant of x
Shapes    counts (k,) int64 -> offsets (k,) float32, added to logits (b, k)
Strength  tau in [0, 10]: 0 is off, 1 is the source's and consistent for balanced accuracy; more favours rare
          classes beyond that
Helps     balanced accuracy and the recall of rare classes, long tails most; no image weighs more than
          another, so steps stay calm
Hurts     accuracy where testing is as skewed as training; the net's probabilities are those of balanced
          classes
Clashes   up_sampling, down_sampling and class_weights: what is done twice is overdone;
          label_smoothing, whose share for rare classes it raises as well
Source    Menon et al., Long-tail learning via logit adjustment, 2021, arXiv:2007.07314, section 5

A class without training images is refused: its offset would be minus infinity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.balance._counts import priors


def offsets(counts: Int[Tensor, " k"], tau: float) -> Float[Tensor, " k"]:
    """The formula, float64.

    >>> offsets(torch.tensor([90, 10]), tau=1.0).exp()
    tensor([0.9000, 0.1000], dtype=torch.float64)
    """
    return tau * priors(counts).log()


@dataclass(frozen=True)
class LogitAdjustment:
    slot: ClassVar[str] = "balance"
    kind: ClassVar[Literal["loss"]] = "loss"
    OFF: ClassVar[dict[str, object]] = {"tau": 0.0}
    tau: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.tau <= 10:
            raise ConvclinicError(f"logit_adjustment.tau is {self.tau}", fix="give a number from 0 to 10")

    def weights(self, counts: Tensor) -> Tensor:
        return torch.ones(len(counts), device=counts.device)

    def offsets(self, counts: Tensor) -> Tensor:
        return offsets(counts, self.tau).float()
