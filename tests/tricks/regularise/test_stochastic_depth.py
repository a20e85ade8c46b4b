import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.rng import scoped
from convclinic.models._layers import BranchPlace, MapsPlace
from convclinic.tricks.regularise.stochastic_depth import DropBranch, StochasticDepth, keep, rates


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, bias=False), BranchPlace())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def deep(n: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(*(Block() for _ in range(n)), MapsPlace())


def images(n: int = 6) -> Tensor:
    return torch.randn(n, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def test_golden_rates_of_the_source():
    # Huang et al. 2016, section 3: with 54 branches and a last survival of 0.5, survival of the l-th is
    # 1 - l / 54 / 2, and (3 L - 1) / 4, about 40, branches are expected to be there
    p = rates(0.5, 54)
    assert p[0] == pytest.approx(1 / 108) and p[26] == pytest.approx(0.25) and p[-1] == 0.5
    assert sum(1 - rate for rate in p) == pytest.approx((3 * 54 - 1) / 4)


def test_rates_rise_with_depth_in_the_order_of_the_net():
    net = deep(4)
    StochasticDepth(p=0.4).install(net)
    assert [net[i].branch[1].p for i in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert isinstance(net[4], MapsPlace)


def test_order_is_that_of_the_modules_wherever_the_places_are_nested():
    inner = nn.Sequential(nn.Sequential(BranchPlace()))
    net = nn.Sequential(inner, BranchPlace(), nn.Sequential(BranchPlace()))
    StochasticDepth(p=0.3).install(net)
    assert [net[0][0][0].p, net[1].p, net[2][0].p] == pytest.approx([0.1, 0.2, 0.3])


def test_an_image_has_its_branch_whole_or_not_at_all():
    # the branch is f(x) / (1 - p) or 0 for each image: its ratio to f(x) is one number
    net, plain = deep(1), deep(1)
    StochasticDepth(p=0.5).install(net)
    x = images(64)
    with scoped(0, "test"):
        branch = net(x) - x
    full = plain.eval()(x) - x
    ratio = (branch * full).sum((1, 2, 3)) / full.square().sum((1, 2, 3))
    torch.testing.assert_close(branch, ratio.view(-1, 1, 1, 1) * full, rtol=1e-4, atol=1e-5)
    assert set(ratio.round(decimals=3).tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_branches_go_with_probability_p_and_the_expectation_stays(p):
    with scoped(0, "test"):
        y = DropBranch(p)(torch.ones(4000, 1, 1, 1)).flatten()
    assert binomtest(int((y == 0).sum()), 4000, p).pvalue > 0.001
    assert y.mean().item() == pytest.approx(1, abs=5 * math.sqrt(p / (1 - p) / 4000))


@settings(deadline=None, derandomize=True)
@given(st.floats(0, 0.99), st.integers(1, 30), st.integers(0, 99))
def test_the_mean_over_both_outcomes_is_the_branch(p, n, seed):
    branch = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    there, gone = keep(branch, torch.ones(n).bool(), p), keep(branch, torch.zeros(n).bool(), p)
    torch.testing.assert_close((1 - p) * there + p * gone, branch)


def test_testing_is_the_plain_net_and_draws_nothing():
    net, plain = deep(3), deep(3)
    StochasticDepth().install(net)
    before = torch.get_rng_state()
    assert torch.equal(net.eval()(images()), plain.eval()(images()))
    assert torch.equal(torch.get_rng_state(), before)
    assert net.state_dict().keys() == plain.state_dict().keys()


def test_draws_replay_by_name_and_differ_between_branches():
    net, x = nn.Sequential(DropBranch(0.5), DropBranch(0.5)), torch.ones(64, 1)
    with scoped(3, "forward", 7):
        first = net[0](x), net[1](x)
    with scoped(3, "forward", 7):
        again = net[0](x), net[1](x)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])


def test_gradients_are_right_and_those_left_out_get_none():
    branch = images(4).double().requires_grad_()
    kept = torch.tensor([True, False, True, False])
    assert torch.autograd.gradcheck(lambda x: keep(x, kept, 0.3), (branch,))
    keep(branch, kept, 0.5).sum().backward()
    assert branch.grad.flatten(1)[:, 0].tolist() == [2.0, 0.0, 2.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_type_and_memory_format_are_kept(dtype):
    x = images().to(dtype).to(memory_format=torch.channels_last)
    y = DropBranch(0.5)(x)
    assert y.dtype == dtype and y.is_contiguous(memory_format=torch.channels_last)


def test_p_0_is_off_in_training_too():
    net, plain = deep(3), deep(3)
    StochasticDepth(**StochasticDepth.OFF).install(net)
    assert torch.equal(net(images()), plain(images()))


def test_a_net_without_branches_and_p_outside_are_refused():
    with pytest.raises(ConvclinicError, match="residual branches"):
        StochasticDepth().install(nn.Sequential(nn.Conv2d(3, 4, 3), MapsPlace()))
    for p in (-0.1, 1.0, math.nan):
        with pytest.raises(ConvclinicError, match="p must lie in"):
            StochasticDepth(p)
