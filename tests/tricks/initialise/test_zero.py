import torch
from torch import nn
from torch.nn import functional as F

from convclinic.tricks.initialise.zero import Zero


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_trained_it_learns_the_frequencies_of_the_classes_and_nothing_else():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3)
    ).double()
    images = torch.randn(40, 3, 8, 8, generator=rng(), dtype=torch.float64)
    classes = torch.tensor([0] * 20 + [1] * 12 + [2] * 8)
    Zero().apply(net, rng(), images, 1.0)
    optimiser = torch.optim.SGD(net.parameters(), lr=1.0)
    for _ in range(200):
        optimiser.zero_grad()
        F.cross_entropy(net(images), classes).backward()
        optimiser.step()
    *hidden, bias = net.parameters()
    assert all(not p.any() for p in hidden)
    torch.testing.assert_close(bias.softmax(0), torch.tensor([0.5, 0.3, 0.2]).double(), rtol=1e-3, atol=0)
