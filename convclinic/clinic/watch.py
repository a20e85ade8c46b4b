"""What is taken from a foreign loop while it trains: hooks that look and never touch.

The model's forward hooks tell training from evaluation and note when each begins; a hook on the output's
gradient fires as backward begins, when a gradient that is left from before the last update betrays a
forgotten `zero_grad`; the optimizers' hooks see gradients before an update and weights around it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from convclinic.clinic.evaluations import EvaluationWatch
from convclinic.clinic.signals import Floats

SAMPLED = 65536  # scalars of one parameter that stand for all of it when updates are measured
DENSE_STEPS, DENSE_EVERY, SPARSE_FROM, SPARSE_EVERY = 16, 4, 64, 16


def measured(step: int) -> bool:
    """Whether step `step` (1 is the first) is measured in full: all early ones, later every sixteenth."""
    if step <= DENSE_STEPS:
        return True
    return step % (DENSE_EVERY if step <= SPARSE_FROM else SPARSE_EVERY) == 0


def bare(model: nn.Module) -> nn.Module:
    """The module inside what torch.compile and the data-parallel wrappers put around it."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            inner = model.module
        if inner is None:
            return model
        model = inner


def first_tensor(value: Any) -> Tensor | None:
    """The first floating-point tensor in what a model took or gave: a tensor, dict, sequence or `.logits`."""
    if isinstance(value, Tensor):
        return value if value.is_floating_point() else None
    if isinstance(value, dict):
        value = value.get("logits", list(value.values()))
    elif hasattr(value, "logits"):
        value = value.logits
    if isinstance(value, Tensor):
        return value
    parts: Iterable[Any] = value if isinstance(value, list | tuple) else ()
    return next((found for part in parts if (found := first_tensor(part)) is not None), None)


class Watch:
    """Hooks on `model` and `optimizers`; `close` removes them all.

    Between two calls of `next_step` it gathers one step: when it began, in which mode, whether a gradient was
    stale, and in a measured step the norms of every parameter, its gradient and its update, on the device.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        step: int = 1,
        before_evaluation: Callable[[], None] = lambda: None,
    ) -> None:
        """before_evaluation is called when images are about to go through without gradients, once a step."""
        self.model, self.optimizers, self.before_evaluation = model, optimizers, before_evaluation
        self.evaluations = EvaluationWatch()
        self.names, layers = _by_layer(bare(model))
        self.parameters: list[Tensor] = [parameter for layer in layers for parameter in layer]
        self._counts = np.array([len(layer) for layer in layers])
        self.versions = [parameter._version for parameter in bare(model).parameters()]
        self.paused = False
        self.step, self.updates = step, 0
        self.ended: float | None = None
        self._updated = self._closed = False
        held = {id(p) for o in optimizers for group in o.param_groups for p in group["params"]}
        trainable = [p for p in model.parameters() if p.requires_grad and id(p) in held]
        self._canary = trainable[-1] if trainable else None
        self._before: list[Tensor] = []
        self._clear()
        self._handles: list[RemovableHandle] = [
            model.register_forward_pre_hook(self._forward_begins, with_kwargs=True),
            model.register_forward_hook(self._forward_ended),
        ]
        for optimizer in optimizers:
            self._handles.append(optimizer.register_step_pre_hook(self._update_begins))
            self._handles.append(optimizer.register_step_post_hook(self._update_ended))

    def _clear(self) -> None:
        self.began: float | None = None
        self.training: bool | None = None
        self.stale: Tensor | None = None
        self.evaluated = False
        self.gradients: Tensor | None = None
        self.weights: Tensor | None = None
        self.changes: Tensor | None = None

    @property
    def _starts(self) -> NDArray[np.int64]:
        """Of each layer among the parameters."""
        return np.cumsum(self._counts) - self._counts

    @functools.cached_property
    def sizes(self) -> Floats:
        """Numbers in each layer; asked for when lazy ones have got theirs."""
        return np.add.reduceat([float(p.numel()) for p in self.parameters], self._starts)

    def next_step(self) -> None:
        """Forget what was gathered: a new step begins."""
        self._clear()
        self.step += 1
        self.ended = time.perf_counter()

    def close(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def moved(self) -> bool:
        """Whether any parameter was written to since the clinic was attached."""
        now = [parameter._version for parameter in bare(self.model).parameters()]
        return now != self.versions

    def _forward_begins(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.paused:
            return
        if not torch.is_grad_enabled():
            if not self.evaluated:
                self.before_evaluation()
            self.evaluated = True
            images = first_tensor((*args, *kwargs.values()))
            if images is not None:
                self.evaluations.see(images, bool(model.training), self.step)
            return
        if self.began is None:
            self.began = time.perf_counter()
        self.training = bool(model.training) if self.training is None else self.training

    def _forward_ended(self, model: nn.Module, args: Any, output: Any) -> None:
        if self.paused or not torch.is_grad_enabled():
            return
        if self.step > SPARSE_FROM and not measured(self.step):
            return  # a loop that forgets zero_grad forgets it from the start
        logits = first_tensor(output)
        if logits is not None and logits.requires_grad:
            logits.register_hook(self._backward_begins)

    def _backward_begins(self, gradient: Tensor) -> None:
        if self._updated and not self.paused and self._canary is not None:
            left = self._canary.grad
            self.stale = torch.zeros(()) if left is None else (left.detach() != 0).any()
            self._updated = False

    def _update_begins(self, optimizer: torch.optim.Optimizer, *args: Any) -> None:
        if self.parameters and measured(self.step) and optimizer is self.optimizers[0]:
            # a closure runs backward inside of `step`: then gradients are there only when it has ended
            self._closed = len(args[0]) > 1 or bool(args[1].get("closure"))
            self.gradients = None if self._closed else self._gradients()
            with torch.no_grad():
                self.weights = torch.stack(_norms(self.parameters))
                self._before = [_sample(p).clone() for p in self.parameters]

    def _update_ended(self, optimizer: torch.optim.Optimizer, *args: Any) -> None:
        self._updated = True
        if self._closed and optimizer is self.optimizers[0]:
            self.gradients, self._closed = self._gradients(), False
        if optimizer is self.optimizers[-1]:
            self.updates += 1
            if self._before:
                self.changes = self._changes()
                self._before = []

    @torch.no_grad()
    def _gradients(self) -> Tensor:
        """Norm of each parameter's gradient; NaN where there is none."""
        gradients = [p.grad for p in self.parameters]
        there = [g.coalesce().values() if g.is_sparse else g for g in gradients if g is not None]
        norms = iter(_norms(there))
        none = torch.full((), torch.nan, device=there[0].device if there else None)
        return torch.stack([none if g is None else next(norms) for g in gradients])

    @torch.no_grad()
    def _changes(self) -> Tensor:
        """Norm of each parameter's update, from the sampled entries, scaled up to all of them."""
        after = [_sample(p) for p in self.parameters]
        parts = torch._foreach_sub(after, self._before)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
        norms = _norms(list(parts))
        return torch.stack(
            [
                norm if p.numel() <= SAMPLED else norm * (p.numel() / len(flat)) ** 0.5
                for norm, flat, p in zip(norms, after, self.parameters, strict=True)
            ]
        )

    def by_layer(self, norms: Floats) -> Floats:
        """From norms by parameter to norms by layer. A missing one (NaN) counts as zero beside others of its
        layer."""
        there, starts = ~np.isnan(norms), self._starts
        squares = np.add.reduceat(np.where(there, norms, 0.0) ** 2, starts)
        return np.where(np.logical_or.reduceat(there, starts), np.sqrt(squares), np.nan)


def _by_layer(model: nn.Module) -> tuple[tuple[str, ...], list[list[nn.Parameter]]]:
    """Names of the modules that own trainable parameters, and those parameters, each once."""
    seen: set[int] = set()
    names: list[str] = []
    layers: list[list[nn.Parameter]] = []
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if p.requires_grad and id(p) not in seen]
        if own:
            seen.update(id(p) for p in own)
            names.append(name or "model")
            layers.append(own)
    return tuple(names), layers


def _sample(parameter: Tensor) -> Tensor:
    """Evenly spaced entries of a large parameter, all of a small one."""
    n = parameter.numel()
    return parameter if n <= SAMPLED else parameter.reshape(-1)[:: -(-n // SAMPLED)]


def _norms(tensors: list[Tensor]) -> list[Tensor]:
    """The norm of each tensor, in one call where that is faster; on one device, in one type."""
    if not tensors:
        return []
    norms = list(torch._foreach_norm(tensors))  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    alike = all(norm.dtype == norms[0].dtype and norm.device == norms[0].device for norm in norms)
    return norms if alike else [norm.to(norms[0].device, torch.float32) for norm in norms]
