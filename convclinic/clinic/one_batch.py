"""Can the net learn a few images by heart? A copy of it is fitted to them, which is cheap and decisive.

First with the user's own optimizer settings, then, where these did not do it, with Adam at a few LRs: a net
that Adam can fit and its own optimizer cannot has wrong settings or parameters that nobody updates; one that
nothing fits has a mistake in itself, in the loss or in the targets.

Source  Karpathy, A recipe for training neural networks, 2019
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convclinic.clinic import measure
from convclinic.clinic.signals import OneBatch
from convclinic.clinic.untouched import untouched
from convclinic.clinic.watch import bare, first_tensor
from convclinic.clinic.wiring import DROPOUT

IMAGES = 16  # with the numbers of steps below no more work than ten steps at batch 128
OWN_STEPS = 32
TRIAL_STEPS = 6  # for each of Adam's LRs, of which the best one is then run in full
ADAM_STEPS = 26
ADAM_LRS = (1e-3, 1e-2)
FAR_BELOW = 0.1  # of the first loss: fitted
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
SURE, HALF = 3, 0.5  # so many steps with every image right and half the loss gone: fitted too


class Fit(NamedTuple):
    """One attempt. A loss that is no longer a number counts as infinite."""

    steps: int
    first: float
    last: float
    accuracy: float
    fitted: bool


def fit(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    inputs: Any,
    targets: Tensor,
    loss_fn: Callable[..., Any] | None,
) -> OneBatch | None:
    """What becomes of a copy of `model` that trains on a few images of the batch. None where that cannot be
    tried: no copy can be made, nothing is trainable, or the copy does not run."""
    net = bare(model)
    parts = [net, loss_fn] if isinstance(loss_fn, nn.Module) else [net]
    with torch.inference_mode(False), torch.enable_grad(), untouched(*parts):
        try:
            return _fit(net, optimizers, inputs, targets, loss_fn)
        except Exception:  # the net, its loss and its optimizer are anyone's code, and may raise anything
            return None


def _fit(
    net: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    inputs: Any,
    targets: Tensor,
    loss_fn: Callable[..., Any] | None,
) -> OneBatch | None:
    twin, own = _copy(net, optimizers)
    labels = measure.hard(targets, None, int(getattr(loss_fn, "ignore_index", measure.IGNORED)))
    chosen = balanced(labels, len(targets), IMAGES)
    few, truth = part(inputs, chosen, len(targets)), targets[chosen.to(targets.device)]
    right = None if labels is None else labels[chosen.to(labels.device)]
    trainable = [p for p in twin.parameters() if p.requires_grad]
    if not trainable:
        return None
    start = copy.deepcopy(twin.state_dict())

    def attempt(optimizer: Sequence[torch.optim.Optimizer], steps: int) -> Fit:
        twin.load_state_dict(start)
        return _train(twin, optimizer, few, truth, right, loss_fn, steps)

    first = _own(lambda: attempt(own, OWN_STEPS)) if own else None
    best, lr = first, _peak(own[0].param_groups[0]) if own else math.nan
    if best is None or not best.fitted:
        trials = [(attempt(_adam(trainable, rate), TRIAL_STEPS), rate) for rate in ADAM_LRS]
        adam_lr = min(trials, key=lambda trial: trial[0].last)[1]
        adam = attempt(_adam(trainable, adam_lr), ADAM_STEPS)
        if best is None or adam.last < best.last:
            best, lr = adam, adam_lr
    return OneBatch(
        images=len(truth),
        classes=0 if right is None else len(right.unique()),
        steps=best.steps,
        first_loss=best.first,
        last_loss=best.last,
        accuracy=best.accuracy,
        lr=lr,
        own_last_loss=math.nan if first is None else first.last,
        own_accuracy=math.nan if first is None else first.accuracy,
    )


def _own(attempt: Callable[[], Fit]) -> Fit | None:
    """An optimizer of a strange kind may not survive its copy: then Adam alone speaks."""
    try:
        return attempt()
    except Exception:
        return None


def _adam(parameters: list[nn.Parameter], lr: float) -> list[torch.optim.Optimizer]:
    return [torch.optim.Adam(parameters, lr=lr)]


def _copy(
    net: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
    """The net without the user's hooks and dropout, in training mode, and its optimizers without state.

    Made inside `untouched`, which gives the hooks back.
    """
    memo: dict[int, Any] = {}
    for module in net.modules():
        for hooks in (vars(module)[name] for name in HOOKS):
            for key in [key for key, hook in hooks.items() if not _of_torch(hook)]:
                del hooks[key]
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:  # made in the last forward pass
                memo[id(value)] = value.detach().clone()
    twin = copy.deepcopy(net, memo)
    if not twin.training:
        twin.train()
    for module in twin.modules():
        if isinstance(module, DROPOUT):
            module.eval()
    for optimizer in optimizers:
        memo[id(optimizer.state)] = defaultdict(dict)
    return twin, [copy.deepcopy(optimizer, memo) for optimizer in optimizers]


def _of_torch(hook: Any) -> bool:
    """Hooks by which PyTorch computes weights: weight norm, spectral norm, pruning."""
    return type(hook).__module__.startswith("torch.nn.utils")


def balanced(labels: Tensor | None, size: int, most: int) -> Tensor:
    """Positions of at most `most` images of a batch of `size`, of all classes alike as far as there are any.

    >>> balanced(torch.tensor([0, 0, 0, 1, 0, 2]), 6, 4).tolist()
    [0, 1, 3, 5]
    """
    if labels is None or len(labels) != size:
        return torch.arange(min(size, most))
    met: dict[int, int] = {}
    turns: list[tuple[int, int]] = []
    for position, label in enumerate(labels.tolist()):
        if label >= 0:
            turns.append((met.get(label, 0), position))
            met[label] = met.get(label, 0) + 1
    return torch.tensor(sorted(position for _, position in sorted(turns)[:most]), dtype=torch.long)


def part(inputs: Any, chosen: Tensor, size: int) -> Any:
    """The chosen images of whatever a model takes: a tensor, or tensors in a dict or sequence."""
    if isinstance(inputs, Tensor):
        whole = inputs.ndim == 0 or len(inputs) != size
        return inputs.detach() if whole else inputs.detach()[chosen.to(inputs.device)]
    if isinstance(inputs, dict):
        return {key: part(value, chosen, size) for key, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        return [part(value, chosen, size) for value in inputs]
    return inputs


def run(model: nn.Module, inputs: Any) -> Any:
    """What the model makes of a tensor, of named inputs or of several."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, list | tuple) else model(inputs)


def loss_of(loss_fn: Callable[..., Any] | None, output: Any, targets: Tensor) -> Tensor:
    """The loss as the loop takes it, of the output itself or of its logits; cross-entropy by default."""
    logits = first_tensor(output)
    if loss_fn is None:
        if logits is None:
            raise TypeError(f"the model gives {type(output).__name__}, not logits")
        return F.cross_entropy(logits.float(), targets)
    try:
        loss = loss_fn(output, targets)
    except (TypeError, AttributeError):
        if isinstance(output, Tensor) or logits is None:
            raise
        loss = loss_fn(logits, targets)
    if not isinstance(loss, Tensor):
        raise TypeError(f"the loss gives {type(loss).__name__}, not a tensor")
    return loss


def _train(
    net: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    inputs: Any,
    targets: Tensor,
    labels: Tensor | None,
    loss_fn: Callable[..., Any] | None,
    steps: int,
) -> Fit:
    """At most `steps` updates; an LR that a warm-up holds low rises to its peak in the first half of them."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    lrs = [(group, float(group["lr"]), _peak(group)) for group in groups]
    first = accuracy = last = math.nan
    sure = 0
    for step in range(steps + 1):
        output = run(net, inputs)
        loss = loss_of(loss_fn, output, targets).float().mean()
        logits = first_tensor(output)
        if labels is not None and logits is not None and logits.ndim == 2:
            accuracy = float((logits.argmax(1) == labels).float().mean())
        last = float(loss.detach())
        first = last if step == 0 else first
        if not math.isfinite(last):
            return Fit(step, first, math.inf, accuracy, False)
        sure = sure + 1 if accuracy == 1.0 and last <= HALF * first else 0
        if 0 <= last <= FAR_BELOW * first or sure >= SURE:
            return Fit(step, first, last, accuracy, step > 0)
        if step == steps:
            break
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        for group, low, high in lrs:
            group["lr"] = low + (high - low) * min(1.0, 2 * (step + 1) / steps)
        for optimizer in optimizers:
            optimizer.step()
    return Fit(steps, first, last, accuracy, False)


def _peak(group: dict[str, Any]) -> float:
    """The highest LR that a scheduler has written down; a warm-up starts far below it."""
    return max(float(group["lr"]), float(group.get("max_lr", group.get("initial_lr", 0.0))))
