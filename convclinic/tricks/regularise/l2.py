"""L2: half the squared length of the weights is added to the loss, so that they stay small.

Formula   loss + strength / 2 sum w^2,   whose gradient is strength w
Shapes    weights with two axes or more; biases, norms and PReLU slopes with `everything`; frozen ones never
Strength  strength >= 0; 0 is off; 5e-4 is usual for nets with batch normalisation
Helps     small sets, and nets without other regularisation; in a loss that is to be compared or plotted whole
Hurts     nothing known at moderate strength
Clashes   the optimiser's weight_decay, which does the same again: with sgd it is this penalty, and cheaper;
          adagrad, rmsprop, adadelta and adam, which divide this gradient along with the loss's, so that
          weights are not penalised alike, as they are by adamw's decay; muon on filters (their
          length is fixed)
Source    Hoerl and Kennard, Ridge Regression, 1970; Krogh and Hertz, A Simple Weight Decay Can Improve
          Generalization, 1992
"""
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
# torch's calls for many tensors at once are private by name, yet what its optimisers are made of

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convclinic.tricks.regularise._weights import check_strength, weights


class HalfSquares(torch.autograd.Function):
    """One call for all tensors, each way; autograd would make several for each of them, at every step."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        norms = torch.stack(torch._foreach_norm(tensors))
        return norms.to(torch.promote_types(norms.dtype, torch.float32)).square().sum() / 2

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch._foreach_mul(ctx.saved_tensors, upstream[0]))


def half_squares(tensors: Sequence[Tensor]) -> Float[Tensor, ""]:
    """sum w^2 / 2 over all tensors, in float32 or better; gradients flow to each.

    >>> half_squares([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]])]).item()
    7.0
    """
    return HalfSquares.apply(*tensors) if tensors else torch.zeros(())


@dataclass(frozen=True)
class L2:
    slot: ClassVar[str] = "regularise"
    kind: ClassVar[Literal["penalty"]] = "penalty"
    OFF: ClassVar[dict[str, object]] = {"strength": 0.0}
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"strength": (0.0, 0.01)}
    strength: float = 5e-4
    everything: bool = False

    def __post_init__(self) -> None:
        check_strength("l2", "strength", self.strength, usual="5e-4 is usual, 0 is off")

    def penalty(self, net: nn.Module) -> Tensor:
        """What is added to the loss."""
        return self.strength * half_squares(weights(net, self.everything))
