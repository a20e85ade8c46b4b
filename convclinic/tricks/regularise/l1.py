"""L1: the weights' absolute values are kept small, so that those the loss does not need become exactly zero.

Formula   minimises loss + strength sum |w| by w <- soft(w, lr strength) after each update, with
          soft(w, s) = sign(w) max(|w| - s, 0) = w - clamp(w, -s, s): the w that minimises
          |w - w_old|^2 / 2 + s |w|, which is called a proximal step
Shapes    weights with two axes or more; biases, norms and PReLU slopes with `everything`; frozen ones never
Strength  strength >= 0; 0 is off; 1e-5 is a first try
Helps     sparse nets, that can be pruned; a linear classifier on many features, which it selects from
Hurts     small nets: whole filters can go
Clashes   muon on filters (their length is fixed, and its LR is not in the weights' units)
Source    Tibshirani, Regression Shrinkage and Selection via the Lasso, 1996; the step: Daubechies et al., An
          Iterative Thresholding Algorithm for Linear Inverse Problems, 2004. As a penalty in the loss its
          subgradient, strength sign(w), would move weights to and fro across zero and leave none there. The
          step is the same behind every optimiser: behind momentum m it acts like strength (1 - m), since
          gradients add up in it and the threshold does not; behind adaptive ones strength is compared with
          each gradient over its own root mean square
"""
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
# torch's calls for many tensors at once are private by name, yet what its optimisers are made of

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from convclinic.tricks.regularise._weights import check_strength, weights


def soft(weight: Tensor, threshold: float) -> Tensor:
    """The formula.

    >>> soft(torch.tensor([-3.0, -0.5, 0.0, 1.0, 2.0]), 1.0).tolist()
    [-2.0, 0.0, 0.0, 0.0, 1.0]
    """
    return weight - weight.clamp(-threshold, threshold)


def soft_(tensors: list[Tensor], threshold: float) -> None:
    """The same for many tensors, in place."""
    if tensors:
        clamped = torch._foreach_clamp_max(tensors, threshold)
        torch._foreach_clamp_min_(clamped, -threshold)
        torch._foreach_sub_(tensors, clamped)


@dataclass(frozen=True)
class L1:
    slot: ClassVar[str] = "regularise"
    kind: ClassVar[Literal["projection"]] = "projection"
    OFF: ClassVar[dict[str, object]] = {"strength": 0.0}
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"strength": (0.0, 0.001)}
    strength: float = 1e-5
    everything: bool = False

    def __post_init__(self) -> None:
        check_strength("l1", "strength", self.strength, usual="1e-5 is a first try, 0 is off")

    @torch.no_grad()
    def project(self, net: nn.Module, lr: float) -> None:
        """Bring every weight nearer to zero by lr strength, and to zero when it is nearer than that."""
        soft_(weights(net, self.everything), lr * self.strength)
