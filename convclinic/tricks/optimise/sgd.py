"""SGD: step against the gradient; with momentum, along a fading sum of the gradients so far.

Formula   d = g + weight_decay w;   v <- momentum v + d;   w <- w - lr (d + momentum v) with Nesterov's
          momentum, and w <- w - lr v with the classical one; without momentum both are w <- w - lr d
Shapes    weights with two axes or more are decayed; biases, norms and PReLU slopes are not
Strength  lr >= 0; momentum in [0, 1), 0 is off (plain SGD); nesterov true or false (classical); weight_decay
          >= 0, 0 is off. 0.1, 0.9 and 5e-4 are usual for nets with batch normalisation, a tenth of that LR or
          less for nets without
Helps     the best final scores of residual nets, once LR and schedule are right
Hurts     badly scaled nets (no normalisation, poor initialisation), where AdamW forgives more
Clashes   nothing
Source    plain: Robbins and Monro, A Stochastic Approximation Method, 1951; classical momentum: Polyak, Some
          Methods of Speeding up the Convergence of Iteration Methods, 1964; Nesterov's, 1983, as in
          Sutskever et al., On the Importance of Initialization and Momentum in Deep Learning, 2013. In the
          form of torch.optim.SGD, whose LR multiplies the momentum too; g is the mean over the batch
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from convclinic.tricks.optimise._groups import check_range, decayed


@dataclass(frozen=True)
class SGD:
    slot: ClassVar[str] = "optimise"
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"momentum": (0.0, 0.995), "weight_decay": (0.0, 0.01)}
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        check_range("sgd", "lr", self.lr)
        check_range("sgd", "momentum", self.momentum, below=1.0)
        check_range("sgd", "weight_decay", self.weight_decay)

    def build(self, net: nn.Module) -> torch.optim.Optimizer:
        """torch's optimiser over the trainable parameters. Raises ConvclinicError when there are none."""
        return torch.optim.SGD(
            decayed(net, self.lr, self.weight_decay),
            lr=self.lr,
            momentum=self.momentum,
            # without momentum both kinds are the same, and torch refuses the combination
            nesterov=self.nesterov and self.momentum > 0,
            foreach=True,
        )
