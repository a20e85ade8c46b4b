"""Frozen batch norm: normalisation goes on with the mean and variance that came with the weights.

Formula   y = gamma (x - m) / sqrt(v + eps) + beta,   in training as in testing with the stored m and v, which
          stay what they are
Shapes    every batch norm of the net; maps (b, c, h, w) keep their shape
Strength  affine true: gamma and beta learn; false: they stay too, so a batch norm is a fixed linear map.
          There is no value that means off: leave it out
Helps     small batches, and few images that are like those the weights come from: features in training are
          those that testing sees
Hurts     images of another kind or brightness than the stored statistics tell of: adaptive ones, which is
          leaving this out, often do better there (Li et al., 2017, arXiv:1603.04779)
Clashes   nets without batch norm; fresh weights, whose stored mean 0 and variance 1 are no statistics at all
Source    Ioffe and Szegedy, Batch Normalization, 2015, arXiv:1502.03167, for the two modes; frozen while
          fine-tuning: He et al., Deep Residual Learning, 2015, arXiv:1512.03385, appendix A, where gamma and
          beta are fixed too
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

BATCH_NORM = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage] - of 1, 2 and 3 axes


@dataclass(frozen=True)
class FrozenNorm:
    slot: ClassVar[str] = "transfer"
    kind: ClassVar[Literal["mode"]] = "mode"
    affine: bool = True

    def install(self, net: nn.Module) -> None:
        """Leave gamma and beta out of training, where they are to stay."""
        for norm in _norms(net) if not self.affine else ():
            for parameter in norm.parameters(recurse=False):
                parameter.requires_grad_(False)

    def hold(self, net: nn.Module) -> None:
        """Put every batch norm of a net in training mode into evaluation mode."""
        for norm in _norms(net):
            norm.training = False


def _norms(net: nn.Module) -> Iterator[nn.Module]:
    return (module for module in net.modules() if isinstance(module, BATCH_NORM))
