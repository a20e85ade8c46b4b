"""RMSProp: each gradient is divided by the recent size of its own kind, so all weights move at one pace.

Formula   g <- g + weight_decay w;   v <- rho v + (1 - rho) g^2;   d = g / (sqrt(v) + eps);
          with momentum m: b <- m b + d, w <- w - lr b;   centred: sqrt(v - u^2) in place of sqrt(v), with
          u <- rho u + (1 - rho) g
Shapes    weights with two axes or more are decayed; biases, norms and PReLU slopes are not
Strength  lr >= 0, 1e-3 is usual; rho in [0, 1), 0.9 is the source's; momentum in [0, 1), 0 is off;
          weight_decay >= 0, 0 is off; eps > 0
Helps     nets without normalisation; mobile nets of the years around 2018, whose recipes use it
Hurts     the first steps: v starts at 0 and, unlike Adam's, is not corrected for it, so they are up to
          1 / sqrt(1 - rho) times too long; a warm-up helps
Clashes   nothing
Source    Tieleman and Hinton, Lecture 6.5, Divide the Gradient by a Running Average of Its Recent Magnitude,
          2012; centred: Graves, Generating Sequences with Recurrent Neural Networks, 2013,
          arXiv:1308.0850. As in torch.optim.RMSprop, eps and the momentum are additions, and the decay is
          coupled: it goes through the division. rho is torch's alpha, 0.99 by default there
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from convclinic.tricks.optimise._groups import check_positive, check_range, decayed


@dataclass(frozen=True)
class RMSProp:
    slot: ClassVar[str] = "optimise"
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"momentum": (0.0, 0.995), "weight_decay": (0.0, 0.01)}
    lr: float = 1e-3
    rho: float = 0.9
    eps: float = 1e-8
    momentum: float = 0.0
    centred: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_range("rmsprop", "lr", self.lr)
        check_range("rmsprop", "rho", self.rho, below=1.0)
        check_range("rmsprop", "momentum", self.momentum, below=1.0)
        check_range("rmsprop", "weight_decay", self.weight_decay)
        check_positive("rmsprop", "eps", self.eps, usual="1e-8")

    def build(self, net: nn.Module) -> torch.optim.Optimizer:
        """torch's optimiser over the trainable parameters. Raises ConvclinicError when there are none."""
        return torch.optim.RMSprop(
            decayed(net, self.lr, self.weight_decay),
            lr=self.lr,
            alpha=self.rho,
            eps=self.eps,
            momentum=self.momentum,
            centered=self.centred,
            foreach=True,
        )
