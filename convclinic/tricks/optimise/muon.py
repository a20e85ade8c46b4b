"""Muon: filters step along the orthogonal matrix nearest to their momentum, so all directions learn alike.

Formula   filters, as matrices (out, in k k):   v <- momentum v + g;   u = g + momentum v;
          p <- p sqrt(out) / |p|;   p <- p - lr O(u),   O(u) close to U V^T where u = U S V^T
          the rest, SGD with Nesterov's momentum:   d = g + l p;   v <- m v + d;   p <- p - lr' (d + m v)
Shapes    filters: weights with two axes or more, all but the last linear layer's; g is the batch mean
Strength  lr, the share of a filter's length a step takes, 0.24; momentum 0.6; steps of the iteration, 3;
          head_lr and bias_lr, for the last linear weight and for what has one axis, in mean-gradient units;
          weight_decay 2e-6, 0 is off: a step at full LR takes 2000 x 2e-6 = 0.004 off the rest, whatever
          its LR, so l = 0.004 / lr'. There is no value that means off
Helps     nets with normalisation after every convolution, in short training above all
Hurts     nets without: every filter is brought to length 1 on average, so its scale is lost
Clashes   weight decay, L2 and max-norm on filters (their length is fixed); nets whose logits are not divided
          by the width (256) of the last layer: there head_lr and bias_lr are far too large, and at another
          width they go with it, as the planner has them
Source    Jordan et al., Muon, 2024, kellerjordan.github.io/posts/muon, and cifar10-airbench, 2024. Its loss
          is the sum over 2000 images: 0.67 and 0.053 times 2000 are 1340 and 106 here. As there, biases
          decay; norm weights and PReLU slopes, frozen or absent there, do not. A frozen first convolution
          named `whiten` keeps its filters, and its bias learns for 3 of 8 epochs: the group's "until". Hidden
          linear layers, absent there, count as filters. torch.optim.Muon (since torch 2.9) takes matrices
          only, so no convolutions, and does not fix their length
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.sgd import sgd

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.optimise._groups import check_range, filled, group

SOURCE_BATCH = 2000
WHITEN_UNTIL = 0.375


def orthogonalise(
    g: Float[Tensor, "*m rows cols"], steps: int, dtype: torch.dtype
) -> Float[Tensor, "*m rows cols"]:
    """U S' V^T for g = U S V^T, with S' in about [0.5, 1.5], by a Newton-Schulz iteration in `dtype`.

    The quintic's coefficients maximise the slope at zero (3.4445), at the price of never settling at 1.
    """
    x = g.to(dtype)
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x if wide else x.mT).to(g.dtype)


def normalised(p: Float[Tensor, "out ..."]) -> Float[Tensor, "out ..."]:
    """A filter bank brought to the norm sqrt(out)."""
    return p * (math.sqrt(len(p)) / torch.linalg.vector_norm(p).clamp_min(1e-12))


def working_dtype(p: Tensor) -> torch.dtype:
    """bfloat16 where the GPU has it in hardware; elsewhere at least float32.

    On the CPU the iteration is a small part of a step, and float32 gives the same on every machine.
    """
    if p.is_cuda and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.promote_types(p.dtype, torch.float32)


class MuonOptimizer(torch.optim.Optimizer):
    """Groups with `steps` hold filters, the others the rest; all state is one `momentum_buffer` each."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One update of everything that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for item in self.param_groups:
            parameters = [p for p in item["params"] if p.grad is not None]
            if "steps" in item:
                self._filters(item, parameters)
            else:
                self._rest(item, parameters)
        return loss

    def _filters(self, item: dict[str, Any], parameters: list[Tensor]) -> None:
        # filters of one shape are one batched product: fewer, larger kernels
        alike: dict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
        for p in parameters:
            alike[p.shape, p.dtype, p.device].append(p)
        for same in alike.values():
            pushed = torch.stack([self._pushed(p, item["momentum"]).flatten(1) for p in same])
            updates = orthogonalise(pushed, item["steps"], working_dtype(same[0]))
            for p, update in zip(same, updates, strict=True):
                p.copy_(normalised(p).sub_(update.view_as(p), alpha=item["lr"]))

    def _pushed(self, p: Tensor, momentum: float) -> Tensor:
        assert p.grad is not None
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p.grad)
        buffer = state["momentum_buffer"].mul_(momentum).add_(p.grad)
        return p.grad.add(buffer, alpha=momentum)

    def _rest(self, item: dict[str, Any], parameters: list[Tensor]) -> None:
        buffers = [self.state[p].get("momentum_buffer") for p in parameters]
        sgd(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            buffers,
            foreach=True,
            weight_decay=item["weight_decay"],
            momentum=item["momentum"],
            lr=item["lr"],
            dampening=0.0,
            nesterov=item["momentum"] > 0,
            maximize=False,
        )
        for p, buffer in zip(parameters, buffers, strict=True):
            self.state[p]["momentum_buffer"] = buffer


def sort(net: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The trainable parameters by their part: filters, head, whiten, biases and slopes.

    The head is the last linear layer, or the last convolution of a net that has none.
    """
    modules = list(net.modules())
    heads = [module.weight for module in modules if isinstance(module, nn.Linear)]
    heads = heads or [module.weight for module in modules if isinstance(module, nn.Conv2d)]
    first = getattr(net, "whiten", None)
    frozen = isinstance(first, nn.Conv2d) and not first.weight.requires_grad
    parts: dict[str, list[nn.Parameter]] = {
        part: [] for part in ("filters", "head", "whiten", "biases", "slopes")
    }
    for name, p in net.named_parameters():
        if not p.requires_grad:
            continue
        if heads and p is heads[-1]:
            part = "head"
        elif p.ndim >= 2:
            part = "filters"
        elif frozen and name == "whiten.bias":
            part = "whiten"
        else:
            part = "biases" if name.endswith("bias") else "slopes"
        parts[part].append(p)
    return parts


@dataclass(frozen=True)
class Muon:
    slot: ClassVar[str] = "optimise"
    lr: float = 0.24
    momentum: float = 0.6
    steps: int = 3
    head_lr: float = 1340.0
    bias_lr: float = 106.0
    momentum_rest: float = 0.85
    weight_decay: float = 2e-6

    def __post_init__(self) -> None:
        for name in ("lr", "head_lr", "bias_lr", "weight_decay"):
            check_range("muon", name, getattr(self, name))
        for name in ("momentum", "momentum_rest"):
            check_range("muon", name, getattr(self, name), below=1.0)
        if self.steps < 1:
            raise ConvclinicError(f"muon's steps must be 1 or more, not {self.steps}", fix="3 to 5 is usual")

    def build(self, net: nn.Module) -> torch.optim.Optimizer:
        """One optimiser for both kinds of groups; the group of `whiten.bias` carries "until".

        Where a group has "until", its LR factor is max(0, 1 - progress / until) and not the schedule's.
        Raises ConvclinicError when there is nothing to train.
        """
        parts, shrink = sort(net), SOURCE_BATCH * self.weight_decay

        def rest(name: str, lr: float, shrink: float, **more: Any) -> dict[str, Any]:
            return group(parts[name], lr, shrink / lr if lr else 0.0, momentum=self.momentum_rest, **more)

        filters = group(parts["filters"], self.lr, 0.0, momentum=self.momentum, steps=self.steps)
        groups = [
            filters,
            rest("head", self.head_lr, shrink),
            rest("whiten", self.bias_lr, shrink, until=WHITEN_UNTIL),
            rest("biases", self.bias_lr, shrink),
            rest("slopes", self.bias_lr, 0.0),
        ]
        return MuonOptimizer(filled(groups), defaults={})
