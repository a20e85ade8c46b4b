"""The loop that is watched: plain PyTorch, as anybody writes it. A fault changes a `Run` before it starts.

With `clinic=None` the very same code is the unwatched twin.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clinic.data import Data

Images = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
Attach = Callable[[nn.Module, torch.optim.Optimizer, int], Any]  # makes the clinic
OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.01}),
    "rmsprop": (torch.optim.RMSprop, {}),
}
ASKED = (5, 10, 20, 50, 100)  # steps after which findings are asked for, besides the end


@dataclass
class Run:
    """Everything a training needs, healthy until something is changed. `prepare` maps images in [0, 1] to
    what the net sees, for training; `prepare_val` for validation. `augment` gets prepared images, targets and
    a generator. `schedule` maps (step, steps) to a factor on the learning rate."""

    data: Data
    model: nn.Module
    optimizer: str
    lr: float
    seed: int = 0
    steps: int = 200
    batch: int = 32
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    prepare: Images = lambda x: x
    prepare_val: Images = lambda x: x
    augment: Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]] | None = None
    loss_fn: Loss = field(default_factory=nn.CrossEntropyLoss)
    schedule: Callable[[int, int], float] = lambda step, steps: 1.0
    parameters: Callable[[nn.Module], Any] = lambda model: model.parameters()
    shuffle: bool = True
    drop_last: bool = False
    zero_grad: bool = True
    training: bool = True  # the mode to train in
    back: bool = True  # whether training mode is set again after a validation
    evaluating: bool = False  # the mode to validate in
    clip: float | None = None
    accumulate: int = 1
    wait: float = 0.0  # seconds that the loader sleeps for each batch
    skip: int = 0  # first updates that are left out, as a gradient scaler does
    average: float = 0.0  # decay of an average of the weights, which is validated instead
    bfloat16: bool = False
    told: tuple[str, ...] = ("inputs", "targets", "logits")  # what `observe` is given besides the loss
    recalls: bool = True
    remeasure: bool = False  # whether the training accuracy is measured by a pass of its own
    classes: int | None = None  # what the clinic is told, if not what the data say


@dataclass
class Result:
    """What came of it. curve: (step, validation accuracy) after each epoch, `honest`: accuracy on fresh
    images in evaluation mode, prepared as for training; asked: findings by step."""

    accuracy: float = 0.0
    honest: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    train_accuracy: float = 0.0
    seconds: float = 0.0
    steps: int = 0
    error: str = ""
    asked: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, Any])


def make_optimizer(run: Run) -> torch.optim.Optimizer:
    kind, options = OPTIMIZERS[run.optimizer]
    return kind(run.parameters(run.model), lr=run.lr, **{**options, **run.options})


def epoch_batches(run: Run, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch from memory, as a loader would bring it."""
    count = len(run.data.train_labels)
    order = torch.randperm(count, generator=rng) if run.shuffle else torch.arange(count)
    for rows in order.split(run.batch):
        if run.drop_last and len(rows) < run.batch:
            return
        inputs, targets = run.prepare(run.data.train[rows]), run.data.train_labels[rows]
        if run.augment is not None:
            inputs, targets = run.augment(inputs, targets, rng)
        if run.wait:
            time.sleep(run.wait)
        yield inputs, targets


@torch.no_grad()
def evaluate(run: Run, model: nn.Module) -> dict[str, Any]:
    """Validate as a user would, through the model."""
    model.train(run.evaluating)
    parts: list[Tensor] = []
    for images in run.data.val.split(200):
        parts.append(model(run.prepare_val(images)).float())
    logits, labels = torch.cat(parts), run.data.val_labels
    right = logits.argmax(1) == labels
    recalls = [float(right[labels == k].float().mean()) for k in range(run.data.classes)]
    try:
        loss = float(run.loss_fn(logits, labels))
    except (RuntimeError, ValueError, TypeError, IndexError):  # a loss for augmented targets only
        loss = float(F.cross_entropy(logits, labels))
    return {
        "val_loss": loss,
        "val_accuracy": float(right.float().mean()),
        "val_per_class_recall": recalls if run.recalls else None,
    }


@torch.no_grad()
def accuracy(model: nn.Module, prepare: Images, images: Tensor, labels: Tensor) -> float:
    """In evaluation mode."""
    model.eval()
    answers = torch.cat([model(prepare(part)).argmax(1) for part in images.split(200)])
    return float((answers == labels[: len(images)]).float().mean())


def train(run: Run, attach: Attach | None = None, preflight: bool = False) -> Result:
    """Train `run`, with the clinic that `attach` makes, if any; what it finds is asked for on the way and at
    the end, even after a crash."""
    result = Result()
    begin = time.perf_counter()
    torch.manual_seed(run.seed)
    optimizer = make_optimizer(run)
    clinic = attach(run.model, optimizer, run.classes or run.data.classes) if attach else None
    try:
        _train(run, optimizer, clinic, preflight, result)
    except (RuntimeError, ValueError, IndexError) as error:
        result.error = f"{type(error).__name__}: {error}"[:200]
    result.seconds = time.perf_counter() - begin
    if clinic is not None:
        result.asked["end"] = [finding.to_dict() for finding in clinic.findings()]
        clinic.close()
    if not result.error:
        result.honest = accuracy(run.model, run.prepare, run.data.fresh, run.data.fresh_labels)
    return result


def _train(run: Run, optimizer: torch.optim.Optimizer, clinic: Any, preflight: bool, result: Result) -> None:
    model = run.model
    rng = torch.Generator().manual_seed(run.seed)
    averaged = copy.deepcopy(model) if run.average else None
    model.train(run.training)
    step = 0
    while step < run.steps:
        seen = right = 0
        for inputs, targets in epoch_batches(run, rng):
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * run.schedule(step, run.steps)
            if preflight and step == 0 and clinic is not None:
                clinic.preflight(inputs, targets, run.loss_fn)
            loss, logits = _update(run, optimizer, inputs, targets, step)
            step += 1
            if averaged is not None:
                _follow(averaged, model, run.average)
            if clinic is not None:
                _observe(run, clinic, {"inputs": inputs, "targets": targets, "logits": logits}, loss)
                if step in ASKED:
                    result.asked[str(step)] = [finding.to_dict() for finding in clinic.findings()]
            classes = targets.argmax(1) if targets.ndim > 1 else targets
            right += int((logits.detach().argmax(1) == classes).sum())
            seen += len(classes)
            if step >= run.steps:
                break
        measures = evaluate(run, averaged or model)
        model.train(run.training and run.back)
        result.steps, result.train_accuracy = step, right / max(1, seen)
        if run.remeasure:
            result.train_accuracy = accuracy(model, run.prepare, run.data.train[:1000], run.data.train_labels)
            model.train(run.training)
        result.accuracy = measures["val_accuracy"]
        result.curve.append((step, result.accuracy))
        if clinic is not None:
            clinic.observe_epoch(train_accuracy=result.train_accuracy, **measures)


def _update(
    run: Run, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor, step: int
) -> tuple[Tensor, Tensor]:
    """One step, in the order of the contract: forward, zero_grad, backward, update."""
    with torch.autocast("cpu", torch.bfloat16, enabled=run.bfloat16):
        logits = run.model(inputs)
        loss = run.loss_fn(logits, targets)
    if run.zero_grad and step % run.accumulate == 0:
        optimizer.zero_grad()
    (loss / run.accumulate).backward()
    if run.clip is not None:
        nn.utils.clip_grad_norm_(run.model.parameters(), run.clip)
    if step >= run.skip and (step + 1) % run.accumulate == 0:
        optimizer.step()
    return loss, logits


def _observe(run: Run, clinic: Any, told: dict[str, Tensor], loss: Tensor) -> None:
    clinic.observe(loss=loss, **{name: value for name, value in told.items() if name in run.told})


@torch.no_grad()
def _follow(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, now in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - decay)
        else:
            mean.copy_(now)


def cosine(step: int, steps: int) -> float:
    """Warm-up over a tenth of the steps, then a cosine to zero."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
