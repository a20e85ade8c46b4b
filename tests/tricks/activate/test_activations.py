import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.activate.elu import ELU, elu
from convclinic.tricks.activate.gelu import GELU, gelu
from convclinic.tricks.activate.leaky_relu import LeakyReLU, leaky_relu
from convclinic.tricks.activate.prelu import PReLU, prelu
from convclinic.tricks.activate.relu import ReLU, relu
from convclinic.tricks.activate.rrelu import RReLU
from convclinic.tricks.activate.sigmoid import Sigmoid, sigmoid
from convclinic.tricks.activate.silu import SiLU, silu
from convclinic.tricks.activate.tanh import Tanh, tanh

SMOOTH = [GELU(), SiLU(), Sigmoid(), Tanh()]
ALL = [
    ReLU(),
    LeakyReLU(),
    LeakyReLU(slope=1 / 5.5),
    PReLU(),
    PReLU(start=0.5),
    ELU(),
    ELU(alpha=0.3),
    ELU(alpha=0.0),
    *SMOOTH,
]


def moment(f) -> float:
    """E f(z)^2 for z ~ N(0, 1), by SciPy's adaptive quadrature on each side of the kink."""
    sides = [quad(lambda z: f(z) ** 2 * norm.pdf(z), *ends, epsabs=1e-13)[0] for ends in ((-12, 0), (0, 12))]
    return sum(sides)


def at(module: nn.Module, z: float) -> float:
    return module(torch.full((1, 1), z, dtype=torch.float64)).item()


@pytest.mark.parametrize("trick", ALL, ids=str)
def test_gain_keeps_the_second_moment_by_quadrature(trick):
    module = trick.build(1).double()
    assert trick.gain == pytest.approx(1 / math.sqrt(moment(lambda z: at(module, z))), rel=1e-9)


def test_smooth_ones_by_gauss_hermite_too():
    z, weight = np.polynomial.hermite_e.hermegauss(200)
    for f, trick in [(gelu, GELU()), (silu, SiLU()), (sigmoid, Sigmoid()), (tanh, Tanh())]:
        mean = (weight / weight.sum() * f(torch.from_numpy(z)).numpy() ** 2).sum()
        assert trick.gain == pytest.approx(1 / math.sqrt(mean), rel=1e-9)


def test_gains_equal_torch_where_torch_keeps_the_second_moment_too():
    assert ReLU().gain == nn.init.calculate_gain("relu")
    for slope in (0.0, 0.01, 1 / 5.5, 1.0):
        assert LeakyReLU(slope=slope).gain == pytest.approx(nn.init.calculate_gain("leaky_relu", slope))
        assert PReLU(start=slope).gain == pytest.approx(nn.init.calculate_gain("leaky_relu", slope))
    # for these two torch has conventions, 1 and 5 / 3, as the cards say
    assert nn.init.calculate_gain("sigmoid") == 1 and Sigmoid().gain > 1.8
    assert nn.init.calculate_gain("tanh") == 5 / 3 and Tanh().gain < 1.6


def test_gain_of_rrelu_is_that_of_training_over_its_draws():
    # E f(z)^2 = (1 + E a^-2) / 2, the mean over a ~ U(3, 8) by quadrature
    mean = quad(lambda a: a**-2 / 5, 3, 8)[0]
    assert RReLU().gain == pytest.approx(1 / math.sqrt((1 + mean) / 2), rel=1e-12)
    assert RReLU().gain == pytest.approx(math.sqrt(48 / 25))  # by hand: E a^-2 = 1 / (3 x 8)


@pytest.mark.parametrize(
    ("trick", "formula"),
    [
        (ReLU(), relu),
        (LeakyReLU(slope=0.2), lambda x: leaky_relu(x, 0.2)),
        (PReLU(start=0.3), lambda x: prelu(x, torch.full((401,), 0.3, dtype=torch.float64))),
        (ELU(alpha=0.7), lambda x: elu(x, 0.7)),
        (GELU(), gelu),
        (SiLU(), silu),
        (Sigmoid(), sigmoid),
        (Tanh(), tanh),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_module_equals_formula(trick, formula):
    x = torch.linspace(-6, 6, 401, dtype=torch.float64).view(1, 401, 1, 1)
    torch.testing.assert_close(trick.build(401).double()(x), formula(x), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("trick", ALL, ids=str)
def test_gradients_are_right(trick):
    x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (x + 0.1 * x.sign()).requires_grad_()  # away from the kink, where the slope is not defined
    assert torch.autograd.gradcheck(trick.build(3).double(), (x,))


@pytest.mark.parametrize("formula", [sigmoid, tanh, lambda x: elu(x, 1.0)])
def test_nothing_overflows_far_from_zero(formula):
    x = torch.tensor([-1e4, -200.0, 200.0, 1e4], requires_grad=True)
    y = formula(x)
    y.sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()


def test_golden_values():
    # gelu(1) = Phi(1) = 0.8413447 (normal table); silu(1) = 1 / (1 + e^-1) = 0.7310586 (logistic function);
    # leaky: a = 5.5 in Xu et al. 2015, so f(-5.5) = -1; tanh(1) = 0.7615942 and e^-1 = 0.3678794 (tables)
    one = torch.tensor([1.0])
    assert GELU().build(1)(one).item() == pytest.approx(0.8413447, abs=1e-6)
    assert SiLU().build(1)(one).item() == pytest.approx(0.7310586, abs=1e-6)
    assert Sigmoid().build(1)(one).item() == pytest.approx(0.7310586, abs=1e-6)
    assert Tanh().build(1)(one).item() == pytest.approx(0.7615942, abs=1e-6)
    assert LeakyReLU(slope=1 / 5.5).build(1)(torch.tensor(-5.5)).item() == pytest.approx(-1.0)
    assert ELU(alpha=2.0).build(1)(-one).item() == pytest.approx(2 * (0.3678794 - 1), abs=1e-6)
    assert PReLU().build(1)(-4 * one).item() == pytest.approx(-1.0)  # He et al. 2015: slopes start at 0.25
    assert ReLU().build(1)(torch.tensor([-2.0, 0.0, 3.0])).tolist() == [0.0, 0.0, 3.0]


def test_slope_1_is_off_and_others_are_refused():
    x = torch.randn(3, 4)
    assert torch.equal(LeakyReLU(**LeakyReLU.OFF).build(4)(x), x)
    for slope in (-0.1, 1.5, math.nan):
        with pytest.raises(ConvclinicError, match="slope"):
            LeakyReLU(slope=slope)


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (lambda: PReLU(start=1.5), "start"),
        (lambda: PReLU(start=math.nan), "start"),
        (lambda: ELU(alpha=-1.0), "alpha"),
        (lambda: ELU(alpha=math.inf), "alpha"),
        (lambda: RReLU(low=0.125, high=0.333), "low"),  # the slopes of torch.nn.RReLU, not divisors
        (lambda: RReLU(low=8.0, high=3.0), "low"),
        (lambda: RReLU(high=math.nan), "low"),
    ],
)
def test_outside_is_refused(make, option):
    with pytest.raises(ConvclinicError, match=option):
        make()
