"""Healthy recipes, ordinary and odd: losses, schedules, optimizers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clinic.loop import Run, cosine
from clinic.nets import NORMED
from clinic.planting import (
    ADAPTIVE,
    SGD,
    fine,
)


@fine()
def label_smoothing(run: Run) -> None:
    run.loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1)


@fine(optimizers=ADAPTIVE)
def mixup(run: Run) -> None:
    classes = run.data.classes

    def mix(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        share = 0.1 + 0.8 * float(torch.rand((), generator=rng))
        order = torch.randperm(len(x), generator=rng)
        soft = F.one_hot(y, classes).float()
        return share * x + (1 - share) * x[order], share * soft + (1 - share) * soft[order]

    run.augment = mix


@fine(optimizers=ADAPTIVE)
def binary_cross_entropy(run: Run) -> None:
    classes = run.data.classes
    run.loss_fn = lambda logits, targets: F.binary_cross_entropy_with_logits(
        logits, F.one_hot(targets, classes).float()
    )


@fine()
def class_weights(run: Run) -> None:
    weights = torch.linspace(0.5, 1.5, run.data.classes)
    run.loss_fn = nn.CrossEntropyLoss(weight=weights)


@fine()
def functional_loss(run: Run) -> None:
    run.loss_fn = F.cross_entropy


@fine(optimizers=ADAPTIVE)
def summed_loss_with_adam(run: Run) -> None:
    run.loss_fn = nn.CrossEntropyLoss(reduction="sum")


@fine()
def accumulation(run: Run) -> None:
    run.batch, run.accumulate, run.steps = 25, 2, run.steps * 2


@fine()
def clipping(run: Run) -> None:
    run.clip = 1.0


@fine()
def warm_up_and_cosine(run: Run) -> None:
    run.schedule = cosine


@fine()
def long_warm_up(run: Run) -> None:
    run.schedule = lambda step, steps: min(1.0, (step + 1) / 40)


@fine()
def step_decay(run: Run) -> None:
    run.schedule = lambda step, steps: 0.1 ** (step // 120)


@fine()
def averaged_weights(run: Run) -> None:
    run.average = 0.95


@fine()
def scaler_skips(run: Run) -> None:
    run.skip = 3


@fine()
def autocast(run: Run) -> None:
    run.bfloat16 = True


@fine(optimizers=SGD)
def weight_decay(run: Run) -> None:
    run.options = {"weight_decay": 5e-4}


@fine(optimizers=("adamw",))
def weight_decay_adamw(run: Run) -> None:
    run.options = {"weight_decay": 0.1}


@fine(optimizers=("momentum",))
def nesterov(run: Run) -> None:
    run.options = {"nesterov": True}


@fine(optimizers=("adam",), nets=("plain", "lenet", *NORMED))
def adam_001(run: Run) -> None:
    run.lr = 0.01


@fine(optimizers=("momentum",), nets=("normed", "resnet"))
def momentum_01(run: Run) -> None:
    run.lr = 0.1


@fine()
def rate_half(run: Run) -> None:
    run.lr /= 2


@fine(nets=NORMED)
def no_decay_groups(run: Run) -> None:
    def groups(model: nn.Module) -> list[dict[str, object]]:
        bare = [p for p in model.parameters() if p.ndim == 1]
        rest = [p for p in model.parameters() if p.ndim > 1]
        return [{"params": rest, "weight_decay": 1e-3}, {"params": bare, "weight_decay": 0.0}]

    run.parameters = groups
