import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convclinic.tricks.initialise.lecun import LeCun, lecun_normal


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([(), (1, 1), (3, 3), (5, 2)]))
def test_equals_torch_kaiming_without_a_gain(out, into, kernel):
    shape = (out, into, *kernel)
    theirs = nn.init.kaiming_normal_(torch.empty(shape), nonlinearity="linear", generator=rng())
    torch.testing.assert_close(lecun_normal(shape, rng()), theirs)


def test_a_unit_s_output_has_the_variance_of_its_inputs():
    x = 3 * torch.randn(2000, 400, generator=rng(1))
    out = x @ lecun_normal((300, 400), rng()).T
    assert abs(out.var().item() / 9 - 1) < 0.03


def test_the_gain_is_not_used_and_groups_have_fans_of_their_own():
    net = nn.Sequential(nn.Conv2d(8, 8, 3, groups=4))
    LeCun().apply(net, rng(), torch.zeros(1, 8, 8, 8), 5.0)
    # two channels of nine places each: 1 / sqrt(18)
    expected = torch.randn(8, 2, 3, 3, generator=rng()) / 18**0.5
    torch.testing.assert_close(net[0].weight.data, expected)
