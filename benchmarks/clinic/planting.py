"""What a planted fault is, and what the files of faults share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from clinic.loop import Run

UNNORMED = ("plain", "vgg", "lenet")
RELU = ("plain", "vgg")
SGD = ("sgd", "momentum")
ADAPTIVE = ("adam", "adamw", "rmsprop")
Plant = Callable[[Run], None]


@dataclass(frozen=True)
class Fault:
    """A planted fault: a small function that changes a healthy `Run` before it starts.

    Of the causes the first must be named; the further ones are other true names of the same mistake. nets,
    data and optimizers say where it can be planted, none that it can be anywhere; steps: how many instead of
    the usual number; preflight: whether it is asked for, if that is not left to the bench.
    """

    name: str
    causes: tuple[str, ...]
    plant: Plant
    nets: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    optimizers: tuple[str, ...] = ()
    steps: int | None = None
    preflight: bool | None = None


FAULTS: list[Fault] = []
HEALTHY: list[Fault] = []


def fault(
    *causes: str,
    name: str = "",
    nets: tuple[str, ...] = (),
    data: tuple[str, ...] = (),
    optimizers: tuple[str, ...] = (),
    steps: int | None = None,
    preflight: bool | None = None,
) -> Callable[[Plant], Plant]:
    """Register the function as a fault, under its own name."""

    def register(plant: Plant) -> Plant:
        FAULTS.append(Fault(name or plant.__name__, causes, plant, nets, data, optimizers, steps, preflight))
        return plant

    return register


def fine(
    nets: tuple[str, ...] = (),
    data: tuple[str, ...] = (),
    optimizers: tuple[str, ...] = (),
    steps: int | None = None,
    name: str = "",
) -> Callable[[Plant], Plant]:
    """Register the function as a healthy variant."""

    def register(change: Plant) -> Plant:
        HEALTHY.append(Fault(name or change.__name__, (), change, nets, data, optimizers, steps))
        return change

    return register


def weighted(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """Convolutions and linear layers in order."""
    return [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def exchange(model: nn.Module, activation: nn.Module) -> None:
    """Put `activation` where ReLU modules are."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(module, name, copy.copy(activation))


def set_dropout(model: nn.Module, p: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = p


def with_val(run: Run, images: Tensor, labels: Tensor) -> None:
    """Exchange the validation set."""
    run.data = replace(run.data, val=images, val_labels=labels)


def with_labels(run: Run, labels: Tensor) -> None:
    """Exchange the training labels."""
    run.data = replace(run.data, train_labels=labels)


def generator(run: Run) -> torch.Generator:
    """Randomness for planting that depends on the run's seed alone."""
    return torch.Generator().manual_seed(1000 + run.seed)
