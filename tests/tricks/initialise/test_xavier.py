import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.initialise.xavier import Xavier, xavier

IMAGES = torch.zeros(1, 3, 8, 8)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([(), (1, 1), (3, 3), (5, 2)]))
def test_equals_torch(out, into, kernel):
    shape = (out, into, *kernel)
    uniform = nn.init.xavier_uniform_(torch.empty(shape), generator=rng())
    torch.testing.assert_close(xavier(shape, 1, "uniform", rng()), uniform)
    normal = nn.init.xavier_normal_(torch.empty(shape), generator=rng())
    torch.testing.assert_close(xavier(shape, 1, "normal", rng()), normal)


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_variance_is_two_over_both_fans(distribution):
    # Glorot and Bengio 2010, equation 12: fans 300 and 500 give 2 / 800 = 0.0025
    weight = xavier((500, 300), 1, distribution, rng())
    assert abs(weight.var().item() / 0.0025 - 1) < 0.02


def test_the_bound_of_the_paper():
    # equation 16: sqrt(6) / sqrt(10 + 10) = 0.54772
    weight = xavier((10, 10), 1, "uniform", rng())
    assert 0.53 < weight.abs().max().item() <= 0.54773


def test_fan_out_counts_the_units_that_an_input_reaches():
    net = nn.Sequential(nn.Conv2d(64, 64, 3, groups=64))
    Xavier().apply(net, rng(), IMAGES, 1.0)
    # depthwise: nine inputs to a unit, nine units to an input
    bound = math.sqrt(6 / (9 + 9))
    assert 0.95 * bound < net[0].weight.abs().max().item() <= bound * (1 + 1e-6)


def test_the_gain_is_not_used():
    def weights(gain: float) -> torch.Tensor:
        net = nn.Sequential(nn.Conv2d(3, 4, 3))
        Xavier().apply(net, rng(), IMAGES, gain)
        return net[0].weight.data

    assert torch.equal(weights(1.0), weights(2.0))


def test_an_unknown_distribution_is_explained():
    with pytest.raises(ConvclinicError, match="did you mean 'uniform'"):
        Xavier(distribution="unform")
