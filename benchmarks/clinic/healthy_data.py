"""Healthy data, batches and lengths, ordinary and odd."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from clinic.loop import Run, cosine
from clinic.nets import NORMED, head_of
from clinic.planting import (
    fine,
    with_labels,
    with_val,
)

# Data


@fine()
def pixels_in_one(run: Run) -> None:
    run.prepare = run.prepare_val = lambda x: x


@fine(nets=NORMED)
def pixels_in_255_before_norm(run: Run) -> None:
    run.prepare = run.prepare_val = lambda x: x * 255


@fine()
def half_and_half(run: Run) -> None:
    run.prepare = run.prepare_val = lambda x: (x - 0.5) / 0.5


@fine()
def mild_augmentation(run: Run) -> None:
    def shift(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        moved = [int(torch.randint(-1, 2, (), generator=rng)) for _ in range(2)]
        x = torch.roll(x, moved, (2, 3)).clone()
        top = int(torch.randint(0, x.shape[-1] - 4, (), generator=rng))
        x[: len(x) // 2, :, top : top + 4, top : top + 4] = 0
        return x + 0.05 * torch.randn(x.shape, generator=rng), y

    run.augment = shift


@fine()
def small_validation(run: Run) -> None:
    with_val(run, run.data.val[:60], run.data.val_labels[:60])


@fine()
def imbalanced_mildly(run: Run) -> None:
    keep = (run.data.train_labels != 0) | (torch.arange(len(run.data.train_labels)) % 3 == 0)
    run.data = run.data.with_train(keep.nonzero().flatten())


@fine()
def few_wrong_labels(run: Run) -> None:
    labels = run.data.train_labels.clone()
    labels[::40] = (labels[::40] + 1) % run.data.classes
    with_labels(run, labels)


@fine()
def two_classes(run: Run) -> None:
    data = run.data
    run.data = replace(
        data.with_train((data.train_labels < 2).nonzero().flatten()),
        val=data.val[data.val_labels < 2],
        val_labels=data.val_labels[data.val_labels < 2],
        fresh=data.fresh[data.fresh_labels < 2],
        fresh_labels=data.fresh_labels[data.fresh_labels < 2],
        classes=2,
    )
    head = head_of(run.model)
    head.weight, head.bias = nn.Parameter(head.weight[:2].detach()), nn.Parameter(head.bias[:2].detach())


# Batches and length


@fine()
def batch_of_8(run: Run) -> None:
    run.batch, run.lr, run.steps = 8, run.lr / 3, 300


@fine()
def batch_of_256(run: Run) -> None:
    run.batch, run.steps = 256, 100


@fine()
def tiny_last_batch(run: Run) -> None:
    run.data = run.data.with_train(
        torch.arange(run.batch * (len(run.data.train_labels) // run.batch - 1) + 3)
    )


@fine(name="twenty_steps", steps=20)
def twenty_steps(run: Run) -> None:
    run.recalls = False


@fine(name="long_run", steps=700, data=("digits", "shapes"))
def long_run(run: Run) -> None:
    run.schedule = cosine


@fine()
def loss_only(run: Run) -> None:
    run.told = ()


@fine()
def without_recalls(run: Run) -> None:
    run.recalls = False
