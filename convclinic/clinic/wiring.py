"""How the model and its optimizers are wired: layers, parameter groups, and parameters nobody updates."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from convclinic.clinic.fresh import is_fresh, share_alike
from convclinic.clinic.signals import Group, Layer, Setup
from convclinic.clinic.untouched import untouched
from convclinic.clinic.watch import bare

CONV = nn.modules.conv._ConvNd  # pyright: ignore[reportPrivateUsage]
TRANSPOSED = nn.modules.conv._ConvTransposeNd  # pyright: ignore[reportPrivateUsage]
BATCH_NORM = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]
NORM_BASE = nn.modules.batchnorm._NormBase  # pyright: ignore[reportPrivateUsage] - of batch and instance norm
DROPOUT = nn.modules.dropout._DropoutNd  # pyright: ignore[reportPrivateUsage]
NORMS = (NORM_BASE, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
# modules that leave the scale of what passes through about as it is
PASSING = (nn.Identity, nn.Flatten, nn.Unflatten, DROPOUT, nn.modules.pooling._AvgPoolNd)  # pyright: ignore[reportPrivateUsage]
ADAPTIVE = ("betas", "eps", "etas")  # options that only optimizers have which divide by the gradient's size


def kind_of(module: nn.Module) -> str:
    """conv, linear, norm or other."""
    if isinstance(module, CONV):
        return "conv"
    if isinstance(module, nn.Linear):
        return "linear"
    named = type(module).__name__.lower()
    return "norm" if isinstance(module, NORMS) or named.endswith(("norm", "norm2d")) else "other"


def rows_of(module: nn.Module, weight: Tensor) -> Tensor:
    """The weight with one row for each unit: transposed convolutions keep their units on the second axis."""
    return weight.transpose(0, 1) if isinstance(module, TRANSPOSED) and weight.ndim > 1 else weight


def weighted_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules with weights of their own by name, in the order of `model.modules()`."""
    for name, module in bare(model).named_modules():
        if isinstance(module, nn.utils.parametrize.ParametrizationList):
            continue
        if _own(module) and not any(is_lazy(p) for p in _own(module)):
            yield name, module


def _own(module: nn.Module) -> list[nn.Parameter]:
    """Its own parameters, those of its parametrisations included."""
    own = list(module.parameters(recurse=False))
    if nn.utils.parametrize.is_parametrized(module):
        own += list(module.parametrizations.parameters())  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    return own


def _weight_of(module: nn.Module) -> Tensor:
    """The weight as the layer uses it. Reading a parametrised one may count, as in spectral norm."""
    computed = nn.utils.parametrize.is_parametrized(module, "weight")
    with untouched(module) if computed else contextlib.nullcontext():
        weight = getattr(module, "weight", None)
    return weight if isinstance(weight, Tensor) else _own(module)[0]


def held_by(optimizers: Sequence[torch.optim.Optimizer]) -> dict[int, Tensor]:
    """The tensors that the optimizers update, by id."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    return {id(parameter): parameter for group in groups for parameter in group["params"]}


def layers(
    model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], order: Sequence[str] = ()
) -> tuple[Layer, ...]:
    """Every module with weights of its own. order: names in the order in which they ran, where known; the
    last conv or linear in it, else the last one registered, is the head."""
    modules = list(weighted_modules(model))
    held = held_by(optimizers) if optimizers else None
    ran = {name: position for position, name in enumerate(order)}
    mapping = [
        (name, position) for position, (name, m) in enumerate(modules) if kind_of(m) in ("conv", "linear")
    ]
    head = max(mapping, key=lambda item: (ran.get(item[0], -1), item[1]), default=("", -1))[0]
    return tuple(_layer(name, module, held, name == head) for name, module in modules)


@torch.no_grad()
def _layer(name: str, module: nn.Module, held: dict[int, Tensor] | None, head: bool) -> Layer:
    own, kind = _own(module), kind_of(module)
    weight = _weight_of(module)
    bias = dict(module.named_parameters(recurse=False)).get("bias")
    rows = rows_of(module, weight) if weight.ndim else weight.reshape(1)
    gain, alike = math.nan, 0.0
    if kind in ("conv", "linear"):
        fan_in = max(1, rows[0].numel())
        gain = float(weight.detach().float().square().mean().sqrt()) * math.sqrt(fan_in)
        alike = share_alike(rows)
        groups = int(getattr(module, "groups", 1))
        untouched = is_fresh(rows, bias, groups)
    else:
        untouched = _untouched(module, own)
    trainable = [p for p in own if p.requires_grad]
    return Layer(
        name or "model",
        kind,
        len(rows),
        sum(p.numel() for p in own),
        bool(trainable),
        held is None or all(id(p) in held for p in trainable or own),
        untouched,
        gain,
        alike,
        head,
    )


def _untouched(module: nn.Module, own: list[nn.Parameter]) -> bool:
    """A norm, PReLU or the like is fresh while each of its tensors is constant, and batch norm has no
    statistics yet."""
    if isinstance(module, NORM_BASE) and module.running_mean is not None:
        seen = module.running_mean.any() | (module.running_var != 1).any()
        if bool(seen):
            return False
    return all(bool((p.detach() == p.detach().reshape(-1)[0]).all()) for p in own if p.numel())


def groups(optimizers: Sequence[torch.optim.Optimizer]) -> tuple[Group, ...]:
    """Every parameter group as it stands now; `parameters` counts scalars, momentum is beta1 in Adam."""
    return tuple(
        _group(plain(optimizer), group) for optimizer in optimizers for group in optimizer.param_groups
    )


def plain(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer inside what Accelerate and others put around it."""
    inner = getattr(optimizer, "optimizer", None)
    return plain(inner) if isinstance(inner, torch.optim.Optimizer) else optimizer


def _group(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> Group:
    betas = group.get("betas") or (0.0,)
    return Group(
        type(optimizer).__name__,
        float(group.get("lr", math.nan)),
        float(group.get("weight_decay") or 0.0),
        sum(p.numel() for p in group["params"] if not is_lazy(p)),
        float(group.get("momentum") or betas[0] or 0.0),
        bool(group.get("maximize", False)),
        any(option in group for option in ADAPTIVE),
    )


def setup(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], order: Sequence[str] = ()) -> Setup:
    """All of it. order: names of the modules in the order in which they ran, where known."""
    net = bare(model)
    fixed = Setup(
        layers(net, optimizers, order),
        parameters=sum(p.numel() for p in net.parameters() if not is_lazy(p)),
        dropouts=tuple((n, float(m.p)) for n, m in net.named_modules() if isinstance(m, DROPOUT)),
        batch_norms=sum(isinstance(module, BATCH_NORM) for module in net.modules()),
        first_norm=_first_norm(net, order),
    )
    return _wired(fixed, net, optimizers)


def wired_again(
    setup: Setup | None, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> Setup | None:
    """The same setup with what a loop may change: flags, groups, modes, and who holds what."""
    if setup is None:
        return None
    held = held_by(optimizers) if optimizers else None
    modules = {name or "model": _own(module) for name, module in weighted_modules(model)}
    now: list[Layer] = []
    for layer in setup.layers:
        own = modules.get(layer.name, [])
        trainable = [p for p in own if p.requires_grad]
        optimised = held is None or all(id(p) in held for p in trainable or own)
        now.append(dataclasses.replace(layer, trainable=bool(trainable), optimised=optimised))
    return _wired(dataclasses.replace(setup, layers=tuple(now)), bare(model), optimizers)


def _wired(setup: Setup, net: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> Setup:
    held = held_by(optimizers)
    own = {id(parameter) for parameter in net.parameters()}
    wanted = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    return dataclasses.replace(
        setup,
        groups=groups(optimizers),
        missing=tuple(name for name, p in wanted if id(p) not in held) if optimizers else (),
        foreign=sum(key not in own for key in held),
        trainable=sum(p.numel() for _, p in wanted if not is_lazy(p)),
        training=bool(net.training),
        modes=tuple(name for name, module in net.named_modules() if module.training != net.training),
    )


def _first_norm(net: nn.Module, order: Sequence[str]) -> bool:
    """Whether a norm comes before the first non-linearity, in the order in which modules ran or, where that
    is unknown, were registered. One before the first layer counts too: it does the same for the inputs."""
    named = dict(net.named_modules())
    names = list(order) or [name for name, module in named.items() if not list(module.children())]
    weights = 0
    for module in (named[name] for name in names if name in named):
        kind = kind_of(module)
        if kind == "norm":
            return True
        weights += kind in ("conv", "linear")
        if weights > 1 or (kind == "other" and not isinstance(module, PASSING)):
            return False
    return False
