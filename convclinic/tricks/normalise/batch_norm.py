"""Batch norm: each map gets mean zero and variance one over the batch, then a learned scale and shift.

Formula   y = gamma (x - mean) / sqrt(var + eps) + beta;   in training mean and var are those of the batch,
          for each map over (b, h, w), var over n; in testing they are stored ones, which follow the batches:
          stored <- (1 - momentum) stored + momentum batch's, where var is over n - 1
Shapes    maps (b, c, h, w), kept; gamma, beta and the stored ones (c,). It stands after a conv (or linear)
          layer and before the non-linearity
Strength  momentum in (0, 1], the share of each new batch in what is stored; eps > 0. Leave it out with `none`
Helps     nearly every deep net: a high LR, less care with initialisation, some regularisation
Hurts     batches below about 8 images, where the statistics are noise; and fine-tuning on little data,
          where new statistics break what was learnt: freeze() keeps the stored ones, gamma and beta as is
Clashes   dropout straight before it (training and testing then differ in variance: Li et al., 2018,
          arXiv:1801.05134); biases before it, which beta makes idle and the nets here leave out
Source    Ioffe and Szegedy, Batch normalization, 2015, arXiv:1502.03167, algorithms 1 and 2. The paper
          averages the statistics of many batches once training is over; the moving average with momentum 0.1
          is torch's. The linear layers of AlexNet and VGG get none here, as in their public forms
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError


def batch_norm(
    x: Float[Tensor, "b c h w"], gamma: Float[Tensor, " c"], beta: Float[Tensor, " c"], eps: float
) -> Float[Tensor, "b c h w"]:
    """The formula in training.

    >>> x = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    >>> batch_norm(x, torch.tensor([10.0]), torch.tensor([5.0]), eps=0.0).flatten().tolist()
    [-5.0, 15.0]
    """
    mean = x.mean((0, 2, 3), keepdim=True)
    var = (x - mean).square().mean((0, 2, 3), keepdim=True)
    return gamma.view(-1, 1, 1) * (x - mean) / torch.sqrt(var + eps) + beta.view(-1, 1, 1)


class FrozenBatchNorm(nn.BatchNorm2d):
    """Stays in evaluation mode, whatever mode the net around it is put into."""

    def train(self, mode: bool = True) -> FrozenBatchNorm:
        super().train(False)
        return self


def frozen(norm: nn.BatchNorm2d) -> FrozenBatchNorm:
    """A twin that shares the tensors of `norm` and changes none of them."""
    with torch.device("meta"):  # nothing is allocated: the tensors are those of `norm`
        twin = FrozenBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine)
    twin.load_state_dict(norm.state_dict(), assign=True)
    return twin.requires_grad_(False).eval()


def freeze(net: nn.Module) -> int:
    """Fix the statistics and the parameters of every batch norm inside `net`, in place; returns how many.

    Names in the state dict stay. To be called before the optimiser is built: the parameters need no gradient
    from then on. Raises ConvclinicError when there is no batch norm to freeze.
    """
    count = 0
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, frozen(child))
                count += 1
    if count == 0:
        raise ConvclinicError("this net has no batch norm to freeze", fix="train it as it is")
    return count


@dataclass(frozen=True)
class BatchNorm:
    slot: ClassVar[str] = "normalise"
    momentum: float = 0.1
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 < self.momentum <= 1:
            raise ConvclinicError(
                f"batch_norm's momentum must lie in (0, 1], not {self.momentum}",
                fix="it is the share of the new batch: 0.1 is usual, 0.4 follows faster",
            )
        if not 0 < self.eps < math.inf:
            raise ConvclinicError(f"batch_norm's eps must be above 0, not {self.eps}", fix="1e-5 is usual")

    def build(self, channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels, eps=self.eps, momentum=self.momentum)
