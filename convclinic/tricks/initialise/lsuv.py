"""LSUV: orthonormal weights, each layer then scaled until its output on training images has variance 1.

Formula   W = Q, orthonormal, b = 0;   then layer by layer, forward:   W <- W / sqrt(Var(y)) until
          |Var(y) - 1| < tolerance, at most `tries` times;   y is the output, before norm and activation
Shapes    weights of convolutions, taken as (out, fan_in) matrices, one for each group, and of linear layers;
          Var over all values of y, images (b, c, h, w) prepared, of which the first `batch_size` are used
Strength  tolerance > 0, tries >= 1; there is no value that means off: leave it out
Helps     deep nets without normalisation, whatever their activation: the data say what no formula knows
Hurts     nothing known. Images that are not like those of training give wrong scales
Clashes   every other initialiser and pretrained weights (each sets the same weights: the last one wins);
          patch_whitening must stand before it, since it changes what the layers see
Source    Mishkin and Matas, All You Need Is a Good Init, 2016, arXiv:1511.06422, algorithm 1; tolerance and
          tries are those of the authors' code. All layers are scaled in the same forward pass: with no bias
          a layer's output scales as its weights do, so the next one sees what a pass of its own would show
          it. The net is in evaluation mode, as in the authors' code: dropout is off and batch norm uses its
          stored statistics, in a fresh net the identity; once it has seen a batch, batch norm and not LSUV
          sets the scale. A layer whose output is 0 throughout keeps its orthonormal weights
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.typed import at_least
from convclinic.tricks.initialise._layers import set_layers, trainable_layers
from convclinic.tricks.initialise.orthogonal import orthogonal_weight


@contextmanager
def evaluating(net: nn.Module) -> Generator[None]:
    """The net in evaluation mode; each of its modules has its own mode back afterwards."""
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@torch.no_grad()
def rescale(net: nn.Module, images: Tensor, tolerance: float) -> int:
    """One forward pass that gives every trainable layer's output variance 1; how many had to be scaled.

    Raises ConvclinicError when an output is not finite.
    """
    scaled: list[nn.Module] = []

    def unit(layer: nn.Conv2d | nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        variance = output.float().var(correction=0).item()
        if not math.isfinite(variance):
            raise ConvclinicError(
                f"lsuv: the output of a layer with weights {tuple(layer.weight.shape)} is not finite",
                fix="look at the prepared images, or use initialise=he",
            )
        if variance == 0 or abs(variance - 1) < tolerance:
            return output
        layer.weight.div_(math.sqrt(variance))
        scaled.append(layer)
        return output / math.sqrt(variance)

    hooks = [layer.register_forward_hook(unit) for layer in trainable_layers(net)]
    try:
        net(images)
    finally:
        for hook in hooks:
            hook.remove()
    return len(scaled)


@dataclass(frozen=True)
class LSUV:
    """Every trainable convolution and linear layer, in the order of the forward pass."""

    slot: ClassVar[str] = "initialise"
    tolerance: float = 0.1
    tries: int = 10
    batch_size: int = 256

    def __post_init__(self) -> None:
        at_least("lsuv.tries", self.tries, 1)
        at_least("lsuv.batch_size", self.batch_size, 1)
        if not self.tolerance > 0:
            raise ConvclinicError(f"lsuv.tolerance must be above 0, not {self.tolerance}", fix="0.1 is usual")

    def apply(self, net: nn.Module, rng: torch.Generator, images: Tensor, gain: float) -> None:
        """Set weights and biases in place; `gain` is not looked at, since the images tell it.

        Raises ConvclinicError when there are no images, or when the net makes something not finite of them.
        """
        if len(images) == 0:
            raise ConvclinicError("lsuv needs training images, and got none", fix="use initialise=he")
        set_layers(net, lambda shape, groups: orthogonal_weight(shape, groups, 1.0, rng))
        with evaluating(net):
            for _ in range(self.tries):
                if rescale(net, images[: self.batch_size], self.tolerance) == 0:
                    break
