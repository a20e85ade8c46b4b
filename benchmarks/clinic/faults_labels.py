"""Faults of the labels, and of which images come when."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from clinic.loop import Run
from clinic.nets import NETS, NORMED
from clinic.planting import SGD, Plant, fault, generator, with_labels


def drawn(run: Run, count: int, share: float) -> Tensor:
    """True at a random share of `count` places."""
    return torch.rand(count, generator=generator(run)) < share


# Labels


@fault("labels_shuffled")
def labels_permuted(run: Run) -> None:
    labels = run.data.train_labels
    with_labels(run, labels[torch.randperm(len(labels), generator=generator(run))])


@fault("labels_shuffled")
def labels_one_image_late(run: Run) -> None:
    with_labels(run, run.data.train_labels.roll(1))


def _noise(share: float) -> Plant:
    def plant(run: Run) -> None:
        labels = run.data.train_labels
        other = torch.randint(0, run.data.classes, labels.shape, generator=generator(run))
        with_labels(run, torch.where(drawn(run, len(labels), share), other, labels))

    return plant


fault("label_noise", name="label_noise_40", steps=400)(_noise(0.4))
fault("label_noise", name="label_noise_60", steps=400)(_noise(0.6))


@fault("labels_out_of_range")
def labels_ignored(run: Run) -> None:
    labels = run.data.train_labels
    with_labels(run, torch.where(labels >= run.data.classes // 2, torch.full_like(labels, -100), labels))


@fault("labels_out_of_range")
def labels_from_one_wide_head(run: Run) -> None:
    channels, side = run.data.shape
    wide = next(make for make in NETS.values() if type(run.model) is make)
    run.model = wide(channels, side, run.data.classes + 3)
    run.classes = run.data.classes
    with_labels(run, run.data.train_labels + 1)


@fault("labels_out_of_range", preflight=True)
def labels_from_one(run: Run) -> None:
    with_labels(run, run.data.train_labels + 1)


# Sampling


@fault("not_shuffled")
def sorted_by_class(run: Run) -> None:
    run.shuffle = False
    run.data = run.data.with_train(run.data.train_labels.argsort(stable=True))


@fault("not_shuffled", optimizers=SGD)
def sorted_in_blocks(run: Run) -> None:
    run.shuffle = False
    labels = run.data.train_labels
    run.data = run.data.with_train(
        torch.cat([part[labels[part].argsort()] for part in torch.arange(len(labels)).split(1000)])
    )


def _imbalanced(rare: Callable[[int], Tensor], ratio: int) -> Plant:
    """Every `ratio`-th image of the rare classes is kept."""

    def plant(run: Run) -> None:
        keep = torch.ones(len(run.data.train_labels), dtype=torch.bool)
        for k in rare(run.data.classes).tolist():
            rows = (run.data.train_labels == k).nonzero().flatten()
            keep[rows] = False
            keep[rows[: max(2, len(rows) // ratio)]] = True
        run.data = run.data.with_train(keep.nonzero().flatten())

    return plant


fault("class_imbalance", name="half_rare_50")(_imbalanced(lambda k: torch.arange(k // 2 + 1, k), 50))
fault("class_imbalance", "predicts_one_class", name="all_but_one_rare_50")(
    _imbalanced(lambda k: torch.arange(1, k), 50)
)


@fault("batch_too_small", nets=NORMED, steps=500)
def batch_of_two(run: Run) -> None:
    run.batch = 2


@fault("batch_too_small", optimizers=SGD, steps=500)
def batch_of_one(run: Run) -> None:
    run.batch = 1


@fault("batch_too_large", optimizers=SGD)
def batch_of_everything(run: Run) -> None:
    run.batch, run.steps = len(run.data.train_labels), 6


@fault("batch_too_large", optimizers=SGD)
def batch_of_half(run: Run) -> None:
    run.batch, run.steps = len(run.data.train_labels) // 2, 12
