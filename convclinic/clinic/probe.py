"""The fixed probe batch: what every unit does on the same images as training goes on.

Operations are seen where PyTorch runs them, so a ReLU counts whether it is a module or a function. The model
is left as it was: weights, buffers, modes and random state.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from convclinic.clinic.signals import Activation, Depth, Probe
from convclinic.clinic.untouched import untouched
from convclinic.clinic.watch import bare, first_tensor

STEPS = (1, 10, 25, 50, 100)  # after these many updates, then each time that their number has doubled
IMAGES = 64  # of the first batch; enough for a unit that fires on 5 % of images to fire 19 times in 20
ENDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
SATURATED = 0.01  # of the range from an end
ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu", "silu", "elu", "leaky_relu", "hardtanh", "clamp_min")
LINEAR = ("convolution", "addmm", "mm", "linear", "bmm", "mkldnn_linear", "_convolution")


def due(step: int) -> bool:
    """Whether the probe is looked at after `step` updates."""
    if step <= STEPS[-1]:
        return step in STEPS
    return step % STEPS[-1] == 0 and math.log2(step / STEPS[-1]).is_integer()


class _Seen(TorchDispatchMode):
    """Notes what activations and layers with weights give, in the order in which they run."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names = {id(module): name for name, module in model.named_modules()}
        self.inside: list[str] = []
        self.activations: list[Activation] = []
        self.depth: list[Depth] = []
        self.finite = True
        self.first_bad: tuple[str, str] | None = None
        self.passed: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        if isinstance(out, Tensor) and out.is_floating_point() and out.ndim >= 2:
            if name in ACTIVATIONS:
                self.activations.append(self._activation(name, out))
            elif name in LINEAR:
                rms = float(out.detach().float().square().mean().sqrt())
                self.depth.append(Depth(self.where, "conv" if "conv" in name else "linear", rms))
        return out

    @property
    def where(self) -> str:
        return self.inside[-1] if self.inside else ""

    def _activation(self, operation: str, out: Tensor) -> Activation:
        values = out.detach().float()
        over = [0, *range(2, values.ndim)]
        zero = values == 0
        low, high = ENDS.get(operation, (math.nan, math.nan))
        margin = SATURATED * (high - low)
        saturated = ((values < low + margin) | (values > high - margin)).float().mean()
        return Activation(
            self.where,
            "relu" if operation == "clamp_min" else operation,
            values.shape[1],
            float(zero.all(dim=over[-1]).float().mean()) if values.ndim == 1 else float(_all(zero, over)),
            float(zero.float().mean()),
            float(saturated) if operation in ENDS else 0.0,
            float(values.square().mean().sqrt()),
        )

    def enter(self, module: nn.Module, *_: Any) -> None:
        self.inside.append(self.names.get(id(module), ""))

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        where = self.inside.pop() if self.inside else ""
        tensor = first_tensor(output)
        if tensor is None or self.first_bad is not None:
            return
        if bool(torch.isfinite(tensor).all()):
            self.passed.append(where)
        elif not list(module.children()):
            self.first_bad = (where, type(module).__name__)


def _all(zero: Tensor, over: list[int]) -> Tensor:
    """Share of units (dimension 1) that are zero everywhere else."""
    for dim in sorted(over, reverse=True):
        zero = zero.all(dim=dim)
    return zero.float().mean()


def _forward(model: nn.Module, images: Tensor, seen: _Seen | None) -> Tensor | None:
    """The logits of `images`, without gradients, in the model's present mode."""
    if seen is None:
        with torch.no_grad():
            return first_tensor(model(images))
    hooks = [
        hook
        for module in model.modules()
        for hook in (module.register_forward_pre_hook(seen.enter), module.register_forward_hook(seen.leave))
    ]
    try:
        with torch.no_grad(), seen:
            return first_tensor(model(images))
    finally:
        for hook in hooks:
            hook.remove()


def look(model: nn.Module, images: Tensor, labels: Tensor | None, step: int) -> Probe:
    """What the net makes of `images` (b, ...) after `step` updates, in training and in evaluation mode."""
    net = bare(model)
    seen = _Seen(net)
    with untouched(net):
        logits = _forward(net, images, seen)
        modes = [(module, module.training) for module in net.modules()]
        net.eval()
        evaluated = _forward(net, images, None)
        for module, mode in modes:
            module.training = mode
    losses = [_cross_entropy(out, labels) for out in (logits, evaluated)]
    between = accuracy = math.nan
    if logits is not None and logits.ndim == 2 and len(logits) > 1:
        between = float(logits.float().std(0).mean())
        if labels is not None:
            accuracy = float((logits.argmax(1) == labels).float().mean())
    return Probe(step, tuple(seen.activations), tuple(seen.depth), losses[0], losses[1], accuracy, between)


def first_bad(model: nn.Module, images: Tensor) -> tuple[str, tuple[str, ...]] | None:
    """Name of the first module whose output is not finite, and of those before it that are."""
    net = bare(model)
    seen = _Seen(net)
    with untouched(net):
        _forward(net, images, seen)
    if seen.first_bad is None:
        return None
    name, kind = seen.first_bad
    return f"{name} ({kind})", tuple(seen.passed)


def _cross_entropy(logits: Tensor | None, labels: Tensor | None) -> float:
    if logits is None or labels is None or logits.ndim != 2:
        return math.nan
    if not len(labels) or int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        return math.nan
    return float(F.cross_entropy(logits.float(), labels))
