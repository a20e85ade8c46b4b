import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm
from torch.nn import functional as F

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.activate.maxout import Maxout, maxout, second_moment


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_each_map_is_the_largest_of_its_neighbours(b, channels, pieces, h, w):
    x = drawn(b, channels * pieces, h, w)
    y = Maxout(pieces).build(channels)(x)
    assert y.shape == (b, channels, h, w)
    for channel in range(channels):
        group = x[:, channel * pieces : (channel + 1) * pieces]
        assert torch.equal(y[:, channel], group.max(1).values)


def test_equals_torchs_max_pooling_over_channels():
    x = drawn(4, 12)
    assert torch.equal(maxout(x, 3), F.max_pool1d(x.unsqueeze(1), 3).squeeze(1))


@pytest.mark.parametrize("pieces", [1, 2, 3, 5, 8])
def test_gain_keeps_the_second_moment_by_quadrature(pieces):
    def density(z: float) -> float:  # of the maximum of k normals: k phi Phi^(k - 1)
        return pieces * norm.pdf(z) * norm.cdf(z) ** (pieces - 1)

    moment = quad(lambda z: z**2 * density(z), -10, 10, epsabs=1e-12, points=[0])[0]
    assert Maxout(pieces).gain == pytest.approx(1 / math.sqrt(moment), rel=1e-8)


def test_golden_second_moments():
    # order statistics of the normal distribution: E max^2 is 1 of two (by symmetry), 1 + sqrt(3) / (2 pi) of
    # three (Jones, 1948)
    assert second_moment(1) == pytest.approx(1, rel=1e-12)
    assert second_moment(2) == pytest.approx(1, rel=1e-12)
    assert second_moment(3) == pytest.approx(1 + math.sqrt(3) / (2 * math.pi), rel=1e-12)


def test_two_pieces_make_relu_and_the_absolute_value():
    # Goodfellow et al. 2013, figure 1: maxout learns them, with the maps (x, 0) and (x, -x)
    x = drawn(6, 1)
    assert torch.equal(maxout(torch.cat([x, torch.zeros_like(x)], 1), 2), x.relu())
    assert torch.equal(maxout(torch.cat([x, -x], 1), 2), x.abs())


def test_gradient_goes_to_the_largest_piece_alone():
    x = drawn(2, 6, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(Maxout(3).build(2), (x,))
    maxout(x, 3).sum().backward()
    assert x.grad.sum() == 2 * 2 * 2 * 2 and set(x.grad.unique().tolist()) == {0.0, 1.0}
    tied = torch.ones(1, 3, requires_grad=True)
    maxout(tied, 3).sum().backward()
    assert sorted(tied.grad.flatten().tolist()) == [0, 0, 1]


def test_one_piece_is_off():
    x = drawn(3, 4, 2, 2)
    assert torch.equal(Maxout(**Maxout.OFF).build(4)(x), x)


def test_memory_format_is_kept():
    x = drawn(2, 8, 3, 3).to(memory_format=torch.channels_last)
    assert Maxout().build(4)(x).is_contiguous(memory_format=torch.channels_last)


def test_a_net_that_makes_no_pieces_is_told_so():
    with pytest.raises(ConvclinicError, match="8 maps of 16, and was given 8"):
        Maxout().build(8)(drawn(1, 8, 2, 2))
    with pytest.raises(ConvclinicError, match="pieces"):
        Maxout(0)
