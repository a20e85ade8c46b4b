import math

import pytest
import torch
from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.initialise.he import He, he_normal

IMAGES = torch.zeros(1, 3, 8, 8)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_equals_torch_kaiming_normal():
    for shape, gain in [((64, 32, 3, 3), math.sqrt(2)), ((10, 300), math.sqrt(2))]:
        theirs = nn.init.kaiming_normal_(torch.empty(shape), nonlinearity="relu", generator=rng())
        torch.testing.assert_close(he_normal(shape, gain, rng()), theirs)


def test_scale_is_gain_over_root_fan_in():
    # He et al. 2015, equation 10: std = sqrt(2 / n), n = 3 * 3 * 64 = 576 gives 0.05893
    weight = he_normal((256, 64, 3, 3), math.sqrt(2), rng())
    assert abs(weight.std().item() / 0.05893 - 1) < 0.01
    assert abs(weight.mean().item()) < 0.001


def test_twenty_layers_keep_the_second_moment():
    x = torch.randn(64, 256, generator=rng(1))
    draws = rng()
    start = (x @ he_normal((256, 256), math.sqrt(2), draws).T).square().mean()
    h = x
    for _ in range(20):
        h = (h @ he_normal((256, 256), math.sqrt(2), draws).T).relu()
    # relu halves the second moment that the weights double: E h^2 stays near 1
    assert 0.3 < h.square().mean() / (start / 2) < 3


def test_biases_become_zero_frozen_and_norm_weights_stay():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=4), nn.Linear(4, 2))
    net[1].weight.data.fill_(0.7)
    net[0].weight.requires_grad = False
    frozen = net[0].weight.clone()
    He().apply(net, rng(), IMAGES, 1.0)
    assert torch.equal(net[0].weight, frozen)
    assert torch.equal(net[1].weight, torch.full((4,), 0.7))
    assert not net[2].bias.any() and not net[3].bias.any()
    # groups: fan_in is that of one group, 1 * 3 * 3
    torch.testing.assert_close(net[2].weight.data, he_normal((4, 1, 3, 3), 1.0, rng()))


def test_same_generator_same_bits_and_gain_scales():
    def weights(seed: int, gain: float) -> torch.Tensor:
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
        He().apply(net, rng(seed), IMAGES, gain)
        return torch.cat([p.detach().reshape(-1) for p in net.parameters()])

    assert torch.equal(weights(3, 1.0), weights(3, 1.0))
    assert not torch.equal(weights(3, 1.0), weights(4, 1.0))
    torch.testing.assert_close(weights(3, 2.0), 2 * weights(3, 1.0))


def test_the_default_draws_are_randn_times_root_2_over_n_in_module_order():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Flatten(), nn.Linear(2, 5))
    He().apply(net, rng(), IMAGES, math.sqrt(2))
    draws = rng()
    for layer, n in [(net[0], 27), (net[2], 4), (net[4], 2)]:
        expected = torch.randn(layer.weight.shape, generator=draws) * (math.sqrt(2) / math.sqrt(n))
        assert torch.equal(layer.weight.data, expected)


def test_uniform_equals_torch_kaiming_uniform():
    net = nn.Sequential(nn.Conv2d(8, 16, 3))
    He(distribution="uniform").apply(net, rng(), IMAGES, math.sqrt(2))
    theirs = nn.init.kaiming_uniform_(torch.empty(16, 8, 3, 3), nonlinearity="relu", generator=rng())
    torch.testing.assert_close(net[0].weight.data, theirs)


def test_an_unknown_distribution_is_explained():
    with pytest.raises(ConvclinicError, match="did you mean 'uniform'"):
        He(distribution="uniforms")
