import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.initialise.constant import Constant


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_weight_is_the_value():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, groups=1), nn.Flatten(), nn.Linear(4, 2))
    Constant(value=-0.25).apply(net, rng(), torch.zeros(1, 3, 3, 3), 1.0)
    assert net[0].weight.eq(-0.25).all() and net[2].weight.eq(-0.25).all()


@pytest.mark.parametrize("value", [0.1, 0.01])
def test_all_units_of_a_layer_are_still_one_after_training(value):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3),
        nn.ReLU(),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(5, 3),
    ).double()
    images = torch.rand(12, 3, 8, 8, generator=rng(), dtype=torch.float64)
    classes = torch.randint(3, (12,), generator=rng(1))
    Constant(value=value).apply(net, rng(), images, 1.0)
    start = [p.detach().clone() for p in net.parameters()]
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
    for _ in range(20):
        optimiser.zero_grad()
        F.cross_entropy(net(images), classes).backward()
        optimiser.step()
    assert all((p - old).abs().max() > 1e-3 for p, old in zip(net.parameters(), start, strict=True))
    first, second, last = net[0], net[2], net[6]
    same = {"rtol": 1e-9, "atol": 1e-12}
    for weight in (first.weight, first.bias, second.weight, second.bias):
        torch.testing.assert_close(weight, weight[:1].expand_as(weight), **same)
    # what comes in is one unit many times over, too
    for weight in (second.weight, last.weight):
        torch.testing.assert_close(weight, weight[:, :1].expand_as(weight), **same)
    # the last layer's units are told apart by their classes, and only they are
    assert (last.weight[0] - last.weight[1]).abs().min() > 1e-3


def test_wrong_numbers_are_explained():
    with pytest.raises(ConvclinicError, match="finite"):
        Constant(value=float("nan"))
