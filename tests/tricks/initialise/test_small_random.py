import math

import pytest
import torch
from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.initialise.small_random import SmallRandom, small_random

IMAGES = torch.zeros(1, 3, 8, 8)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_equals_torch_normal_and_uniform():
    shape = (20, 8, 3, 3)
    normal = nn.init.normal_(torch.empty(shape), 0, 0.001, generator=rng())
    torch.testing.assert_close(small_random(shape, 0.001, "normal", rng()), normal)
    uniform = nn.init.uniform_(torch.empty(shape), -0.02, 0.02, generator=rng())
    torch.testing.assert_close(small_random(shape, 0.02, "uniform", rng()), uniform)


@pytest.mark.parametrize(("distribution", "std"), [("normal", 0.001), ("uniform", 0.001 / math.sqrt(3))])
def test_scale_is_the_same_in_small_and_large_layers(distribution, std):
    net = nn.Sequential(nn.Conv2d(8, 256, 3), nn.Conv2d(256, 64, 3))
    SmallRandom(distribution=distribution).apply(net, rng(), IMAGES, math.sqrt(2))
    for layer in net:
        assert abs(layer.weight.std().item() / std - 1) < 0.02
        assert abs(layer.weight.mean().item()) < 0.05 * std
    if distribution == "uniform":
        assert 0.00099 < net[1].weight.abs().max() <= 0.001


def test_wrong_options_are_explained():
    with pytest.raises(ConvclinicError, match="did you mean 'normal'"):
        SmallRandom(distribution="normall")
    for scale in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ConvclinicError, match="scale must be above 0"):
            SmallRandom(scale=scale)
