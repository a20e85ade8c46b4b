"""A context in which modules may be run as one likes, and after which all is bit for bit as before.

Kept are weights, buffers, gradients, their flags and hooks, the modes and other attributes of every module,
the random state of torch, numpy and Python, and the switches of PyTorch that a forward pass depends on.
"""

from __future__ import annotations

import contextlib
import random
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

Restore = Callable[[], None]


@contextlib.contextmanager
def untouched(*modules: nn.Module) -> Generator[None]:
    """Whatever is done to `modules` and to the global random state inside is undone.

    Buffers are swapped for copies meanwhile, so the real ones are not even written to. What is compiled runs
    as plain PyTorch, so that no graph is made for the clinic's passes.

    >>> net = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(1))
    >>> state = torch.get_rng_state()
    >>> with untouched(net):
    ...     _ = net(torch.ones(4, 1))
    >>> int(net[1].num_batches_tracked), bool((torch.get_rng_state() == state).all())
    (0, True)
    """
    parts = list({id(part): part for module in modules for part in module.modules()}.values())
    parameters = list({id(p): p for part in parts for p in part.parameters(recurse=False)}.values())
    tensors = [*parameters, *(b for part in parts for b in part.buffers(recurse=False))]
    copies: dict[int, Tensor] = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(_switches(parts))
        for restore in (*_random({tensor.device for tensor in tensors}), *map(_parameter, parameters)):
            stack.callback(restore)
        for part in parts:
            stack.callback(_attributes(part))
            _swap_buffers(part, copies, stack)
        yield


def _swap_buffers(part: nn.Module, copies: dict[int, Tensor], stack: contextlib.ExitStack) -> None:
    """Put copies in the places of the buffers; modules that share a buffer share its copy."""
    own: dict[str, Tensor] = vars(part).get("_buffers", {})
    for name, buffer in part.named_buffers(recurse=False):
        if is_lazy(buffer):
            continue
        if isinstance(part, torch.jit.ScriptModule):  # its buffers live in C++ and cannot be swapped
            stack.callback(_values(buffer))
            continue
        if id(buffer) not in copies:
            copies[id(buffer)] = buffer.detach().clone()
        own[name] = copies[id(buffer)]


def _parameter(parameter: nn.Parameter) -> Restore:
    """Hooks of the user's on gradients are off meanwhile: they belong to the loop's own backward pass."""
    gradient, wanted = parameter.grad, parameter.requires_grad
    hooks = parameter._backward_hooks
    values = _values(parameter)
    if hooks:
        parameter._backward_hooks = None

    def restore() -> None:
        values()
        if parameter.grad is not gradient:
            parameter.grad = gradient
        if parameter.requires_grad != wanted:
            parameter.requires_grad_(wanted)
        if hooks:
            parameter._backward_hooks = hooks

    return restore


def _values(tensor: Tensor) -> Restore:
    """The numbers of a tensor that code may write to in place, or through `.data`."""
    if is_lazy(tensor) or tensor.is_meta:
        return lambda: None
    storage = tensor.data
    before = storage.clone()

    def restore() -> None:
        if tensor.data_ptr() != storage.data_ptr():
            tensor.data = storage
        if not torch.equal(storage, before):
            storage.copy_(before)  # not through `tensor`, whose version autograd and the watch look at

    return restore


def _attributes(part: nn.Module) -> Restore:
    """All attributes of a module: flags, counters, buffers by identity; lists and dicts one level deep."""
    attributes = dict(vars(part))
    contents = [(v, v.copy()) for v in attributes.values() if type(v) in (dict, OrderedDict, list, set)]
    others = [other for value in attributes.values() if (other := _state(value)) is not None]

    def restore() -> None:
        now = vars(part)
        for name in [name for name in now if name not in attributes]:
            del now[name]
        now.update(attributes)
        for value, before in contents:
            if isinstance(value, list):
                value[:] = before
            else:
                value.clear()
                value.update(before)
        for one in others:
            one()

    return restore


def _state(value: Any) -> Restore | None:
    """Of plain tensors and random generators that a module keeps."""
    if isinstance(value, Tensor) and value.is_leaf:
        return _values(value)
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: _ignore(value.set_state(state))
    if isinstance(value, np.random.Generator):
        bits = value.bit_generator
        numbers = bits.state
        return lambda: setattr(bits, "state", numbers)
    if isinstance(value, random.Random):
        inner = value.getstate()
        return lambda: value.setstate(inner)
    return None


def _ignore(_: object) -> None:
    pass


def _random(devices: Iterable[torch.device]) -> list[Restore]:
    """The global generators: torch's on the CPU and on `devices`, numpy's and Python's."""
    cpu, python = torch.get_rng_state(), random.getstate()
    legacy = np.random.get_state()  # noqa: NPY002 - others' augmentation draws from it
    restores: list[Restore] = [
        lambda: torch.set_rng_state(cpu),
        lambda: random.setstate(python),
        lambda: np.random.set_state(legacy),  # noqa: NPY002
    ]
    for device in devices:
        if device.type in ("cpu", "meta"):
            continue
        module: Any = torch.get_device_module(device)
        where = () if device.type == "mps" else (device,)
        state = module.get_rng_state(*where)
        restores.append(lambda module=module, state=state, where=where: module.set_rng_state(state, *where))
    return restores


@contextlib.contextmanager
def _switches(parts: list[nn.Module]) -> Generator[None]:
    """Autocast keeps no casts of weights made here, which would be without gradients for the loop; cuDNN
    times no algorithms; compiled modules run as written."""
    cache, benchmark = torch.is_autocast_cache_enabled(), torch.backends.cudnn.benchmark
    compiled = any(
        getattr(part, "_orig_mod", None) is not None or "_compiled_call_impl" in vars(part) for part in parts
    )
    with contextlib.ExitStack() as stack:
        if compiled:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        torch.set_autocast_cache_enabled(False)
        torch.backends.cudnn.benchmark = False
        try:
            yield
        finally:
            torch.set_autocast_cache_enabled(cache)
            torch.backends.cudnn.benchmark = benchmark
