"""Data and a net for the examples: scikit-learn's digits in random colours, and a small plain net."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

SIDE, CLASSES = 16, 10


class Digits(NamedTuple):
    """Images (n, 3, 16, 16) uint8 and labels (n,): three quarters to train on, one to test."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load() -> Digits:
    """Each digit in a light colour of its own on a dark ground of its own; the same at every call."""
    rng = torch.Generator().manual_seed(0)
    plain = load_digits()
    ink = torch.from_numpy(plain.images).float()[:, None] / 16
    ink = F.interpolate(ink, size=(SIDE, SIDE), mode="bilinear").clamp(0, 1)
    light, dark = (torch.rand((len(ink), 3, 1, 1), generator=rng) * 0.4 + low for low in (0.6, 0.0))
    images = (255 * (ink * light + (1 - ink) * dark)).round().to(torch.uint8)
    labels = torch.from_numpy(plain.target).long()
    order = torch.randperm(len(ink), generator=rng)
    train, test = order[: 3 * len(order) // 4], order[3 * len(order) // 4 :]
    return Digits(images[train], labels[train], images[test], labels[test])


def small_net(activation: Callable[[int], nn.Module] = lambda channels: nn.ReLU()) -> nn.Sequential:
    """(b, 3, 16, 16) to logits (b, 10): three convolutions, each with batch norm and an activation."""
    layers: list[nn.Module] = []
    widths = (3, 16, 32, 32)
    for c_in, c_out in pairwise(widths):
        convolution = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(c_out), activation(c_out), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * (SIDE // 8) ** 2, CLASSES))


def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images that the net names rightly."""
    net.eval()
    with torch.inference_mode():
        return float((net(images).argmax(1) == labels).float().mean())
