"""Adagrad, RMSProp, Adadelta and Adam: torch's, with the groups and defaults of the cards."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.optimise.adadelta import Adadelta
from convclinic.tricks.optimise.adagrad import Adagrad
from convclinic.tricks.optimise.adam import Adam
from convclinic.tricks.optimise.adamw import AdamW
from convclinic.tricks.optimise.rmsprop import RMSProp

KINDS = [Adagrad, RMSProp, Adadelta, Adam]
BESIDE_TORCH = [
    (
        Adagrad(lr=0.05, eps=1e-7, accumulated=0.2, weight_decay=0.3),
        lambda groups: torch.optim.Adagrad(groups, lr=0.05, eps=1e-7, initial_accumulator_value=0.2),
    ),
    (
        RMSProp(lr=0.01, rho=0.8, eps=1e-6, momentum=0.7, centred=True, weight_decay=0.3),
        lambda groups: torch.optim.RMSprop(groups, lr=0.01, alpha=0.8, eps=1e-6, momentum=0.7, centered=True),
    ),
    (
        Adadelta(lr=0.9, rho=0.8, eps=1e-4, weight_decay=0.3),
        lambda groups: torch.optim.Adadelta(groups, lr=0.9, rho=0.8, eps=1e-4),
    ),
    (
        Adam(lr=0.01, beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.3),
        lambda groups: torch.optim.Adam(groups, lr=0.01, betas=(0.8, 0.95), eps=1e-6),
    ),
]


def tiny() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(36, 3)
        )
    return net.double()


def split(net: nn.Sequential, weight_decay: float) -> list[dict]:
    """The groups, written out."""
    weights = [net[0].weight, net[4].weight]
    rest = [net[0].bias, net[1].weight, net[1].bias, net[2].weight, net[4].bias]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def train(net: nn.Module, optimiser: torch.optim.Optimizer, seed: int = 1, steps: int = 4) -> None:
    rng = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        images = torch.randn(8, 3, 5, 5, generator=rng, dtype=torch.float64)
        optimiser.zero_grad()
        F.cross_entropy(net(images), torch.randint(3, (8,), generator=rng)).backward()
        optimiser.step()


def adagrad(w, gradients, lr, eps, accumulated, weight_decay):
    total = np.full_like(w, accumulated)
    for g in gradients:
        g = g + weight_decay * w
        total = total + g**2
        w = w - lr * g / (np.sqrt(total) + eps)
    return w


def rmsprop(w, gradients, lr, rho, eps, momentum, centred, weight_decay):
    square, mean, push = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for g in gradients:
        g = g + weight_decay * w
        square = rho * square + (1 - rho) * g**2
        mean = rho * mean + (1 - rho) * g
        push = momentum * push + g / (np.sqrt(square - mean**2 if centred else square) + eps)
        w = w - lr * push
    return w


def adadelta(w, gradients, lr, rho, eps, weight_decay):
    square, moved = np.zeros_like(w), np.zeros_like(w)
    for g in gradients:
        g = g + weight_decay * w
        square = rho * square + (1 - rho) * g**2
        d = np.sqrt(moved + eps) / np.sqrt(square + eps) * g
        moved = rho * moved + (1 - rho) * d**2
        w = w - lr * d
    return w


def adam(w, gradients, lr, beta1, beta2, eps, weight_decay):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        g = g + weight_decay * w
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        w = w - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return w


@pytest.mark.parametrize(
    ("trick", "paper"),
    [
        (Adagrad(weight_decay=0.1, accumulated=0.5), adagrad),
        (Adagrad(), adagrad),
        (RMSProp(weight_decay=0.1), rmsprop),
        (RMSProp(momentum=0.9, centred=True), rmsprop),
        (Adadelta(weight_decay=0.1), adadelta),
        (Adam(weight_decay=0.1), adam),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_six_updates_equal_the_papers_formula_in_numpy(trick, paper):
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(2, 5)), rng.normal(size=(6, 2, 5))
    net = nn.Linear(5, 2, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(start))
    optimiser = trick.build(net)
    for gradient in gradients:
        net.weight.grad = torch.from_numpy(gradient)
        optimiser.step()
    expected = paper(start, gradients, **vars(trick))
    np.testing.assert_allclose(net.weight.detach().numpy(), expected, rtol=1e-10)


def test_golden_first_steps_by_hand():
    # from w = 1 with g = 4. Adagrad: 4 / sqrt(16) = 1 times lr 0.01. RMSProp: 4 / sqrt(0.1 x 16) = 3.16228
    # times 1e-3. Adadelta: sqrt(1e-6) / sqrt(0.05 x 16) 4 = 0.00447214. Adam: m' / sqrt(v') = 1 times 1e-3
    for kind, step in [(Adagrad, 0.01), (RMSProp, 0.00316228), (Adadelta, 0.00447214), (Adam, 0.001)]:
        net = nn.Linear(1, 1, bias=False).double()
        nn.init.ones_(net.weight)
        net.weight.grad = torch.full((1, 1), 4.0, dtype=torch.float64)
        kind().build(net).step()
        assert 1 - net.weight.item() == pytest.approx(step, rel=2e-5), kind


@pytest.mark.parametrize(("trick", "theirs"), BESIDE_TORCH, ids=lambda value: type(value).__name__)
def test_weights_and_state_equal_those_of_torch_also_after_a_resume(trick, theirs, tmp_path):
    net, other = tiny(), tiny()
    mine, reference = trick.build(net), theirs(split(other, 0.3))
    train(net, mine)
    train(other, reference)
    torch.save({"net": net.state_dict(), "optimiser": mine.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    assert saved["optimiser"]["state"].keys() == reference.state_dict()["state"].keys()
    for key, state in reference.state_dict()["state"].items():
        assert saved["optimiser"]["state"][key].keys() == state.keys()
        for name, value in state.items():
            torch.testing.assert_close(saved["optimiser"]["state"][key][name], value)

    resumed = tiny()
    again = trick.build(resumed)
    resumed.load_state_dict(saved["net"])
    again.load_state_dict(saved["optimiser"])
    for one, optimiser in [(net, mine), (resumed, again), (other, reference)]:
        train(one, optimiser, seed=2)
    assert all(map(torch.equal, net.parameters(), resumed.parameters()))
    torch.testing.assert_close(list(net.parameters()), list(other.parameters()))


@pytest.mark.parametrize("kind", KINDS)
def test_groups_decay_weights_only_and_leave_frozen_ones_out(kind):
    net = tiny()
    net[0].weight.requires_grad = False
    weights, rest = kind(lr=0.3, weight_decay=0.2).build(net).param_groups
    assert [p.shape for p in weights["params"]] == [(3, 36)]
    assert len(rest["params"]) == 5 and all(p.ndim == 1 for p in rest["params"])
    assert (weights["weight_decay"], rest["weight_decay"]) == (0.2, 0.0)
    assert weights["initial_lr"] == rest["initial_lr"] == weights["lr"] == 0.3
    with pytest.raises(ConvclinicError, match="frozen"):
        kind().build(net.requires_grad_(False))


def test_adam_is_adamw_without_decay_and_not_with_it():
    def trained(trick) -> list[torch.Tensor]:
        net = tiny()
        train(net, trick.build(net))
        return list(net.parameters())

    torch.testing.assert_close(trained(Adam(weight_decay=0.0)), trained(AdamW(weight_decay=0.0)))
    assert not torch.allclose(trained(Adam(weight_decay=0.5))[0], trained(AdamW(weight_decay=0.5))[0])


def test_decay_of_adam_hardly_depends_on_its_strength_and_that_of_adamw_does():
    """Without other gradients: a coupled decay is divided by its own size."""
    for strength in (0.1, 0.2):
        net, other = (nn.Linear(1, 1, bias=False).double() for _ in range(2))
        for one, kind in [(net, Adam), (other, AdamW)]:
            nn.init.ones_(one.weight)
            one.weight.grad = torch.zeros(1, 1, dtype=torch.float64)
            kind(lr=0.01, weight_decay=strength).build(one).step()
        assert 1 - net.weight.item() == pytest.approx(0.01, rel=1e-6)
        assert 1 - other.weight.item() == pytest.approx(0.01 * strength)


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (lambda: Adagrad(lr=-1.0), "adagrad's lr"),
        (lambda: Adagrad(accumulated=-0.1), "adagrad's accumulated"),
        (lambda: Adagrad(eps=0.0), "adagrad's eps"),
        (lambda: RMSProp(rho=1.0), "rmsprop's rho"),
        (lambda: RMSProp(momentum=math.nan), "rmsprop's momentum"),
        (lambda: RMSProp(eps=math.inf), "rmsprop's eps"),
        (lambda: Adadelta(rho=-0.1), "adadelta's rho"),
        (lambda: Adadelta(weight_decay=-1.0), "adadelta's weight_decay"),
        (lambda: Adam(beta1=1.0), "adam's beta1"),
        (lambda: Adam(beta2=1.5), "adam's beta2"),
        (lambda: Adam(eps=-1e-8), "adam's eps"),
    ],
)
def test_outside_is_refused(make, option):
    with pytest.raises(ConvclinicError, match=option):
        make()
