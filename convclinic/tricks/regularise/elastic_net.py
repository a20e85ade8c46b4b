"""Elastic net: L1 and L2 together, so that weights become zero, but those that go together stay together.

Formula   minimises loss + sum (l1 |w| + l2 w^2) by w <- soft(w, lr l1) / (1 + 2 lr l2) after each update,
          with soft(w, s) = sign(w) max(|w| - s, 0): the w that minimises
          |w - w_old|^2 / 2 + lr l1 |w| + lr l2 w^2, which is called a proximal step
Shapes    weights with two axes or more; biases, norms and PReLU slopes with `everything`; frozen ones never
Strength  l1 and l2 >= 0, both 0 is off; 1e-5 and 2.5e-4 are a first try. There is no half here: l2 = 2.5e-4
          is strength 5e-4 of the trick l2
Helps     sparse nets; a linear classifier on features that are much alike, of which l1 alone keeps any one
Hurts     small nets: whole filters can go
Clashes   the optimiser's weight_decay and l2 (both shrink); muon on filters (their length is fixed, and its
          LR is not in the weights' units)
Source    Zou and Hastie, Regularization and Variable Selection via the Elastic Net, 2005, the naive form,
          which is not scaled up again afterwards; the step: Parikh and Boyd, Proximal Algorithms, 2014. Exact
          zeros are reached by it and would not be by a subgradient. Behind momentum m or an adaptive
          optimiser it is the same step, and weaker or stronger than its numbers say, as the card of l1 tells
"""
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
# torch's calls for many tensors at once are private by name, yet what its optimisers are made of

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from convclinic.tricks.regularise._weights import check_strength, weights
from convclinic.tricks.regularise.l1 import soft, soft_


def elastic(weight: Tensor, lr: float, l1: float, l2: float) -> Tensor:
    """The formula.

    >>> elastic(torch.tensor([-3.0, 0.5, 2.0]), lr=0.5, l1=2.0, l2=1.0).tolist()
    [-1.0, 0.0, 0.5]
    """
    return soft(weight, lr * l1) / (1 + 2 * lr * l2)


@dataclass(frozen=True)
class ElasticNet:
    slot: ClassVar[str] = "regularise"
    kind: ClassVar[Literal["projection"]] = "projection"
    OFF: ClassVar[dict[str, object]] = {"l1": 0.0, "l2": 0.0}
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"l1": (0.0, 0.001), "l2": (0.0, 0.01)}
    l1: float = 1e-5
    l2: float = 2.5e-4
    everything: bool = False

    def __post_init__(self) -> None:
        check_strength("elastic_net", "l1", self.l1, usual="1e-5 is a first try, 0 is off")
        check_strength("elastic_net", "l2", self.l2, usual="2.5e-4 is a first try, 0 is off")

    @torch.no_grad()
    def project(self, net: nn.Module, lr: float) -> None:
        """Take the proximal step with every weight, in place."""
        found = weights(net, self.everything)
        if found:
            soft_(found, lr * self.l1)
            torch._foreach_div_(found, 1 + 2 * lr * self.l2)
