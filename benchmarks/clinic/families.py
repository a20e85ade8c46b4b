"""Healthy starting points: a net on a data set, with a learning rate that suits its optimizer."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from clinic.data import Data, load
from clinic.loop import Run
from clinic.nets import NETS

# Tune on the first, report on the second: no pair of net and data set is in both.
FAMILIES: dict[str, tuple[tuple[str, str], ...]] = {
    "tuning": (
        ("plain", "fashion"),
        ("resnet", "cifar"),
        ("lenet", "digits"),
        ("nin", "shapes"),
        ("vgg", "cells"),
        ("normed", "digits"),
    ),
    "reporting": (
        ("normed", "fashion"),
        ("plain", "digits"),
        ("vgg", "fashion"),
        ("resnet", "cells"),
        ("lenet", "fashion"),
        ("nin", "cifar"),
    ),
}
HALVES = tuple(FAMILIES)
RATES: dict[str, dict[str, float]] = {
    "plain": {"sgd": 0.1, "momentum": 0.03, "adam": 0.002, "adamw": 0.002, "rmsprop": 0.001},
    "vgg": {"sgd": 0.05, "momentum": 0.01, "adam": 0.002, "adamw": 0.002, "rmsprop": 0.0005},
    "lenet": {"sgd": 0.1, "momentum": 0.03, "adam": 0.002, "adamw": 0.002, "rmsprop": 0.001},
    "normed": {"sgd": 0.1, "momentum": 0.02, "adam": 0.003, "adamw": 0.003, "rmsprop": 0.001},
    "resnet": {"sgd": 0.1, "momentum": 0.02, "adam": 0.003, "adamw": 0.003, "rmsprop": 0.001},
    "nin": {"sgd": 0.1, "momentum": 0.02, "adam": 0.003, "adamw": 0.003, "rmsprop": 0.001},
}


@dataclass(frozen=True)
class Base:
    """What a healthy run is determined by."""

    net: str
    data: str
    optimizer: str
    seed: int = 0
    steps: int = 200

    @property
    def name(self) -> str:
        return f"{self.net}-{self.data}-{self.optimizer}-s{self.seed}-{self.steps}"

    def run(self, folder: Path, cache: Path | None) -> Run:
        """A fresh healthy run: standardised inputs, batches of 32. The seed sets split, weights and order."""
        data = load(self.data, folder, cache, self.seed)
        torch.manual_seed(self.seed + zlib.crc32(self.name.encode()) % 1000)
        model = NETS[self.net](*data.shape, data.classes)
        rate = RATES[self.net][self.optimizer]
        standard = Standard(data)
        return Run(
            data, model, self.optimizer, rate, self.seed, self.steps, prepare=standard, prepare_val=standard
        )


class Standard:
    """Mean 0 and standard deviation 1 by channel, from the training images."""

    def __init__(self, data: Data) -> None:
        dims = (0, 2, 3)
        self.mean = data.train.mean(dims)[:, None, None]
        self.std = data.train.std(dims)[:, None, None]

    def __call__(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std
