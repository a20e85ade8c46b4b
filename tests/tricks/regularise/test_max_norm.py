import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convclinic.kinds import Layers
from convclinic.models.fast import Fast
from convclinic.tricks.regularise.max_norm import MaxNorm, max_norm

shapes = st.sampled_from([(5, 7), (1, 3), (4, 3, 3, 3), (6, 1, 2, 2)])


def drawn(seed: int, shape: tuple[int, ...], scale: float) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    rows = torch.rand(shape[0], *[1] * (len(shape) - 1), generator=rng)
    return torch.randn(shape, generator=rng) * rows * scale


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 999), shapes, st.floats(0.01, 100), st.floats(0.1, 10))
def test_no_unit_exceeds_c_and_shorter_ones_keep_every_bit(seed, shape, scale, c):
    w = drawn(seed, shape, scale)
    out = max_norm(w, c)
    before, after = (x.double().flatten(1).norm(dim=1) for x in (w, out))
    assert (after <= c * (1 + 1e-6)).all()  # float32's rounding
    short = before < c * (1 - 1e-6)
    assert torch.equal(out[short], w[short])
    long = before > c * (1 + 1e-6)
    torch.testing.assert_close(after[long], torch.full_like(after[long], c), rtol=1e-6, atol=0)
    # the direction stays
    expected = w.flatten(1).double() * (after / before)[:, None]
    torch.testing.assert_close(out.flatten(1).double(), expected, rtol=1e-6, atol=1e-6)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 999), shapes, st.floats(0.1, 10), st.floats(0.1, 10))
def test_equals_torchs_renorm(seed, shape, scale, c):
    w = drawn(seed, shape, scale).double()
    torch.testing.assert_close(max_norm(w, c), torch.renorm(w, 2, 0, c), rtol=1e-5, atol=0)


@pytest.mark.parametrize("c", [3.0, 4.0])
def test_projection_is_the_formula_in_place_and_does_not_see_the_lr(c):
    nets = [nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 5)) for _ in range(2)]
    with torch.no_grad():
        for p in nets[0].parameters():
            p.copy_(drawn(0, tuple(p.shape), 5.0))
    nets[1].load_state_dict(nets[0].state_dict())
    before = nets[0].state_dict()
    weights = {name: before[name].clone() for name in ("0.weight", "2.weight")}
    for net, lr in zip(nets, (0.0, 1.0), strict=True):
        pointers = [p.data_ptr() for p in net.parameters()]
        MaxNorm(c=c).project(net, lr)
        assert pointers == [p.data_ptr() for p in net.parameters()]
        for name, w in weights.items():
            assert torch.equal(net.get_parameter(name), max_norm(w, c))
            assert not torch.equal(net.get_parameter(name), w)


def test_golden_unit_by_hand():
    # (3, 4) has length 5: at c = 2.5 it is halved; zero stays zero
    assert max_norm(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), 2.5).tolist() == [[1.5, 2.0], [0.0, 0.0]]


def test_told_to_it_clamps_each_number_of_what_has_one_axis_or_none():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.tensor([-9.0, 0.5, 3.5]))
            self.scale = nn.Parameter(torch.tensor(7.0))

    net = Scaled()
    MaxNorm(c=3.0).project(net, 0.1)
    assert net.bias.tolist() == [-9.0, 0.5, 3.5] and net.scale.item() == 7
    MaxNorm(c=3.0, everything=True).project(net, 0.1)
    assert net.bias.tolist() == [-3.0, 0.5, 3.0] and net.scale.item() == 3


def test_channels_last_weights_keep_their_layout_and_values():
    plain, last = nn.Conv2d(4, 6, 3), nn.Conv2d(4, 6, 3)
    with torch.no_grad():
        plain.weight.copy_(drawn(1, (6, 4, 3, 3), 5.0))
    last.load_state_dict(plain.state_dict())
    last = last.to(memory_format=torch.channels_last)
    for net in (plain, last):
        MaxNorm(c=1.0).project(net, 0.1)
    assert last.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(plain.weight, last.weight)


def test_a_head_whose_sums_the_net_divides_may_be_longer():
    net = Fast(widths=(32, 32)).build(3, 4, Layers(lambda _: nn.GELU()))
    before = net.head.weight.clone()
    MaxNorm(c=0.5).project(net, 0.1)
    assert torch.equal(net.head.weight, before) and before.norm(dim=1).min() > 0.5
    assert net.groups[0].conv1.weight.flatten(1).norm(dim=1).max() <= 0.5 * (1 + 1e-6)
