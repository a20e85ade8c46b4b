import pytest
import torch
from torch import nn

from convclinic.tricks.transfer.frozen_norm import FrozenNorm


def net() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.LazyLinear(2)
    )
    made(torch.randn(8, 3, 6, 6))  # statistics that are not those of a fresh norm
    return made


@pytest.mark.parametrize("affine", [True, False])
def test_a_training_step_normalises_as_testing_does_and_leaves_the_statistics(affine: bool):
    trick, made = FrozenNorm(affine=affine), net()
    trick.install(made)
    before = {name: value.clone() for name, value in made[1].named_buffers()}
    made.train()
    trick.hold(made)
    assert [module.training for module in made] == [True, False, True, True, True]
    images = torch.randn(8, 3, 6, 6) * 3 + 1
    features = made[1](made[0](images))
    made[1].eval()
    assert torch.equal(features, made[1](made[0](images)))
    assert all(torch.equal(value, before[name]) for name, value in made[1].named_buffers())
    features.square().sum().backward()
    assert (made[1].weight.grad is not None) == affine == (made[1].bias.grad is not None)
    assert made[0].weight.grad is not None


def test_without_the_trick_the_statistics_move():
    """So that the test above can fail."""
    made = net()
    before = made[1].running_mean.clone()
    made.train()(torch.randn(8, 3, 6, 6) + 1)
    assert not torch.equal(before, made[1].running_mean)


def test_norms_without_affine_and_other_layers_are_left_alone():
    made = nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.GroupNorm(1, 3), nn.Conv2d(3, 2, 1))
    FrozenNorm(affine=False).install(made)
    assert all(parameter.requires_grad for parameter in made.parameters())
    FrozenNorm().hold(made.train())
    assert [module.training for module in made] == [False, True, True]
