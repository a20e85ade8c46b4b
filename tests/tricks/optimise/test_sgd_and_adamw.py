import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.optimise.adamw import AdamW
from convclinic.tricks.optimise.sgd import SGD


def tiny() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(36, 3)
        )
    return net.double()


def train(net: nn.Module, optimiser: torch.optim.Optimizer, steps: int = 4) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    for _ in range(steps):
        images = torch.randn(8, 3, 5, 5, generator=rng, dtype=torch.float64)
        classes = torch.randint(3, (8,), generator=rng)
        optimiser.zero_grad()
        F.cross_entropy(net(images), classes).backward()
        optimiser.step()
    return [p.detach().clone() for p in net.parameters()]


def split(net: nn.Sequential, weight_decay: float) -> list[dict]:
    """The same groups, written out."""
    weights = [net[0].weight, net[4].weight]
    rest = [net[0].bias, net[1].weight, net[1].bias, net[2].weight, net[4].bias]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, True)])
def test_sgd_equals_torch(momentum, nesterov):
    ours, theirs = tiny(), tiny()
    mine = train(ours, SGD(lr=0.05, momentum=momentum, nesterov=nesterov, weight_decay=0.1).build(ours))
    reference = torch.optim.SGD(
        split(theirs, 0.1), lr=0.05, momentum=momentum, nesterov=nesterov and momentum > 0
    )
    torch.testing.assert_close(mine, train(theirs, reference))


def test_adamw_equals_torch():
    ours, theirs = tiny(), tiny()
    mine = train(ours, AdamW(lr=0.01, beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.3).build(ours))
    reference = torch.optim.AdamW(split(theirs, 0.3), lr=0.01, betas=(0.8, 0.95), eps=1e-6)
    torch.testing.assert_close(mine, train(theirs, reference))


def test_golden_step_of_nesterov_by_hand():
    # Sutskever et al. 2013 as torch writes it, from w = 1 with g = 2, lr 0.1, momentum 0.9, no decay:
    # v = 2, w = 1 - 0.1 (2 + 1.8) = 0.62;  v = 3.8, w = 0.62 - 0.1 (2 + 3.42) = 0.078
    net = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(net.weight)
    optimiser = SGD(lr=0.1, weight_decay=0.0).build(net)
    for expected in (0.62, 0.078):
        net.weight.grad = torch.full((1, 1), 2.0, dtype=torch.float64)
        optimiser.step()
        assert net.weight.item() == pytest.approx(expected)


def test_golden_steps_without_nesterov_by_hand():
    # as above; plain: w = 1 - 0.1 x 2 = 0.8, then 0.6; Polyak's momentum: v = 2, w = 0.8; v = 3.8, w = 0.42
    for momentum, expected in [(0.0, (0.8, 0.6)), (0.9, (0.8, 0.42))]:
        net = nn.Linear(1, 1, bias=False).double()
        nn.init.ones_(net.weight)
        optimiser = SGD(lr=0.1, momentum=momentum, nesterov=False, weight_decay=0.0).build(net)
        for value in expected:
            net.weight.grad = torch.full((1, 1), 2.0, dtype=torch.float64)
            optimiser.step()
            assert net.weight.item() == pytest.approx(value)


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_groups_decay_weights_only_and_leave_frozen_ones_out(kind):
    net = tiny()
    net[0].weight.requires_grad = False
    weights, rest = kind(lr=0.3, weight_decay=0.2).build(net).param_groups
    assert [p.shape for p in weights["params"]] == [(3, 36)]
    assert len(rest["params"]) == 5 and all(p.ndim == 1 for p in rest["params"])
    assert (weights["weight_decay"], rest["weight_decay"]) == (0.2, 0.0)
    assert weights["initial_lr"] == rest["initial_lr"] == weights["lr"] == 0.3


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_resume_is_bit_identical(kind):
    def half(net, optimiser, seed):
        rng = torch.Generator().manual_seed(seed)
        for _ in range(3):
            optimiser.zero_grad()
            net(torch.randn(4, 3, 5, 5, generator=rng, dtype=torch.float64)).square().mean().backward()
            optimiser.step()

    whole, stopped, resumed = tiny(), tiny(), tiny()
    one = kind(lr=0.01).build(whole)
    half(whole, one, 0)
    half(whole, one, 1)
    two = kind(lr=0.01).build(stopped)
    half(stopped, two, 0)
    three = kind(lr=0.01).build(resumed)
    resumed.load_state_dict(stopped.state_dict())
    three.load_state_dict(two.state_dict())
    half(resumed, three, 1)
    assert all(map(torch.equal, whole.parameters(), resumed.parameters()))


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_a_frozen_net_is_refused(kind):
    with pytest.raises(ConvclinicError, match="frozen"):
        kind().build(tiny().requires_grad_(False))


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(lr=-1.0),
        lambda: SGD(momentum=1.0),
        lambda: SGD(weight_decay=math.nan),
        lambda: AdamW(beta2=1.0),
        lambda: AdamW(eps=0.0),
    ],
)
def test_outside_is_refused(make):
    with pytest.raises(ConvclinicError, match=r"sgd's|adamw's"):
        make()
