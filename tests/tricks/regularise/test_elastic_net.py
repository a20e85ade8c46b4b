import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn import linear_model
from torch import nn

from convclinic.tricks.regularise.elastic_net import ElasticNet, elastic
from convclinic.tricks.regularise.l1 import L1


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.floats(-5, 5), st.floats(0, 1), st.floats(0, 3), st.floats(0, 3))
def test_the_step_is_the_minimiser_of_the_proximal_objective(w, lr, l1, l2):
    found = minimize_scalar(
        lambda u: (u - w) ** 2 / 2 + lr * (l1 * abs(u) + l2 * u**2), bounds=(-6, 6), options={"xatol": 1e-9}
    )
    out = elastic(torch.tensor(w, dtype=torch.float64), lr, l1, l2).item()
    assert out == pytest.approx(found.x, abs=1e-6)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 99), st.floats(0, 1), st.floats(0, 2), st.floats(0, 2))
def test_projection_is_the_formula(seed, lr, l1, l2):
    net = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.Linear(4, 2, bias=False)).double()
    before = [drawn(seed, *p.shape) for p in net.parameters()]
    with torch.no_grad():
        for p, w in zip(net.parameters(), before, strict=True):
            p.copy_(w)
    ElasticNet(l1=l1, l2=l2).project(net, lr)
    for p, w in zip(net.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), elastic(w, lr, l1, l2))
        assert torch.equal(p == 0, w.abs() <= lr * l1)


def test_golden_step_by_hand():
    # w = 1, lr 0.1, l1 = 2, l2 = 1: (1 - 0.2) / 1.2 = 2 / 3
    assert elastic(torch.tensor([1.0, -0.1]), 0.1, 2.0, 1.0).tolist() == pytest.approx([2 / 3, 0.0])


def test_without_l2_it_is_l1():
    nets = [nn.Linear(6, 4) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    ElasticNet(l1=0.3, l2=0.0).project(nets[0], 0.5)
    L1(strength=0.3).project(nets[1], 0.5)
    assert torch.equal(nets[0].weight, nets[1].weight)


def test_minimum_is_scikit_learns_elastic_net():
    # theirs: alpha ratio |w| + alpha (1 - ratio) / 2 w^2
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 8))
    y = x @ np.array([2.0, -1.0, 0.5, 0, 0, 0, 0, 0]) + 0.3 * rng.normal(size=60)
    model = linear_model.ElasticNet(alpha=0.3, l1_ratio=0.6, fit_intercept=False, tol=1e-12, max_iter=10_000)
    theirs = model.fit(x, y).coef_
    net = nn.Linear(8, 1, bias=False).double()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.3)
    trick = ElasticNet(l1=0.3 * 0.6, l2=0.3 * 0.4 / 2)
    for _ in range(400):
        optimiser.zero_grad()
        ((net(torch.from_numpy(x)).flatten() - torch.from_numpy(y)).square().mean() / 2).backward()
        optimiser.step()
        trick.project(net, lr=0.3)
    ours = net.weight.detach().numpy().flatten()
    np.testing.assert_allclose(ours, theirs, atol=1e-8)
    assert ((ours == 0) == (theirs == 0)).all() and (ours == 0).sum() >= 3
