"""Faults planted in a real loop are named within twelve steps, and its healthy twins raise no alarm."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convclinic.clinic.clinic import Clinic
from convclinic.kinds import Finding

STEPS, CLASSES, BATCH = 12, 4, 32
Loss = Callable[[Tensor, Tensor], Tensor]


class Loop(NamedTuple):
    """One way to write the loop; the defaults are right."""

    end: nn.Module | None = None
    loss: Loss = F.cross_entropy
    prepare: Callable[[Tensor], Tensor] = lambda images: images
    touch: Callable[[nn.Module], object] = lambda net: None
    held: Callable[[nn.Module], list[nn.Parameter]] = lambda net: list(net.parameters())
    clear: bool = True
    copied: bool = False
    training: bool = True
    ordered: bool = False
    adam: bool = False


def net(end: nn.Module | None) -> nn.Sequential:
    layers = [nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, CLASSES), *([end] if end is not None else []))


def findings(loop: Loop, preflight: bool) -> list[Finding]:
    """Train on noisy copies of one picture for each class, and ask at the end."""
    torch.manual_seed(0)
    model, pictures = net(loop.end), torch.randn(CLASSES, 1, 16, 16)
    loop.touch(model)
    held = loop.held(model)
    optimizer = torch.optim.Adam(held, 3e-3) if loop.adam else torch.optim.SGD(held, 0.05, momentum=0.9)
    model = copy.deepcopy(model) if loop.copied else model
    with Clinic(model, optimizer, classes=CLASSES) as clinic:
        for step in range(STEPS):
            labels = torch.full((BATCH,), 0) if loop.ordered else torch.randint(CLASSES, (BATCH,))
            images = loop.prepare(0.6 * pictures[labels] + 0.8 * torch.randn(BATCH, 1, 16, 16))
            if preflight and step == 0:
                clinic.preflight(images, labels, loop.loss)
            model.train(loop.training)
            logits = model(images)
            loss = loop.loss(logits, labels)
            if loop.clear:
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            clinic.observe(loss=loss, inputs=images, targets=labels, logits=logits)
        return clinic.findings()


def constant(model: nn.Module) -> None:
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.05)


def frozen(model: nn.Module) -> None:
    for parameter in list(model.parameters())[:4]:
        parameter.requires_grad_(False)


def zero_head(model: nn.Module) -> None:
    for parameter in list(model.parameters())[-2:]:
        nn.init.zeros_(parameter)


def summed(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="sum")


FAULTS = {
    "inputs_not_normalised": Loop(prepare=lambda images: 1e-3 * images, touch=lambda model: model.pop(3)),
    "inputs_constant": Loop(prepare=torch.zeros_like),
    "wrong_loss_pairing": Loop(nn.Softmax(1)),
    "loss_reduction": Loop(loss=summed),
    "flipped_loss_sign": Loop(loss=lambda logits, labels: -F.cross_entropy(logits, labels)),
    "symmetric_init": Loop(touch=constant),
    "missing_zero_grad": Loop(clear=False),
    "wrong_mode": Loop(training=False),
    "parameters_not_in_optimizer": Loop(held=lambda model: list(model.parameters())[6:]),
    "frozen_parameters": Loop(touch=frozen),
    "optimizer_stale": Loop(copied=True),
    "not_shuffled": Loop(ordered=True),
}
HEALTHY = {
    "plain": Loop(),
    "adam": Loop(adam=True),
    "log-probabilities": Loop(nn.LogSoftmax(1)),
    "nll": Loop(nn.LogSoftmax(1), F.nll_loss),
    "nll of the log": Loop(nn.Softmax(1), lambda shares, labels: F.nll_loss(shares.log(), labels)),
    "label smoothing": Loop(loss=nn.CrossEntropyLoss(label_smoothing=0.1)),
    "zero head": Loop(touch=zero_head),
    "pixels in [0, 1]": Loop(prepare=torch.sigmoid),
    "sum with Adam": Loop(loss=summed, adam=True),
}


@pytest.mark.parametrize("preflight", [True, False], ids=["preflight", "none"])
@pytest.mark.parametrize("cause", FAULTS)
def test_a_planted_fault_is_the_first_named(cause: str, preflight: bool) -> None:
    found = findings(FAULTS[cause], preflight)
    assert found and found[0].cause == cause and found[0].severity != "info", [f.cause for f in found]


@pytest.mark.parametrize("preflight", [True, False], ids=["preflight", "none"])
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_twins_raise_no_alarm(name: str, preflight: bool) -> None:
    assert [f.cause for f in findings(HEALTHY[name], preflight) if f.severity != "info"] == []
