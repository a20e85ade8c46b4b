"""What every initialiser of whole nets keeps to: run over each file found in the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import convclinic.tricks.initialise as initialise_folder
from convclinic.ground.discovery import adapters
from convclinic.kinds import Layers
from convclinic.models.fast import Fast

SOME_LAYERS_ONLY = ("dirac", "patch_whitening")
FOUND = sorted(file.stem for file in Path(initialise_folder.__path__[0]).glob("*.py"))
NAMES = [name for name in FOUND if not name.startswith("_") and name not in SOME_LAYERS_ONLY]
every = pytest.mark.parametrize("name", NAMES)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images() -> torch.Tensor:
    return torch.randn(16, 3, 8, 8, generator=rng(1))


def net(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, groups=2),
            nn.PReLU(6),
            nn.Flatten(),
            nn.Linear(96, 5, bias=False),
            nn.Linear(5, 4),
        )


def made(name: str, seed: int = 0, before: int = 0) -> nn.Sequential:
    fresh, trick = net(before), adapters("convclinic.tricks.initialise")[name]()
    trick.apply(fresh, rng(seed), images(), 1.0)
    return fresh


def flat(fresh: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in fresh.parameters()])


@every
def test_biases_are_zero_and_nothing_is_left_of_what_stood_there(name: str) -> None:
    one, other = made(name), made(name, before=7)
    assert torch.equal(flat(one), flat(other))
    assert all(
        not layer.bias.any()
        for layer in one
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None
    )


@every
def test_the_generator_decides_and_torch_s_own_is_left_alone(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = made(name), made(name), made(name, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(flat(first), flat(again))
    assert torch.equal(flat(first), flat(other)) == (name in ("zero", "constant"))


@every
def test_frozen_layers_norms_and_slopes_stay(name: str) -> None:
    fresh, trick = net(), adapters("convclinic.tricks.initialise")[name]()
    fresh[3].weight.requires_grad = False
    fresh[1].weight.data.fill_(0.7)
    kept = [p.clone() for index in (1, 3, 4) for p in fresh[index].parameters()]
    trick.apply(fresh, rng(), images(), 1.0)
    now = [p for index in (1, 3, 4) for p in fresh[index].parameters()]
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))


@every
def test_weights_stay_leaves_to_train_of_their_type_and_layout(name: str) -> None:
    fresh: Any = net().double().to(memory_format=torch.channels_last)
    trick = adapters("convclinic.tricks.initialise")[name]()
    trick.apply(fresh, rng(), images().double(), 1.0)
    for p in fresh.parameters():
        assert p.is_leaf and p.requires_grad and p.grad is None and p.dtype == torch.float64
    assert fresh[0].weight.is_contiguous(memory_format=torch.channels_last)
    if name != "lsuv":  # whose scales come from the images, in the net's own precision
        torch.testing.assert_close(flat(fresh).float(), flat(made(name)), rtol=1e-6, atol=0)


@every
def test_a_net_without_layers_is_no_mistake(name: str) -> None:
    norm = nn.Sequential(nn.BatchNorm2d(3))
    adapters("convclinic.tricks.initialise")[name]().apply(norm, rng(), images(), 1.0)
    assert torch.equal(norm[0].weight, torch.ones(3))


@every
def test_a_head_whose_sums_the_net_divides_keeps_its_scale(name: str) -> None:
    """Drawn anew for its fan-in, the head of `fast` would give logits a thousandth of what they are."""
    fresh = Fast(widths=(8, 8)).build(3, 4, Layers(lambda _: nn.GELU()))
    head, first = fresh.head.weight.clone(), fresh.groups[0].conv1.weight.clone()
    adapters("convclinic.tricks.initialise")[name]().apply(fresh, rng(), images(), 1.0)
    assert torch.equal(fresh.head.weight, head) and head.std().item() == pytest.approx(1.0)
    assert not torch.equal(fresh.groups[0].conv1.weight, first)
