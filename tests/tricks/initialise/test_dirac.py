import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.initialise.dirac import Dirac, partial_dirac

IMAGES = torch.zeros(1, 3, 8, 8)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(8, 5, 3, 3), (5, 5, 3, 3), (3, 5, 3, 3)])
def test_equals_torch_dirac_on_the_first_filters(shape):
    weight = torch.randn(shape, generator=rng())
    theirs = weight.clone()
    nn.init.dirac_(theirs[: shape[1]])
    assert torch.equal(partial_dirac(weight), theirs)
    assert torch.equal(weight, torch.randn(shape, generator=rng())), "the input was changed"


def test_the_first_channels_pass_through():
    x = torch.randn(2, 4, 6, 6, generator=rng())
    weight = partial_dirac(torch.randn(7, 4, 3, 3, generator=rng(1)))
    assert torch.equal(F.conv2d(x, weight, padding=1)[:, :4], x)


def test_other_filters_are_torch_default_from_the_given_generator():
    net = nn.Sequential(nn.Conv2d(4, 6, 3))
    Dirac().apply(net, rng(), IMAGES, 1.0)
    default = nn.init.kaiming_uniform_(torch.empty(6, 4, 3, 3), a=math.sqrt(5), generator=rng())
    assert torch.equal(net[0].weight[4:].detach(), default[4:])
    assert default.abs().max() <= 1 / math.sqrt(36)
    assert not net[0].bias.any()


def test_only_trainable_3x3_without_groups_are_touched():
    net = nn.Sequential(
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 5),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 3),
        nn.Linear(4, 2),
    )
    net[4].weight.requires_grad = False
    before = [module.weight.clone() for module in net]
    Dirac().apply(net, rng(), IMAGES, 1.0)
    same = [torch.equal(module.weight, old) for module, old in zip(net, before, strict=True)]
    assert same == [False, True, True, True, True, True]


def test_a_net_without_such_convolutions_is_refused():
    with pytest.raises(ConvclinicError, match="3x3"):
        Dirac().apply(nn.Sequential(nn.Conv2d(3, 4, 5)), rng(), IMAGES, 1.0)
