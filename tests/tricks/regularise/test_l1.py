import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.linear_model import Lasso
from torch import nn
from torch.nn import functional as F

from convclinic.tricks.regularise.l1 import L1, soft


def linear(weight) -> nn.Linear:
    weight = torch.as_tensor(weight, dtype=torch.float64).reshape(1, -1)
    net = nn.Linear(weight.shape[1], 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(weight)
    return net


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.floats(-5, 5), st.floats(0, 3))
def test_the_step_is_the_minimiser_of_the_proximal_objective(w, threshold):
    found = minimize_scalar(
        lambda u: (u - w) ** 2 / 2 + threshold * abs(u), bounds=(-6, 6), options={"xatol": 1e-9}
    )
    assert soft(torch.tensor(w, dtype=torch.float64), threshold).item() == pytest.approx(found.x, abs=1e-6)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 99), st.floats(0, 2))
def test_equals_torchs_softshrink_and_zeros_are_exact(seed, threshold):
    w = torch.randn(50, generator=torch.Generator().manual_seed(seed))
    out = soft(w, threshold)
    torch.testing.assert_close(out, F.softshrink(w, threshold))
    assert torch.equal(out == 0, w.abs() <= torch.tensor(threshold).float())


def test_projection_is_the_formula_at_lr_times_strength():
    net = linear([-3.0, -0.1, 0.0, 0.1, 2.0])
    L1(strength=0.5).project(net, lr=0.4)
    assert net.weight.flatten().tolist() == pytest.approx([-2.8, 0.0, 0.0, 0.0, 1.8])
    assert (net.weight == 0).sum() == 3


def descend(net: nn.Linear, wanted: torch.Tensor, trick: L1, momentum: float = 0.0) -> list[float]:
    """Minimise |w - wanted|^2 / 2 plus the penalty."""
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=momentum)
    for _ in range(400):
        net.weight.grad = (net.weight - wanted).detach()
        optimiser.step()
        trick.project(net, lr=0.1)
    return net.weight.flatten().tolist()


def test_zeros_are_reached_and_kept_where_a_subgradient_has_none():
    wanted, start = torch.tensor([[2.0, 0.3, -0.2, -1.0]], dtype=torch.float64), [1.0, 1.0, 1.0, 1.0]
    # by hand: soft(wanted, 0.5)
    assert descend(linear(start), wanted, L1(strength=0.5)) == pytest.approx([1.5, 0, 0, -0.5])
    net = linear(start)
    descend(net, wanted, L1(strength=0.5))
    assert net.weight.flatten()[1] == 0 and net.weight.flatten()[2] == 0

    w = torch.tensor([start], dtype=torch.float64)
    for _ in range(400):
        w = w - 0.1 * (w - wanted + 0.5 * w.sign())
    assert (w != 0).all() and w.abs().min() < 0.1


def test_behind_momentum_it_acts_like_strength_times_1_minus_momentum():
    wanted = torch.tensor([[2.0, 0.3, -0.2, -1.0]], dtype=torch.float64)
    found = descend(linear([1.0] * 4), wanted, L1(strength=1.0), momentum=0.5)
    assert found == pytest.approx([1.5, 0, 0, -0.5], abs=1e-9)


def test_minimum_is_scikit_learns_lasso():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 8))
    y = x @ np.array([2.0, -1.0, 0.5, 0, 0, 0, 0, 0]) + 0.3 * rng.normal(size=60)
    theirs = Lasso(alpha=0.2, fit_intercept=False, tol=1e-12, max_iter=10_000).fit(x, y).coef_
    net = linear(np.zeros(8))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.3)
    for _ in range(400):
        optimiser.zero_grad()
        ((net(torch.from_numpy(x)).flatten() - torch.from_numpy(y)).square().mean() / 2).backward()
        optimiser.step()
        L1(strength=0.2).project(net, lr=0.3)
    ours = net.weight.detach().numpy().flatten()
    np.testing.assert_allclose(ours, theirs, atol=1e-8)
    assert ((ours == 0) == (theirs == 0)).all() and (ours == 0).sum() >= 3
