"""Adagrad: each weight's LR falls with the gradients it has seen, so rarely used weights keep a high one.

Formula   g <- g + weight_decay w;   G <- G + g^2;   w <- w - lr g / (sqrt(G) + eps)
Shapes    weights with two axes or more are decayed; biases, norms and PReLU slopes are not
Strength  lr >= 0, 0.01 is usual; weight_decay >= 0, 0 is off; eps > 0; accumulated >= 0 is what G starts
          from, 0 there
Helps     rare features and classes; convex problems, such as a linear classifier on fixed features
Hurts     long runs of deep nets: G only grows, so the LR falls like 1 / sqrt(t) and training stalls
Clashes   schedules that fall (it has a fall of its own, and they are multiplied)
Source    Duchi et al., Adaptive Subgradient Methods for Online Learning and Stochastic Optimization, 2011,
          the diagonal form, as in torch.optim.Adagrad. The decay is coupled: it goes through the division
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from convclinic.tricks.optimise._groups import check_positive, check_range, decayed


@dataclass(frozen=True)
class Adagrad:
    slot: ClassVar[str] = "optimise"
    lr: float = 1e-2
    eps: float = 1e-10
    accumulated: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_range("adagrad", "lr", self.lr)
        check_range("adagrad", "accumulated", self.accumulated)
        check_range("adagrad", "weight_decay", self.weight_decay)
        check_positive("adagrad", "eps", self.eps, usual="1e-10")

    def build(self, net: nn.Module) -> torch.optim.Optimizer:
        """torch's optimiser over the trainable parameters. Raises ConvclinicError when there are none."""
        return torch.optim.Adagrad(
            decayed(net, self.lr, self.weight_decay),
            lr=self.lr,
            initial_accumulator_value=self.accumulated,
            eps=self.eps,
            foreach=True,
        )
