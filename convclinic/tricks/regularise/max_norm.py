"""Max-norm: no unit's incoming weights may be longer than c; after each update they are cut back to it.

Formula   w_u <- w_u / max(1, |w_u| / c) for each unit u
Shapes    weights (out, ...) with two axes or more, w_u one of the `out` rows; with `everything` each number
          of a bias, norm or PReLU slope is a row of its own; frozen ones never
Strength  c > 0; 3 or 4 is usual; infinity would be off, so leave it out instead
Helps     with dropout and a high LR, which then cannot blow the weights up; nets without normalisation
Hurts     nothing known at the usual c; below about 1 the net can no longer fit
Clashes   muon on filters (their length is fixed); it does little before batch norm, which undoes any scale
Source    Srebro and Shraibman, Rank, Trace-Norm and Max-Norm, 2005; for nets Srivastava et al., Dropout,
          2014, section 5.1; 3 or 4: Wei, Must Know Tips/Tricks in Deep Neural Networks, 2015. The last layer
          is clamped too. Rows that are short enough stay as they are, bit for bit
"""
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
# torch's calls for many tensors at once are private by name, yet what its optimisers are made of

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import has_own_scale
from convclinic.tricks.regularise._weights import weights


def row_norms(weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*norms"]:
    """The length of each row, (out, 1, ...); of what has one axis or none, that of each number."""
    if weight.ndim < 2:
        return weight.abs()
    return torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)


def max_norm(weight: Float[Tensor, "*shape"], c: float) -> Float[Tensor, "*shape"]:
    """The formula.

    >>> max_norm(torch.tensor([[3.0, 4.0], [1.0, 0.5]]), 2.5).tolist()
    [[1.5, 2.0], [1.0, 0.5]]
    """
    return weight / (row_norms(weight) / c).clamp_min(1)


@dataclass(frozen=True)
class MaxNorm:
    slot: ClassVar[str] = "regularise"
    kind: ClassVar[Literal["projection"]] = "projection"
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"c": (1.0, math.inf)}
    c: float = 3.0
    everything: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.c < math.inf:
            raise ConvclinicError(f"max_norm's c must be above 0, not {self.c}", fix="3 or 4 is usual")

    @torch.no_grad()
    def project(self, net: nn.Module, lr: float) -> None:
        """Cut back every row that is too long, in place; the LR does not matter."""
        scaled = {id(layer.weight) for layer in net.modules() if has_own_scale(layer)}
        found = [weight for weight in weights(net, self.everything) if id(weight) not in scaled]
        if found:
            norms = [row_norms(weight) for weight in found]
            torch._foreach_div_(norms, self.c)
            torch._foreach_clamp_min_(norms, 1.0)
            torch._foreach_div_(found, norms)
