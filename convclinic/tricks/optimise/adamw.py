"""AdamW: each weight's step is scaled by the size of its own gradients; weights decay on their own.

Formula   m <- beta1 m + (1 - beta1) g;   v <- beta2 v + (1 - beta2) g^2;
          w <- w - lr weight_decay w - lr m' / (sqrt(v') + eps),
          m' = m / (1 - beta1^t),   v' = v / (1 - beta2^t)
Shapes    weights with two axes or more are decayed; biases, norms and PReLU slopes are not
Strength  lr >= 0, 1e-3 is usual, a tenth of it for fine-tuning; weight_decay >= 0, 0 is off (plain Adam) and
          0.05 is usual; beta1 and beta2 in [0, 1); eps > 0
Helps     nets without normalisation, fine-tuning, first tries: it forgives a wrong LR
Hurts     the last bit of accuracy of small residual nets, where tuned SGD is often ahead
Clashes   L2 penalties in the loss (their gradient would be rescaled weight by weight)
Source    Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019 (2017), arXiv:1711.05101, in the
          form of torch.optim.AdamW, whose decay is multiplied by the LR; 0.05 from Liu et al., A ConvNet
          for the 2020s, 2022, arXiv:2201.03545
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from convclinic.tricks.optimise._groups import check_positive, check_range, decayed


@dataclass(frozen=True)
class AdamW:
    slot: ClassVar[str] = "optimise"
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"beta1": (0.0, 0.99), "weight_decay": (0.0, 1.0)}
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.05

    def __post_init__(self) -> None:
        check_range("adamw", "lr", self.lr)
        check_range("adamw", "weight_decay", self.weight_decay)
        check_range("adamw", "beta1", self.beta1, below=1.0)
        check_range("adamw", "beta2", self.beta2, below=1.0)
        check_positive("adamw", "eps", self.eps, usual="1e-8")

    def build(self, net: nn.Module) -> torch.optim.Optimizer:
        """torch's optimiser over the trainable parameters. Raises ConvclinicError when there are none."""
        groups = decayed(net, self.lr, self.weight_decay)
        betas = (self.beta1, self.beta2)
        return torch.optim.AdamW(groups, lr=self.lr, betas=betas, eps=self.eps, foreach=True)
