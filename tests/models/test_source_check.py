"""Pixels that reach a pretrained net otherwise than it knows them are noticed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convclinic.models._source_check import USUAL, check_source
from convclinic.models._weights import HALVES, IMAGENET, Source


def photos(n: int = 32, seed: int = 0) -> Tensor:
    """Smooth images in [0, 1] whose channels differ."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((n, 3, 5, 5), generator=generator) ** torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)
    return nn.functional.interpolate(coarse, (32, 32), mode="bilinear")


def trained_on(mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
    """A net whose first norm remembers images as `mean` and `std` leave them."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16, momentum=None), nn.ReLU(), nn.Flatten())
    with torch.no_grad():
        net((photos(seed=1) - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
    return net


@pytest.mark.parametrize("name", USUAL)
def test_a_wrong_scaling_is_doubted_and_the_right_one_named(name: str):
    mean, std = USUAL[name]
    net = trained_on(mean, std)
    right = dataclasses.replace(IMAGENET, mean=mean, std=std)
    checked = check_source(net, right, photos())
    assert checked is not None and not checked.doubtful
    assert "arrive as the weights know them" in checked.words()
    for other, (other_mean, other_std) in USUAL.items():
        if other != name:
            wrong = dataclasses.replace(IMAGENET, mean=other_mean, std=other_std)
            checked = check_source(net, wrong, photos())
            assert checked is not None and checked.doubtful
            assert checked.best == f"{name}, RGB" and name in checked.words()


def test_the_net_is_left_as_it_was():
    net = trained_on(HALVES, HALVES).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    check_source(net, IMAGENET, photos())
    assert net.training and not net[1]._forward_pre_hooks
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_what_cannot_be_told_is_not_told():
    source: Source = IMAGENET
    assert check_source(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), source, photos()) is None
    assert check_source(trained_on(HALVES, HALVES), source, photos()[:, :1]) is None
