"""Towards the start (L2-SP): weights decay towards the pretrained ones, and what is new towards zero.

Formula   loss + strength / 2 sum (w - w0)^2 + head / 2 sum u^2,   w the weights that were loaded, w0 their
          values at the start, u all others
Shapes    weights with two axes or more; biases, norms and frozen ones never
Strength  strength and head >= 0; both 0 is off. 0.01 and 0.01 are moderate; the more alike the images are to
          those the weights come from, the larger strength may be
Helps     fine-tuning on few images: plain weight decay draws the net away from what it knows
Hurts     images unlike those the weights come from, at a large strength
Clashes   the optimiser's weight_decay and l2, which pull towards zero at the same time; adaptive optimisers,
          which divide this gradient along with the loss's; muon; weights that nothing was loaded into
Source    Li, Grandvalet and Davoine, Explicit Inductive Bias for Transfer Learning with Convolutional
          Networks, 2018, arXiv:1802.01483. Theirs has the biases and norms too
"""
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
# torch's calls for many tensors at once are private by name, yet what its optimisers are made of

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import State


class HalfDistances(torch.autograd.Function):
    """One call for all tensors, each way; autograd would make several for each of them, at every step."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> Tensor:
        apart = torch._foreach_sub(tensors[:count], tensors[count:])
        ctx.save_for_backward(*apart)
        norms = torch.stack(torch._foreach_norm(apart))
        return norms.to(torch.promote_types(norms.dtype, torch.float32)).square().sum() / 2

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        pulls = torch._foreach_mul(ctx.saved_tensors, upstream[0])
        return (None, *pulls, *[None] * len(pulls))


def half_distances(tensors: Sequence[Tensor], origins: Sequence[Tensor]) -> Float[Tensor, ""]:
    """sum (w - w0)^2 / 2 over all pairs, in float32 or better; gradients flow to the first of each.

    >>> half_distances([torch.tensor([[1.0, 2.0]])], [torch.tensor([[1.0, 5.0]])]).item()
    4.5
    """
    return HalfDistances.apply(len(tensors), *tensors, *origins) if tensors else torch.zeros(())


@dataclass(frozen=True)
class TowardsStart:
    slot: ClassVar[str] = "transfer"
    kind: ClassVar[Literal["anchor"]] = "anchor"
    OFF: ClassVar[dict[str, object]] = {"strength": 0.0, "head": 0.0}
    strength: float = 0.01
    head: float = 0.01

    def __post_init__(self) -> None:
        for option in ("strength", "head"):
            value: float = getattr(self, option)
            if not 0 <= value < float("inf"):
                raise ConvclinicError(
                    f"towards_start's {option} must be 0 or more, not {value}", fix="0.01 is usual, 0 is off"
                )

    def reference(self, net: nn.Module, loaded: Collection[str]) -> State:
        """w0: copies of the net's weights whose names are in `loaded`, at the start of training."""
        return {
            name: parameter.detach().clone()
            for name, parameter in net.named_parameters()
            if name in loaded and parameter.ndim >= 2
        }

    def penalty(self, net: nn.Module, reference: State) -> Tensor:
        """What is added to the loss: a scalar in float32."""
        learning = [(name, p) for name, p in net.named_parameters() if p.requires_grad and p.ndim >= 2]
        old = [(p, reference[name]) for name, p in learning if name in reference]
        new = [p for name, p in learning if name not in reference]
        pulled = half_distances([p for p, _ in old], [origin for _, origin in old])
        shrunk = half_distances(new, [torch.zeros_like(p) for p in new])
        return self.strength * pulled + self.head * shrunk
