import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convclinic.tricks.initialise.orthogonal import Orthogonal, orthogonal, orthogonal_weight


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(6, 6), (3, 10), (10, 3), (8, 4, 3, 3), (40, 2, 3, 3)])
def test_equals_torch_orthogonal(shape):
    theirs = nn.init.orthogonal_(torch.empty(shape), gain=1.5, generator=rng())
    torch.testing.assert_close(orthogonal_weight(shape, 1, 1.5, rng()), theirs)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3), st.integers(1, 3), st.floats(0.5, 2))
def test_all_singular_values_of_each_group_are_the_gain(out, into, kernel, groups, gain):
    shape = (out * groups, into, kernel, kernel)
    weight = orthogonal_weight(shape, groups, gain, rng()).view(groups, out, -1).numpy()
    for matrix in weight:
        np.testing.assert_allclose(np.linalg.svd(matrix, compute_uv=False), gain, rtol=1e-5)


def test_thirty_linear_layers_keep_every_length_and_angle():
    # Saxe et al. 2014: dynamical isometry, which He's weights have for the mean only
    draws, start = rng(), torch.randn(20, 64, generator=rng(1))
    x = start
    for _ in range(30):
        x = x @ orthogonal(64, 64, draws).T
    torch.testing.assert_close(x @ x.T, start @ start.T, rtol=1e-4, atol=1e-3)


def test_rotations_are_drawn_without_a_preferred_direction():
    # without the signs, QR would leave the diagonal's mean away from zero (Mezzadri 2007)
    draws = rng()
    diagonals = torch.stack([orthogonal(3, 3, draws).diagonal() for _ in range(2000)])
    # each entry of a uniform rotation has mean 0 and variance 1/3: five standard errors
    assert diagonals.mean(0).abs().max() < 5 / math.sqrt(3 * 2000)


def test_apply_gives_each_layer_the_gain():
    net = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(6, 3))
    Orthogonal().apply(net, rng(), torch.zeros(1, 4, 3, 3), math.sqrt(2))
    rows = net[0].weight.detach().view(2, 3, 18)
    torch.testing.assert_close(rows @ rows.mT, 2 * torch.eye(3).expand(2, 3, 3))
    assert not torch.allclose(rows[0], rows[1])
    last = net[2].weight.detach()
    torch.testing.assert_close(last @ last.T, 2 * torch.eye(3))
