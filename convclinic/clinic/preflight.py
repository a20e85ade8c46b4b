"""One batch before the first step: what the net, the loss and the wiring tell without training.

The net runs once forward and once backward, in training mode as the loop would run it, and a copy of it is
fitted to a few of the images. Everything is as before afterwards: weights, buffers, gradients, random state.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from convclinic.clinic import measure as numbers
from convclinic.clinic import one_batch
from convclinic.clinic.fresh import share_twins
from convclinic.clinic.signals import Depth, First, Preflight, Setup, Targets
from convclinic.clinic.untouched import untouched
from convclinic.clinic.watch import bare, first_tensor
from convclinic.clinic.wiring import kind_of, rows_of, setup, weighted_modules

LONGEST = 200  # characters of a foreign error message that are kept


class _Layer(NamedTuple):
    """A layer that maps, with the parameter that holds its weights, and its bias."""

    name: str
    kind: str
    module: nn.Module
    weight: nn.Parameter
    bias: nn.Parameter | None


@dataclass
class _Pass:
    """What one forward and backward pass left behind. `given` is what the model gave, logits and all."""

    given: Any = None
    loss: Tensor | None = None
    doubled: float = math.nan
    order: list[str] = field(default_factory=list[str])
    outputs: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    gradients: dict[int, Tensor] = field(default_factory=dict[int, Tensor])  # by id of the parameter
    error: str = ""


def measure(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    inputs: Any,
    targets: Tensor,
    loss_fn: Callable[..., Any] | None = None,
    classes: int | None = None,
    fit_copy: bool = True,
) -> tuple[Setup, First, Preflight]:
    """How the model is wired, its first batch, and what one pass over it shows.

    inputs and targets as the loop gives them to the model and to the loss; cross-entropy where no loss is
    given; classes where known. Nothing is raised for what is wrong with them: it stands in `error`.
    """
    net = bare(model)
    stale = any(p.grad is not None and bool((p.grad != 0).any()) for p in net.parameters())
    inputs, targets = _moved(inputs, net), _moved(targets, net)
    with torch.inference_mode(False), torch.enable_grad():
        done = _pass(net, inputs, targets, loss_fn)
        logits = first_tensor(done.given)
        width = logits.shape[1] if logits is not None and logits.ndim > 1 else classes
        ignore = int(getattr(loss_fn, "ignore_index", numbers.IGNORED))
        first = First(
            numbers.inputs(inputs),
            numbers.targets(targets, width, ignore),
            None if logits is None else numbers.outputs(logits),
            None if logits is None else numbers.losses(done.loss, logits, targets, loss_fn),
        )
        found = Preflight(doubled=done.doubled, stale=stale, depth=_depth(net, done), error=done.error)
    if fit_copy and not done.error:
        found = replace(found, one_batch=one_batch.fit(net, optimizers, inputs, targets, loss_fn))
    return setup(net, optimizers, done.order), first, found


def _moved(value: Any, net: nn.Module) -> Any:
    """Tensors on the model's device, where a loop moves them itself."""
    device = next((p.device for p in net.parameters()), None)
    if isinstance(value, Tensor) and device is not None and value.device != device:
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(one, net) for key, one in value.items()}
    return [_moved(one, net) for one in value] if isinstance(value, list | tuple) else value


def _mapping_layers(net: nn.Module) -> list[_Layer]:
    found: list[_Layer] = []
    for name, module in weighted_modules(net):
        kind = kind_of(module)
        own = dict(module.named_parameters())  # parametrisations among them
        weight = own.get("weight", next((p for p in own.values() if p.ndim > 1), None))
        if kind in ("conv", "linear") and weight is not None:
            found.append(_Layer(name or "model", kind, module, weight, own.get("bias")))
    return found


def _pass(net: nn.Module, inputs: Any, targets: Tensor, loss_fn: Callable[..., Any] | None) -> _Pass:
    """Run the net and its loss; what they raise is written down."""
    done = _Pass()
    if any(is_lazy(p) for p in net.parameters()):
        done.error = "the model has lazy layers, which have no weights before their first batch"
        return done
    with untouched(net, *([loss_fn] if isinstance(loss_fn, nn.Module) else [])):
        if not net.training:
            net.train()
        try:
            done.given = _forward(net, inputs, done)
        except Exception as error:  # anyone's net may raise anything
            done.error = f"the model cannot take this batch: {_said(error)}"
            return done
        try:
            done.loss = _loss(loss_fn, done.given, targets)
        except Exception as error:
            done.error = _reason(error, first_tensor(done.given), targets, loss_fn)
            return done
        done.doubled = _doubled(loss_fn, done.given, targets, done.loss)
        done.gradients = _gradients(done.loss, _mapping_layers(net))
    return done


def _gradients(loss: Tensor, layers: list[_Layer]) -> dict[int, Tensor]:
    """Of the layers' weights and biases, by the parameter's id, where there is one."""
    both = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
    wanted = [parameter for parameter in both if parameter is not None and parameter.requires_grad]
    try:
        found = torch.autograd.grad(loss.float().mean(), wanted, allow_unused=True)
    except Exception:  # no graph at all, or checkpointing that does not bear this: gradients stay unknown
        return {}
    there: list[tuple[nn.Parameter, Tensor | None]] = list(zip(wanted, found, strict=True))
    return {id(parameter): gradient for parameter, gradient in there if gradient is not None}


def _forward(net: nn.Module, inputs: Any, done: _Pass) -> Any:
    """The output, with the order in which modules ran and the rms of what each layer gave."""
    mapping = {layer.name for layer in _mapping_layers(net)}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            tensor = first_tensor(output)
            if name not in done.order:
                done.order.append(name)
                if name in mapping and tensor is not None:
                    done.outputs[name] = tensor.detach().float().square().mean().sqrt()

        return hook

    handles = [
        module.register_forward_hook(note(name or "model"))
        for name, module in net.named_modules()
        if not list(module.children()) or (name or "model") in mapping
    ]
    try:
        return one_batch.run(net, inputs)
    finally:
        for handle in handles:
            handle.remove()


def _loss(loss_fn: Callable[..., Any] | None, given: Any, targets: Tensor) -> Tensor:
    """The loss. On an accelerator a label out of range would end the process, so the CPU tries it first."""
    logits = first_tensor(given)
    if logits is not None and logits.device.type != "cpu" and _outside(logits, targets, loss_fn):
        trial = copy.deepcopy(loss_fn).cpu() if isinstance(loss_fn, nn.Module) else loss_fn
        one_batch.loss_of(trial, logits.detach().cpu(), targets.cpu())
    return one_batch.loss_of(loss_fn, given, targets)


def _outside(logits: Tensor, targets: Tensor, loss_fn: Any) -> Targets | None:
    """The targets, if they are class numbers that the net has no output for."""
    ignore = int(getattr(loss_fn, "ignore_index", numbers.IGNORED))
    width = logits.shape[1] if logits.ndim > 1 else 1
    found = numbers.targets(targets, width, ignore)
    return found if found.kind == "classes" and (found.low < 0 or found.high >= width) else None


def _reason(error: Exception, logits: Tensor | None, targets: Any, loss_fn: Any) -> str:
    """What the loss raised, and why, as far as the targets tell."""
    said = f"the loss cannot take this batch: {_said(error)}"
    if logits is None or not isinstance(targets, Tensor):
        return said
    outside = _outside(logits, targets, loss_fn)
    if outside is not None:
        width = logits.shape[1] if logits.ndim > 1 else 1
        run = f"labels run from {outside.low:g} to {outside.high:g}"
        return f"{run}, the net has outputs 0 to {width - 1}; {said}"
    if targets.ndim == 1 and targets.dtype != torch.int64:
        return f"the targets are {targets.dtype}, and class numbers must be int64; {said}"
    return f"outputs are {tuple(logits.shape)}, targets {tuple(targets.shape)} {targets.dtype}; {said}"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:LONGEST]}"


def _doubled(loss_fn: Callable[..., Any] | None, given: Any, targets: Tensor, loss: Tensor) -> float:
    """Loss of the batch twice over loss of the batch once, from the same outputs."""
    once = float(loss.detach()) if loss.numel() == 1 else 0.0
    if not isinstance(given, Tensor) or once == 0:
        return math.nan
    with torch.no_grad():
        try:
            twice = one_batch.loss_of(loss_fn, torch.cat([given, given]), torch.cat([targets, targets]))
        except Exception:  # a loss that knows its batch, such as one that keeps a table of images
            return math.nan
    return float(twice) / once


@torch.no_grad()
def _depth(net: nn.Module, done: _Pass) -> tuple[Depth, ...]:
    """Layers in the order in which they ran. Units of the last one differ by their targets."""
    layers = {layer.name: layer for layer in _mapping_layers(net)}
    ran = [layers[name] for name in done.order if name in done.outputs]
    return tuple(_layer_depth(layer, done, layer is ran[-1]) for layer in ran)


def _layer_depth(layer: _Layer, done: _Pass, last: bool) -> Depth:
    gradient, output = done.gradients.get(id(layer.weight)), float(done.outputs[layer.name])
    if gradient is None:
        return Depth(layer.name, layer.kind, output)
    norm = gradient.float().norm()
    size = float(layer.weight.detach().float().norm())
    return Depth(
        layer.name,
        layer.kind,
        output,
        float(norm) / math.sqrt(gradient.numel()),
        float(norm) / size if size else math.nan,
        0.0 if last else share_twins(_joined(layer, done, False), _joined(layer, done, True)),
    )


def _joined(layer: _Layer, done: _Pass, gradient: bool) -> Tensor:
    """A row for each unit with its weights and its bias, or with the gradients of both."""

    def of(parameter: nn.Parameter) -> Tensor:
        return done.gradients.get(id(parameter), torch.zeros_like(parameter)) if gradient else parameter

    rows = rows_of(layer.module, of(layer.weight)).flatten(1)
    return rows if layer.bias is None else torch.cat([rows, of(layer.bias)[:, None]], 1)
