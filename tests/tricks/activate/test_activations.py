import math

import numpy as np
import pytest
import torch
from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.activate.gelu import GELU, gelu
from convclinic.tricks.activate.leaky_relu import LeakyReLU, leaky_relu
from convclinic.tricks.activate.relu import ReLU, relu
from convclinic.tricks.activate.silu import SiLU, silu

ALL = [ReLU(), LeakyReLU(), LeakyReLU(slope=1 / 5.5), GELU(), SiLU()]


@pytest.mark.parametrize("trick", ALL, ids=str)
def test_gain_keeps_the_second_moment_by_quadrature(trick):
    # gain = 1 / sqrt(E f(z)^2), z ~ N(0, 1); a fine trapezoid, since Gauss-Hermite is poor at the kink
    z = torch.linspace(-12, 12, 240_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    moment = torch.trapezoid(trick.build(8)(z).square() * density, z).item()
    assert trick.gain == pytest.approx(1 / math.sqrt(moment), rel=1e-7)


def test_smooth_ones_by_gauss_hermite_too():
    z, weight = np.polynomial.hermite_e.hermegauss(200)
    for f, trick in [(gelu, GELU()), (silu, SiLU())]:
        moment = (weight / weight.sum() * f(torch.from_numpy(z)).numpy() ** 2).sum()
        assert trick.gain == pytest.approx(1 / math.sqrt(moment), rel=1e-9)


def test_gains_equal_torch_where_torch_has_them():
    assert ReLU().gain == nn.init.calculate_gain("relu")
    for slope in (0.0, 0.01, 1 / 5.5, 1.0):
        assert LeakyReLU(slope=slope).gain == pytest.approx(nn.init.calculate_gain("leaky_relu", slope))


@pytest.mark.parametrize(
    ("trick", "formula"),
    [
        (ReLU(), relu),
        (LeakyReLU(slope=0.2), lambda x: leaky_relu(x, 0.2)),
        (GELU(), gelu),
        (SiLU(), silu),
    ],
    ids=str,
)
def test_module_equals_formula(trick, formula):
    x = torch.linspace(-6, 6, 401, dtype=torch.float64).view(1, 401, 1, 1)
    torch.testing.assert_close(trick.build(401)(x), formula(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("trick", ALL, ids=str)
def test_gradients_are_right(trick):
    x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (x + 0.1 * x.sign()).requires_grad_()  # away from the kink, where the slope is not defined
    assert torch.autograd.gradcheck(trick.build(3), (x,))


def test_golden_values():
    # gelu(1) = Phi(1) = 0.8413447 (normal table); silu(1) = 1 / (1 + e^-1) = 0.7310586 (logistic function);
    # leaky: a = 5.5 in Xu et al. 2015, so f(-5.5) = -1
    one = torch.tensor(1.0)
    assert GELU().build(1)(one).item() == pytest.approx(0.8413447, abs=1e-6)
    assert SiLU().build(1)(one).item() == pytest.approx(0.7310586, abs=1e-6)
    assert LeakyReLU(slope=1 / 5.5).build(1)(torch.tensor(-5.5)).item() == pytest.approx(-1.0)
    assert ReLU().build(1)(torch.tensor([-2.0, 0.0, 3.0])).tolist() == [0.0, 0.0, 3.0]


def test_slope_1_is_off_and_others_are_refused():
    x = torch.randn(3, 4)
    assert torch.equal(LeakyReLU(**LeakyReLU.OFF).build(4)(x), x)
    for slope in (-0.1, 1.5, math.nan):
        with pytest.raises(ConvclinicError, match="slope"):
            LeakyReLU(slope=slope)
