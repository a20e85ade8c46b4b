"""Healthy nets and starting points, ordinary and odd."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from clinic.loop import Run, train
from clinic.nets import NORMED, Residual, head_of
from clinic.planting import (
    ADAPTIVE,
    RELU,
    UNNORMED,
    exchange,
    fine,
    set_dropout,
    weighted,
)


@fine()
def dropout_half(run: Run) -> None:
    set_dropout(run.model, 0.5)


@fine(optimizers=("adam", "adamw", "momentum"))
def zero_head(run: Run) -> None:
    head = head_of(run.model)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)


@fine(nets=("resnet",))
def zero_gamma(run: Run) -> None:
    assert isinstance(run.model, Residual)
    for block in run.model.blocks:
        nn.init.zeros_(block.bn2.weight)


@fine()
def frozen_backbone(run: Run) -> None:
    """Trained before; only a fresh head is trained now, as in transfer."""
    before = replace(run, steps=150)
    train(before)
    head = head_of(run.model)
    head.reset_parameters()
    own = {id(p) for p in head.parameters()}
    for p in run.model.parameters():
        p.requires_grad_(id(p) in own)
    run.parameters = lambda model: [p for p in model.parameters() if p.requires_grad]


@fine()
def continued(run: Run) -> None:
    """From weights that were trained before, at a third of the rate."""
    train(replace(run, steps=150))
    run.lr /= 3


@fine(nets=NORMED)
def frozen_norms(run: Run) -> None:
    """Fine-tuning with the batch norms in evaluation mode."""
    train(replace(run, steps=150))
    run.lr /= 5
    run.model = FrozenNorms(run.model)


class FrozenNorms(nn.Module):
    """Keeps the batch norms inside in evaluation mode."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def train(self, mode: bool = True) -> FrozenNorms:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@fine(nets=RELU)
def other_activations(run: Run) -> None:
    exchange(run.model, nn.GELU() if type(run.model).__name__ == "Vgg" else nn.LeakyReLU(0.1))


@fine(nets=("plain",), optimizers=ADAPTIVE, steps=400)
def shallow_sigmoid(run: Run) -> None:
    exchange(run.model, nn.Sigmoid())


@fine(nets=UNNORMED)
def he_initialisation(run: Run) -> None:
    for layer in weighted(run.model):
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)


@fine(nets=UNNORMED)
def orthogonal(run: Run) -> None:
    for layer in weighted(run.model):
        nn.init.orthogonal_(layer.weight)


@fine()
def channels_last(run: Run) -> None:
    run.model = run.model.to(memory_format=torch.channels_last)


@fine()
def training_images_evaluated(run: Run) -> None:
    """The training images go through the model without gradients too, as some loops do."""
    run.remeasure = True
