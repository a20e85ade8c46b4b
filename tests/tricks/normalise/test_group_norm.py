import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.normalise.group_norm import GroupNorm, group_norm, groups_for


def maps(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_formula_equals_torch(groups):
    x, gamma, beta = maps(4, 6, 3, 5), maps(6, seed=1), maps(6, seed=2)
    wanted = F.group_norm(x, groups, gamma, beta, eps=1e-3)
    torch.testing.assert_close(group_norm(x, groups, gamma, beta, 1e-3), wanted)


def test_module_equals_formula():
    x = maps(2, 64, 3, 3)
    wanted = group_norm(x, 32, torch.ones(64).double(), torch.zeros(64).double(), 1e-5)
    torch.testing.assert_close(GroupNorm().build(64).double()(x), wanted)


def test_the_papers_groups_at_the_papers_widths():
    # Wu and He 2018, section 3.2: G = 32 by default, in nets of 64 to 2048 channels
    assert {groups_for(channels, 32) for channels in (64, 128, 256, 512, 1024, 2048)} == {32}


@given(channels=st.integers(1, 500), most=st.integers(1, 64))
def test_groups_share_the_maps_evenly_and_are_as_many_as_allowed(channels, most):
    groups = groups_for(channels, most)
    assert channels % groups == 0 and 1 <= groups <= most
    assert groups == 1 or channels // groups >= 2
    more = range(groups + 1, min(most, channels // 2) + 1)
    assert all(channels % larger for larger in more)


def test_each_image_is_normalised_alone():
    layer, x = GroupNorm().build(8).double(), maps(5, 8, 4, 4)
    torch.testing.assert_close(layer(x)[2:3], layer(x[2:3]))
    grouped = layer(x).unflatten(1, (4, 2)).flatten(2)
    torch.testing.assert_close(grouped.mean(2), torch.zeros(5, 4).double())
    torch.testing.assert_close(grouped.var(2, correction=0), torch.ones(5, 4).double(), rtol=1e-3, atol=0)


def test_gradients_are_right():
    x = maps(2, 4, 2, 2).requires_grad_()
    gamma, beta = maps(4, seed=1).requires_grad_(), maps(4, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, g, b: group_norm(x, 2, g, b, 1e-3), (x, gamma, beta))


@pytest.mark.parametrize(("option", "value"), [("groups", 0), ("eps", 0.0), ("eps", math.inf)])
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ConvclinicError, match=option):
        GroupNorm(**{option: value})
