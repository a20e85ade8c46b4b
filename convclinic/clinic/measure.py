"""Measuring functions on one batch: inputs, targets, outputs and losses, as plain numbers.

They never raise on bad data: what cannot be measured is NaN. Those on the model are in `wiring`.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convclinic.clinic.signals import Inputs, Losses, Outputs, Targets
from convclinic.clinic.wiring import groups, layers, setup, wired_again

__all__ = [
    "groups", "hard", "inputs", "last_operation", "layers", "losses", "outputs", "rows", "setup", "targets",
    "wired_again",
]  # fmt: skip

PIXELS = 4096  # of an image that are compared with another's
CHANNELS = 32  # up to which the second axis of (b, c, h, w) counts as channels
SUMS = 1e-3  # how near to 1 probabilities sum in float32
HALF_SUMS = 2e-2  # the same in float16 and bfloat16
IGNORED = -100  # what PyTorch's losses leave out unless told otherwise
# operations that hand values on: those before them made the values
HANDING = ("view", "reshape", "squeeze", "unsqueeze", "tocopy", "clone", "alias", "flatten", "transpose", "t")
UNKNOWN = ("compiledfunction", "ddpsink")


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor of any type in what a loop calls its inputs."""
    if isinstance(value, Tensor):
        return value
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return next((found for part in parts if (found := first_tensor(part)) is not None), None)


@torch.no_grad()
def inputs(images: Any) -> Inputs:
    """Of a batch (b, ...) as the net receives it."""
    tensor = first_tensor(images)
    if tensor is None or not tensor.numel() or not tensor.ndim:
        nan = math.nan
        return Inputs(() if tensor is None else tuple(tensor.shape), nan, nan, nan, nan)
    shape, flat = tuple(tensor.shape), tensor.detach().reshape(len(tensor), -1)
    some = flat[:, :: max(1, -(-flat.shape[1] // PIXELS))].float().cpu().numpy()
    values = flat.float()
    low, high = torch.aminmax(values, dim=1)
    std, mean = torch.std_mean(values, correction=0)
    channels = torch.zeros(2, 0, device=values.device)
    if len(shape) == 4 and shape[1] <= CHANNELS:
        channels = torch.stack(torch.std_mean(values.view(shape), (0, 2, 3), correction=0))
    flatness = ((low == high) & (flat.shape[1] > 1)).float().mean()
    numbers = torch.stack([mean, std, low.min(), high.max(), torch.isfinite(values).all().float(), flatness])
    average, deviation, least, most, finite, flat_share = numbers.tolist()
    stds, means = channels.tolist()
    return Inputs(
        shape,
        average,
        deviation,
        least,
        most,
        finite=bool(finite),
        distinct=len({row.tobytes() for row in some}) / len(some),
        flat=flat_share,
        channel_means=tuple(means),
        channel_stds=tuple(stds),
    )


@torch.no_grad()
def targets(targets: Any, logits_width: int | None, ignore_index: int = IGNORED) -> Targets:
    """What kind of targets these are for a net with `logits_width` outputs, and their range."""
    if not isinstance(targets, Tensor) or not targets.numel():
        return Targets("other", math.nan, math.nan)
    values = targets.detach()
    whole = not values.is_floating_point() and not values.is_complex()
    if whole and values.dtype != torch.bool and not _is_table(values, logits_width):
        kept = values[values != ignore_index]
        ignored = values.numel() - kept.numel()
        if not kept.numel():
            return Targets("classes", math.nan, math.nan, ignored)
        return Targets("classes", float(kept.min()), float(kept.max()), ignored)
    numbers = values.float()
    low, high = float(numbers.min()), float(numbers.max())
    if numbers.ndim != 2 or numbers.shape[1] < 2 or not low >= 0:
        return Targets("other", low, high)
    sums = numbers.sum(1)
    ones = bool((sums - 1).abs().max() <= SUMS)
    if bool(((numbers == 0) | (numbers == 1)).all()):
        return Targets("one-hot" if ones else "multi", low, high)
    return Targets("soft" if ones else "other", low, high)


def _is_table(values: Tensor, width: int | None) -> bool:
    """Integers (b, k) of zeros and ones with a column for each output."""
    return values.ndim == 2 and 1 < values.shape[1] == width and bool(((values == 0) | (values == 1)).all())


@torch.no_grad()
def hard(wanted: Any, width: int | None, ignore_index: int = IGNORED) -> Tensor | None:
    """Class numbers (b,) where each image has one, ignored ones included; None otherwise."""
    if not isinstance(wanted, Tensor) or not wanted.ndim:
        return None
    kind = targets(wanted, width, ignore_index).kind
    if kind == "classes":
        labels = wanted.detach().long()
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        return labels if labels.ndim == 1 else None
    return wanted.detach().float().argmax(1) if kind in ("one-hot", "soft") else None


@torch.no_grad()
def rows(wanted: Any, width: int, ignore_index: int = IGNORED) -> Tensor | None:
    """Targets as float rows (b, width), zeros for an ignored image; None if any is out of range."""
    if not isinstance(wanted, Tensor):
        return None
    if width == 1 and wanted.ndim == 1:
        return wanted.detach().float()[:, None]
    labels = hard(wanted, width, ignore_index) if width > 1 else None
    if labels is not None and tuple(wanted.shape[1:]) != (width,):
        ignored = labels == ignore_index
        if bool(((labels < 0) | (labels >= width))[~ignored].any()):
            return None
        return F.one_hot(labels.masked_fill(ignored, 0), width).float() * ~ignored[:, None]
    return wanted.detach().float() if wanted.ndim == 2 and wanted.shape[1] == width else None


@torch.no_grad()
def outputs(logits: Any) -> Outputs:
    """Of what the net gives, (b, k); give it with its graph, so that the last operation is known."""
    if not isinstance(logits, Tensor) or not logits.numel() or not logits.ndim:
        nan = math.nan
        return Outputs(0, nan, nan, nan, nan, nan, nan)
    values = logits.detach().float()
    values = values[:, None] if values.ndim == 1 else values.movedim(1, -1)
    values = values.reshape(-1, values.shape[-1])
    b, k = values.shape
    low, high = torch.aminmax(values)
    std, mean = torch.std_mean(values, correction=0)
    spread = values.std(1).mean() if k > 1 else values.new_zeros(())
    between = values.std(0).mean() if b > 1 else values.new_full((), math.nan)
    off = (values.sum(1) - 1).abs().max()
    log_off = (values.exp().sum(1) - 1).abs().max()
    clipped = (values == 0).float().mean()
    numbers = torch.stack([mean, std, low, high, spread, between, off, log_off, clipped]).tolist()
    least, most, sums, log_sums = numbers[2], numbers[3], numbers[6], numbers[7]
    near = SUMS if logits.dtype in (torch.float32, torch.float64) else HALF_SUMS
    shares = k > 1 and least >= 0 and sums <= near
    return Outputs(
        width=k,
        mean=numbers[0],
        std=numbers[1],
        low=least,
        high=most,
        spread=numbers[4],
        between=numbers[5],
        sums_to_one=shares,
        log_probabilities=k > 1 and most <= near and log_sums <= near,
        bounded=least >= 0 and most <= 1 and not shares,
        clipped=numbers[8],
        last=last_operation(logits),
    )


def last_operation(tensor: Tensor) -> str:
    """The operation that made a tensor's values, such as softmax, addmm or relu; "" where unknown.

    >>> last_operation(torch.softmax(torch.ones(2, 3, requires_grad=True), 1)[:, :, None].squeeze(2))
    'softmax'
    """
    node = tensor.grad_fn
    for _ in range(8):
        if node is None:
            return ""
        name = re.sub(r"Backward\d*$", "", node.name()).lstrip("_")
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
        plain = name.replace("_", "")
        if plain in UNKNOWN or plain.startswith("accumulategrad"):
            return ""
        if plain not in HANDING and not plain.endswith("view"):
            return name
        node = node.next_functions[0][0] if node.next_functions else None
    return ""


@torch.no_grad()
def losses(loss: Any, logits: Any, targets: Any, loss_fn: Any = None) -> Losses:
    """The loop's loss beside what it would be under known formulas for the same batch."""
    reported = float(loss) if isinstance(loss, int | float) else math.nan
    if isinstance(loss, Tensor) and loss.numel() == 1:
        reported = float(loss.detach())
    known = _known(loss_fn)
    ignore = int(getattr(loss_fn, "ignore_index", IGNORED))
    if not isinstance(logits, Tensor) or logits.ndim not in (1, 2) or not logits.numel():
        return Losses(reported, **known)
    values = logits.detach().float()
    values = values[:, None] if values.ndim == 1 else values
    truth = rows(targets, values.shape[1], ignore)
    if truth is None or len(truth) != len(values):
        return Losses(reported, **known)
    labels = hard(targets, values.shape[1], ignore)
    return Losses(reported, **_formulas(values, truth.to(values.device), labels), **known)


def _formulas(values: Tensor, truth: Tensor, labels: Tensor | None) -> dict[str, float]:
    """Each known loss of logits (b, k) against rows (b, k), as a mean; NaN where it makes no sense."""
    nan = values.new_full((), math.nan)
    counted = truth.sum(1) > 0 if labels is not None else torch.ones_like(truth[:, 0], dtype=torch.bool)
    values, truth = values[counted], truth[counted]
    one_class = labels is not None and values.shape[1] > 1
    shares = truth.mean(0)
    found = {
        "cross_entropy": _against(truth, F.log_softmax(values, 1)) if one_class else nan,
        "negative_log": _against(truth, values) if one_class else nan,
        "squared": F.mse_loss(values, truth),
        "squared_softmax": F.mse_loss(values.softmax(1), truth) if one_class else nan,
        "binary": F.binary_cross_entropy_with_logits(values, truth),
        "prior": -torch.special.xlogy(shares, shares).sum() if one_class else nan,
    }
    return dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True))


def _against(truth: Tensor, logs: Tensor) -> Tensor:
    """Minus the mean of `logs` at the target; a class of share 0 counts nothing, even at minus infinity."""
    return -torch.where(truth > 0, truth * logs, 0.0).sum(1).mean()


def _known(loss_fn: Any) -> dict[str, Any]:
    """What the loss function says of itself."""
    options = dict(loss_fn.keywords) if isinstance(loss_fn, functools.partial) else {}
    inner = loss_fn.func if isinstance(loss_fn, functools.partial) else loss_fn
    if inner is None:
        return {}

    def option(name: str) -> Any:
        return options.get(name, getattr(inner, name, None))

    smoothing = option("label_smoothing")
    return {
        "name": getattr(inner, "__name__", type(inner).__name__),
        "smoothing": float(smoothing) if isinstance(smoothing, int | float) else 0.0,
        "weighted": isinstance(option("weight"), Tensor) or isinstance(option("pos_weight"), Tensor),
    }
