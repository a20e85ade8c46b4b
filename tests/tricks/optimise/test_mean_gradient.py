"""The loss is the mean over the batch: its gradient does not grow with it, so the LR need not change."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convclinic.ground.discovery import adapters

OPTIMISERS = adapters("convclinic.tricks.optimise")


def tiny() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(36, 3)
        )
    return net.double()


def batch(repeats: int) -> tuple[Tensor, Tensor]:
    """Images and soft targets, the whole batch several times over."""
    rng = torch.Generator().manual_seed(1)
    images = torch.randn(6, 3, 5, 5, generator=rng, dtype=torch.float64)
    targets = torch.rand(6, 3, generator=rng, dtype=torch.float64).softmax(1)
    return images.repeat(repeats, 1, 1, 1), targets.repeat(repeats, 1)


def gradients(net: nn.Module, repeats: int, reduction: str = "mean") -> list[Tensor]:
    images, targets = batch(repeats)
    net.zero_grad()
    F.cross_entropy(net(images), targets, reduction=reduction).backward()
    return [p.grad.clone() for p in net.parameters()]


@pytest.mark.parametrize("repeats", [2, 5])
def test_repeating_the_batch_leaves_the_gradient(repeats):
    torch.testing.assert_close(gradients(tiny(), repeats), gradients(tiny(), 1), rtol=1e-9, atol=1e-12)


def test_a_summed_loss_would_multiply_it():
    once, twice = gradients(tiny(), 1, "sum"), gradients(tiny(), 2, "sum")
    torch.testing.assert_close(twice, [2 * gradient for gradient in once], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", sorted(OPTIMISERS))
def test_repeating_the_batch_leaves_every_optimisers_updates(name):
    trained = []
    for repeats in (1, 2):
        net = tiny()
        optimiser = OPTIMISERS[name]().build(net)
        for group in optimiser.param_groups:
            group["lr"] = min(group["lr"], 1.0)  # muon's are for logits divided by the width
        for _ in range(3):
            gradients(net, repeats)
            optimiser.step()
        trained.append([p.detach().clone() for p in net.parameters()])
    torch.testing.assert_close(trained[0], trained[1], rtol=1e-6, atol=1e-9)
    assert not torch.allclose(trained[0][0], next(tiny().parameters()))
