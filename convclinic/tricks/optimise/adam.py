"""Adam: momentum, with each weight's step scaled by the size of its own gradients.

Formula   g <- g + weight_decay w;   m <- beta1 m + (1 - beta1) g;   v <- beta2 v + (1 - beta2) g^2;
          w <- w - lr m' / (sqrt(v') + eps),   m' = m / (1 - beta1^t),   v' = v / (1 - beta2^t)
Shapes    weights with two axes or more are decayed; biases, norms and PReLU slopes are not
Strength  lr >= 0, 1e-3 is usual; weight_decay >= 0, 0 is off; beta1 and beta2 in [0, 1); eps > 0
Helps     first tries and nets without normalisation: it forgives a wrong LR
Hurts     the last bit of accuracy of small residual nets, where tuned SGD is often ahead; regularisation by
          weight_decay, which is divided by sqrt(v') too: the larger a weight's gradients, the less it decays
Clashes   weight_decay and L2 penalties, for that reason: adamw takes the same share off every weight
Source    Kingma and Ba, Adam: A Method for Stochastic Optimization, 2015 (2014), arXiv:1412.6980, algorithm
          1; it has no decay, and this is the coupled one of torch.optim.Adam. Without decay it is adamw
          without decay, step for step
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from convclinic.tricks.optimise._groups import check_positive, check_range, decayed


@dataclass(frozen=True)
class Adam:
    slot: ClassVar[str] = "optimise"
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"beta1": (0.0, 0.99), "weight_decay": (0.0, 0.01)}
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_range("adam", "lr", self.lr)
        check_range("adam", "weight_decay", self.weight_decay)
        check_range("adam", "beta1", self.beta1, below=1.0)
        check_range("adam", "beta2", self.beta2, below=1.0)
        check_positive("adam", "eps", self.eps, usual="1e-8")

    def build(self, net: nn.Module) -> torch.optim.Optimizer:
        """torch's optimiser over the trainable parameters. Raises ConvclinicError when there are none."""
        groups = decayed(net, self.lr, self.weight_decay)
        betas = (self.beta1, self.beta2)
        return torch.optim.Adam(groups, lr=self.lr, betas=betas, eps=self.eps, foreach=True)
