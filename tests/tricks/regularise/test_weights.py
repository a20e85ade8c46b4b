"""What penalties and projections touch: weights, and biases, norms and slopes only when told to."""

import math

import pytest
import torch
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.regularise.elastic_net import ElasticNet
from convclinic.tricks.regularise.l1 import L1
from convclinic.tricks.regularise.l2 import L2
from convclinic.tricks.regularise.max_norm import MaxNorm

WEIGHTS = {"0.weight", "4.weight"}
REST = {"0.bias", "1.weight", "1.bias", "2.weight", "4.bias"}


def tiny() -> nn.Sequential:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(36, 3))
    with torch.no_grad():
        for position, p in enumerate(net.parameters()):
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(position)) + 2)
    return net


def changed(net: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}


def touched(trick, net: nn.Module) -> set[str]:
    """The names of what the trick changes, or gives a gradient to."""
    if trick.kind == "projection":
        before = {name: value.clone() for name, value in net.state_dict().items()}
        trick.project(net, lr=0.1)
        return changed(net, before)
    loss = trick.penalty(net)
    if loss.requires_grad:
        loss.backward()
    return {name for name, p in net.named_parameters() if p.grad is not None}


def strong(kind, everything: bool = False):
    options = {L1: {"strength": 0.1}, L2: {"strength": 0.1}, ElasticNet: {"l1": 0.1, "l2": 0.1}}
    return kind(**options.get(kind, {"c": 0.5}), everything=everything)


KINDS = [L1, L2, ElasticNet, MaxNorm]


@pytest.mark.parametrize("kind", KINDS)
def test_biases_norms_and_slopes_are_touched_only_when_told_to(kind):
    assert touched(strong(kind), tiny()) == WEIGHTS
    assert touched(strong(kind, everything=True), tiny()) == WEIGHTS | REST


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_weights_are_left_alone(kind):
    net = tiny()
    net[0].requires_grad_(False)
    assert touched(strong(kind), net) == {"4.weight"}
    assert touched(strong(kind), tiny().requires_grad_(False)) == set()


def test_a_penalty_of_nothing_is_zero():
    penalty = L2().penalty(nn.BatchNorm2d(3))
    assert penalty.item() == 0 and penalty.dtype == torch.float32 and penalty.ndim == 0


@pytest.mark.parametrize("kind", [L1, ElasticNet])
def test_off_changes_no_bit(kind):
    assert touched(kind(**kind.OFF), tiny()) == set()
    net, before = tiny(), tiny().state_dict()
    strong(kind).project(net, lr=0.0)
    assert changed(net, before) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_graph_and_identity_of_the_parameters_are_kept(kind):
    net = tiny()
    before = list(net.parameters())
    touched(strong(kind), net)
    pairs = zip(before, net.parameters(), strict=True)
    assert all(p is q and p.requires_grad and p.is_leaf for p, q in pairs)


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (lambda: L1(strength=-1.0), "l1's strength"),
        (lambda: L2(strength=math.nan), "l2's strength"),
        (lambda: ElasticNet(l1=-1e-5), "elastic_net's l1"),
        (lambda: ElasticNet(l2=math.inf), "elastic_net's l2"),
        (lambda: MaxNorm(c=0.0), "max_norm's c"),
        (lambda: MaxNorm(c=math.inf), "max_norm's c"),
    ],
)
def test_outside_is_refused(make, option):
    with pytest.raises(ConvclinicError, match=option):
        make()
