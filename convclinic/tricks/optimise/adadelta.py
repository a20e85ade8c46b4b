"""Adadelta: steps are as long as recent steps were, divided by recent gradients: there is no LR to choose.

Formula   g <- g + weight_decay w;   v <- rho v + (1 - rho) g^2;   d = sqrt(u + eps) / sqrt(v + eps) g;
          u <- rho u + (1 - rho) d^2;   w <- w - lr d
Shapes    weights with two axes or more are decayed; biases, norms and PReLU slopes are not
Strength  rho in [0, 1), 0.95, and eps > 0, 1e-6, are the source's, which has no lr: that is lr = 1;
          weight_decay >= 0, 0 is off
Helps     where no LR can be tried out
Hurts     the final score, where there was time to tune SGD; eps sets the length of the first steps, and 1e-6
          makes them short
Clashes   LR range tests (its steps are not measured by the LR)
Source    Zeiler, ADADELTA: An Adaptive Learning Rate Method, 2012, arXiv:1212.5701, algorithm 1, as in
          torch.optim.Adadelta, whose lr lets a schedule act; rho is 0.9 by default there. The decay is
          coupled: it goes through the division
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from convclinic.tricks.optimise._groups import check_positive, check_range, decayed


@dataclass(frozen=True)
class Adadelta:
    slot: ClassVar[str] = "optimise"
    lr: float = 1.0
    rho: float = 0.95
    eps: float = 1e-6
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_range("adadelta", "lr", self.lr)
        check_range("adadelta", "rho", self.rho, below=1.0)
        check_range("adadelta", "weight_decay", self.weight_decay)
        check_positive("adadelta", "eps", self.eps, usual="1e-6")

    def build(self, net: nn.Module) -> torch.optim.Optimizer:
        """torch's optimiser over the trainable parameters. Raises ConvclinicError when there are none."""
        groups = decayed(net, self.lr, self.weight_decay)
        return torch.optim.Adadelta(groups, lr=self.lr, rho=self.rho, eps=self.eps, foreach=True)
