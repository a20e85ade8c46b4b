import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.initialise.lsuv import LSUV
from convclinic.tricks.initialise.orthogonal import Orthogonal


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 32) -> torch.Tensor:
    return 0.3 + 2 * torch.randn(n, 3, 8, 8, generator=rng(1))


def deep(activation: type[nn.Module], depth: int = 10) -> nn.Sequential:
    widths = [3, *[8] * depth]
    layers = [part for a, b in pairwise(widths) for part in (nn.Conv2d(a, b, 3, padding=1), activation())]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 5))


def variances(net: nn.Module, x: torch.Tensor) -> list[float]:
    """Of each layer's output, in the order in which they are called."""
    seen: list[float] = []
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [
        layer.register_forward_hook(lambda _, __, out: seen.append(out.var(correction=0).item()))
        for layer in layers
    ]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid])
def test_every_layer_s_output_has_variance_one(activation):
    net = deep(activation)
    LSUV(tolerance=1e-3).apply(net, rng(), images(), 1.0)
    found = variances(net, images())
    assert len(found) == 11 and max(abs(v - 1) for v in found) < 1e-3


def test_orthonormal_weights_alone_do_not_have_it():
    net = deep(nn.ReLU)
    Orthogonal().apply(net, rng(), images(), 1.0)
    assert min(variances(net, images())) < 0.1


def test_equals_the_paper_s_loop_of_one_forward_pass_after_another():
    tolerance = 0.1
    net, theirs = deep(nn.ReLU), deep(nn.ReLU)
    LSUV(tolerance=tolerance).apply(net, rng(), images(), 1.0)
    Orthogonal().apply(theirs, rng(), images(), 1.0)
    layers = [layer for layer in theirs if isinstance(layer, nn.Conv2d | nn.Linear)]
    for position, layer in enumerate(layers):
        tries = 0
        while abs((found := variances(theirs, images())[position]) - 1) >= tolerance and tries < 10:
            layer.weight.data /= math.sqrt(found)
            tries += 1
    for p, q in zip(net.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def test_weights_stay_orthonormal_up_to_their_scale():
    net = deep(nn.ReLU)
    LSUV().apply(net, rng(), images(), 1.0)
    weight = net[2].weight.detach().flatten(1)
    product = weight @ weight.T
    torch.testing.assert_close(product / product[0, 0], torch.eye(8), rtol=0, atol=1e-5)


def test_layers_within_the_tolerance_are_left_alone():
    net, plain = deep(nn.ReLU), deep(nn.ReLU)
    LSUV(tolerance=1e9).apply(net, rng(), images(), 1.0)
    Orthogonal().apply(plain, rng(), images(), 1.0)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), plain.parameters(), strict=True))


class Backwards(nn.Module):
    """Whose second layer comes first among its modules."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(8, 8)
        self.first = nn.Conv2d(3, 8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu().flatten(1))


def test_the_order_is_that_of_the_forward_pass():
    net = Backwards()
    LSUV(tolerance=1e-3, tries=1).apply(net, rng(), images(), 1.0)
    assert max(abs(v - 1) for v in variances(net, images())) < 1e-3


def test_norms_and_dropout_are_as_in_a_fresh_evaluation_and_are_left_as_they_were():
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(6, 6, 3),
        nn.BatchNorm2d(6),
    )
    net[1].eval()
    before, state = {k: v.clone() for k, v in net[1].state_dict().items()}, torch.get_rng_state()
    LSUV(tolerance=1e-3).apply(net, rng(), images(), 1.0)
    assert all(torch.equal(v, before[k]) for k, v in net[1].state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in net] == [True, False, True, True, True, True] and net.training
    assert max(abs(v - 1) for v in variances(net.eval(), images())) < 1e-3


def test_frozen_layers_are_neither_set_nor_scaled():
    net = deep(nn.ReLU)
    net[2].weight.requires_grad = False
    frozen = net[2].weight.clone()
    LSUV(tolerance=1e-3).apply(net, rng(), images(), 1.0)
    assert torch.equal(net[2].weight, frozen)
    found = variances(net, images())
    assert abs(found[1] - 1) > 1e-3 and max(abs(v - 1) for v in found[:1] + found[2:]) < 1e-3


class Mute(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0 * x


def test_a_layer_that_sees_nothing_keeps_its_orthonormal_weights():
    net = nn.Sequential(nn.Flatten(), Mute(), nn.Linear(192, 4))
    LSUV().apply(net, rng(), images(), 1.0)
    weight = net[2].weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(4), rtol=0, atol=1e-5)


def test_only_the_first_images_are_used():
    one, other = deep(nn.ReLU), deep(nn.ReLU)
    LSUV(batch_size=8).apply(one, rng(), images(32), 1.0)
    LSUV(batch_size=8).apply(other, rng(), images(32)[:8], 1.0)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("given", "word"), [(torch.full((2, 3, 8, 8), math.inf), "not finite"), (images(0), "got none")]
)
def test_images_that_say_nothing_are_explained_and_the_net_is_left_in_order(given, word):
    net = deep(nn.ReLU)
    with pytest.raises(ConvclinicError, match=word):
        LSUV().apply(net, rng(), given, 1.0)
    assert net.training and not any(layer._forward_hooks for layer in net)


def test_wrong_numbers_are_explained():
    for options in ({"tolerance": 0.0}, {"tries": 0}, {"batch_size": 0}):
        with pytest.raises(ConvclinicError, match=f"lsuv.{next(iter(options))}"):
            LSUV(**options)
