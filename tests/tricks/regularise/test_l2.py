import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn
from torch.nn import functional as F

from convclinic.tricks.optimise.sgd import SGD
from convclinic.tricks.regularise.l2 import L2, half_squares


def tiny() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten())
        return net.append(nn.Linear(36, 3)).double()


def test_golden_value_and_gradient_by_hand():
    # 1/2 lambda w^2 with lambda = 0.1 and w = (3, 4): 1.25, gradient lambda w = (0.3, 0.4)
    net = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[3.0, 4.0]]))
    penalty = L2(strength=0.1).penalty(net)
    penalty.backward()
    assert penalty.item() == pytest.approx(1.25)
    assert net.weight.grad.flatten().tolist() == pytest.approx([0.3, 0.4])


def test_gradient_is_right_for_several_tensors_and_at_zero():
    rng = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in ((2, 3), (4, 1, 2, 2))]
    tensors.append(torch.zeros(2, 2, dtype=torch.float64))
    for tensor in tensors:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: half_squares(given), tensors)
    half_squares(tensors).backward()
    assert all(torch.equal(tensor.grad, tensor.detach()) for tensor in tensors)


def test_value_is_that_of_numpy_in_float32_whatever_the_weights_are():
    net = tiny().float()
    expected = sum((net[i].weight.detach().numpy() ** 2).sum() for i in (0, 4)) * 0.5 * 0.3
    assert L2(strength=0.3).penalty(net).item() == pytest.approx(expected, rel=1e-6)
    for dtype in (torch.float32, torch.bfloat16):
        penalty = L2().penalty(tiny().to(dtype))
        assert penalty.dtype == torch.float32 and penalty.ndim == 0 and penalty.requires_grad


def test_with_sgd_it_is_weight_decay():
    """The same weights, by the loss or by the optimiser, momentum and all."""
    nets = tiny(), tiny()
    tricks = SGD(lr=0.05, weight_decay=0.0), SGD(lr=0.05, weight_decay=0.2)
    for net, trick, strength in zip(nets, tricks, (0.2, 0.0), strict=True):
        optimiser = trick.build(net)
        rng = torch.Generator().manual_seed(1)
        for _ in range(4):
            images = torch.randn(8, 3, 5, 5, generator=rng, dtype=torch.float64)
            optimiser.zero_grad()
            loss = F.cross_entropy(net(images), torch.randint(3, (8,), generator=rng))
            (loss + L2(strength=strength).penalty(net)).backward()
            optimiser.step()
    torch.testing.assert_close(list(nets[0].parameters()), list(nets[1].parameters()))


def test_minimum_is_scikit_learns_ridge():
    # Ridge minimises |y - X w|^2 + alpha |w|^2; halved and over n, strength = alpha / n
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)), rng.normal(size=40)
    theirs = Ridge(alpha=8.0, fit_intercept=False).fit(x, y).coef_
    net = nn.Linear(5, 1, bias=False).double()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.3)
    for _ in range(300):
        optimiser.zero_grad()
        loss = (net(torch.from_numpy(x)).flatten() - torch.from_numpy(y)).square().mean() / 2
        (loss + L2(strength=8.0 / 40).penalty(net)).backward()
        optimiser.step()
    np.testing.assert_allclose(net.weight.detach().numpy().flatten(), theirs, rtol=1e-8)
