import pytest
import torch
from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.transfer.towards_start import TowardsStart


def net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)).double()


LOADED = ("0.weight", "0.bias", "1.weight", "1.running_mean")


def test_golden_value():
    # by hand: 1/2 * 3 * (2 - 1)^2 + 1/2 * 5 * 4^2
    made = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    nn.init.constant_(made[0].weight, 1.0)
    trick = TowardsStart(strength=3.0, head=5.0)
    reference = trick.reference(made, ("0.weight",))
    nn.init.constant_(made[0].weight, 2.0)
    nn.init.constant_(made[1].weight, 4.0)
    assert trick.penalty(made, reference).item() == pytest.approx(41.5)


def test_equals_what_autograd_makes_of_the_formula():
    made, trick = net(), TowardsStart(strength=0.3, head=0.7)
    reference = trick.reference(made, LOADED)
    assert reference.keys() == {"0.weight"}  # biases, norms and buffers are not held
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter))
    trick.penalty(made, reference).backward()
    got = {name: p.grad for name, p in made.named_parameters()}
    weights = [
        made[0].weight.detach().clone().requires_grad_(),
        made[3].weight.detach().clone().requires_grad_(),
    ]
    plain = 0.15 * (weights[0] - reference["0.weight"]).square().sum() + 0.35 * weights[1].square().sum()
    wanted = torch.autograd.grad(plain, weights)
    torch.testing.assert_close(got["0.weight"], wanted[0])
    torch.testing.assert_close(got["3.weight"], wanted[1])
    assert got["0.bias"] is got["1.weight"] is got["3.bias"] is None


def test_at_the_start_only_the_head_is_pulled():
    made, trick = net(), TowardsStart(strength=10.0, head=0.0)
    reference = trick.reference(made, LOADED)
    assert trick.penalty(made, reference).item() == 0
    with torch.no_grad():
        made[0].weight.add_(1.0)
    assert torch.equal(reference["0.weight"] + 1.0, made[0].weight)  # a copy, not a view


def test_what_is_frozen_is_not_counted():
    made, trick = net(), TowardsStart()
    reference = trick.reference(made, LOADED)
    made.requires_grad_(False)
    assert trick.penalty(made, reference).item() == 0


@pytest.mark.parametrize("option", ["strength", "head"])
def test_a_strength_below_zero_is_refused(option: str):
    with pytest.raises(ConvclinicError, match=option):
        TowardsStart(**{option: -1.0})
