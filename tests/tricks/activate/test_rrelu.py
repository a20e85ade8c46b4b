import math

import pytest
import torch
from scipy.stats import kstest
from torch import nn

from convclinic.ground.rng import scoped
from convclinic.tricks.activate.leaky_relu import LeakyReLU
from convclinic.tricks.activate.rrelu import RReLU, rrelu

U38 = ("uniform", (3, 5))  # SciPy's: from 3, 5 wide


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def divisors(module: nn.Module) -> torch.Tensor:
    """What each of many negative inputs is divided by."""
    x = torch.full((20_000,), -1.0, dtype=torch.float64)
    with scoped(0, "test"):
        return x / module(x)


def test_training_divides_by_draws_from_U_3_8():
    a = divisors(RReLU().build(1).train())
    assert a.min() >= 3 and a.max() <= 8
    assert kstest(a.numpy(), *U38).pvalue > 0.01
    # the mean slope is the integral of 1 / (5 a) from 3 to 8
    assert (1 / a).mean().item() == pytest.approx(math.log(8 / 3) / 5, abs=1e-3)


def test_torchs_rrelu_is_another_function():
    """It draws the slope and not the divisor, and tests with the mean of the slope's bounds."""
    theirs = nn.RReLU()
    assert kstest(divisors(theirs.train()).numpy(), *U38).pvalue < 1e-6
    assert kstest((1 / divisors(theirs)).numpy(), "uniform", (1 / 8, 1 / 3 - 1 / 8)).pvalue > 0.01
    minus_one = torch.tensor([-1.0], dtype=torch.float64)
    assert -theirs.eval()(minus_one).item() == pytest.approx(11 / 48)
    assert -RReLU().build(1).eval()(minus_one).item() == pytest.approx(2 / 11)


def test_testing_is_the_very_leaky_relu_and_draws_nothing():
    # Xu et al. 2015: x / ((3 + 8) / 2)
    x = drawn(2, 3, 4, 4)
    before = torch.get_rng_state()
    y = RReLU().build(3).eval()(x)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(y, LeakyReLU(slope=2 / 11).build(3)(x))


def test_draws_differ_by_element_and_step_and_replay_by_name():
    module, x = RReLU().build(2), -torch.ones(4, 2, 3, 3)
    out = []
    for step in (0, 0, 1):
        with scoped(5, "forward", step):
            out.append(module(x))
    assert torch.equal(out[0], out[1]) and not torch.equal(out[0], out[2])
    assert len(out[0].unique()) > 60


def test_positive_inputs_pass_in_both_modes():
    x = drawn(50).abs()
    module = RReLU().build(1)
    assert torch.equal(module(x), x) and torch.equal(module.eval()(x), x)


def test_gradients_are_right():
    x = drawn(3, 2, 2, 2).requires_grad_()
    a = 3 + 5 * torch.rand(3, 2, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: rrelu(x, a), (x,))
    assert torch.autograd.gradcheck(RReLU().build(2).eval(), (x,))
    # in training, the gradient is that of the draws that were made
    y = RReLU().build(2)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y / x).detach())


def test_divisor_1_is_off_and_equal_bounds_are_a_leaky_relu():
    x = drawn(2, 3, 4, 4)
    assert torch.equal(RReLU(**RReLU.OFF).build(3)(x), x)
    torch.testing.assert_close(RReLU(low=5.5, high=5.5).build(3)(x), LeakyReLU(slope=2 / 11).build(3)(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_type_and_memory_format_are_kept(dtype):
    x = drawn(2, 4, 3, 3).to(dtype).to(memory_format=torch.channels_last)
    y = RReLU().build(4)(x)
    assert y.dtype == dtype and y.is_contiguous(memory_format=torch.channels_last)
