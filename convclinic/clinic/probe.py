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
EVALUATED_FROM = 100  # updates; running statistics say little before
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

    def __init__(self, model: nn.Module, finite: bool = False) -> None:
        """finite: also note which outputs are, module by module."""
        super().__init__()
        self.finite = finite
        self.names = {id(module): name for name, module in model.named_modules()}
        self.inside: list[str] = []
        self.activations: list[Activation] = []
        self.depth: list[Depth] = []
        self.first_bad: tuple[str, str] | None = None
        self.passed: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        if isinstance(out, Tensor) and out.is_floating_point() and out.ndim >= 2:
            if name in ACTIVATIONS:
                self.activations.append(self._activation(name, out))
            elif name in LINEAR:
                self.depth.append(Depth(self.where, "conv" if "conv" in name else "linear", _rms(out)))
        return out

    @property
    def where(self) -> str:
        return self.inside[-1] if self.inside else ""

    def _activation(self, operation: str, out: Tensor) -> Activation:
        values = out.detach()
        fired = values.count_nonzero([0, *range(2, values.ndim)])
        saturated = 0.0
        if operation in ENDS:
            low, high = ENDS[operation]
            margin = SATURATED * (high - low)
            saturated = float(((values < low + margin) | (values > high - margin)).float().mean())
        return Activation(
            self.where,
            "relu" if operation == "clamp_min" else operation,
            values.shape[1],
            float((fired == 0).float().mean()),
            1.0 - float(fired.sum()) / values.numel(),
            saturated,
            _rms(values),
        )

    def enter(self, module: nn.Module, *_: Any) -> None:
        self.inside.append(self.names.get(id(module), ""))

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        where = self.inside.pop() if self.inside else ""
        tensor = first_tensor(output) if self.finite else None
        if tensor is None or self.first_bad is not None:
            return
        if bool(torch.isfinite(tensor).all()):
            self.passed.append(where)
        elif not list(module.children()):
            self.first_bad = (where, type(module).__name__)


def _rms(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values.detach(), dtype=torch.float32)) / math.sqrt(values.numel())


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
    """What the net makes of `images` (b, ...) after `step` updates, in training mode and, later, in
    evaluation mode."""
    net = bare(model)
    seen = _Seen(net)
    evaluated = None
    with untouched(net):  # and with it the modes
        logits = _forward(net, images, seen)
        if step >= EVALUATED_FROM:
            net.eval()
            evaluated = _forward(net, images, None)
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
    seen = _Seen(net, finite=True)
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
