"""Which layers an initialiser sets, and the two kinds of draws of a given standard deviation."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.kinds import has_own_scale

DISTRIBUTIONS = ("normal", "uniform")


def trainable_layers(net: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """Every trainable convolution and linear layer that has no scale of its own, in the order of the net's
    modules."""
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    return [layer for layer in layers if layer.weight.requires_grad and not has_own_scale(layer)]


def groups_of(layer: nn.Conv2d | nn.Linear) -> int:
    return layer.groups if isinstance(layer, nn.Conv2d) else 1


@torch.no_grad()
def set_layers(net: nn.Module, weights: Callable[[tuple[int, ...], int], Tensor]) -> None:
    """Set the trainable layers in place: weights(shape, groups) in each, and biases zero."""
    for layer in trainable_layers(net):
        layer.weight.copy_(weights(tuple(layer.weight.shape), groups_of(layer)))
        if layer.bias is not None:
            layer.bias.zero_()


def fan_in(shape: tuple[int, ...]) -> int:
    """How many inputs a unit of weights (out, in / groups, ...) sums over."""
    return math.prod(shape[1:])


def drawn(shape: tuple[int, ...], std: float, distribution: str, rng: torch.Generator) -> Tensor:
    """Zero-mean weights of that standard deviation, drawn on the generator's device.

    >>> rng = torch.Generator().manual_seed(0)
    >>> bool(drawn((100, 100), 0.1, "uniform", rng).abs().max() <= 0.1 * math.sqrt(3))
    True
    """
    if distribution == "normal":
        return torch.randn(shape, generator=rng, device=rng.device) * std
    bound = math.sqrt(3) * std  # U(-a, a) has the variance a^2 / 3
    return torch.empty(shape, device=rng.device).uniform_(-bound, bound, generator=rng)


def check_distribution(trick: str, name: str) -> None:
    """Raise ConvclinicError for a distribution there is not."""
    if name not in DISTRIBUTIONS:
        raise ConvclinicError(f"{trick}.distribution is '{name}'", fix=nearest(name, DISTRIBUTIONS))
