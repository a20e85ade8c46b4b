import pytest
import torch
import torch.nn.functional as F
from zoo import build, images

from convclinic.models.lenet5 import TABLE, LeNet5, Subsample, TableConv, framed
from convclinic.tricks.activate.tanh import Tanh


def size(module):
    return sum(p.numel() for p in module.parameters())


def test_each_layer_has_the_papers_number_of_parameters():
    # LeCun et al. 1998, section II.B
    net = build(LeNet5(), channels=1, n_classes=10)
    stated = {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert {name: size(getattr(net, name)) for name in stated} == stated
    assert sum(stated.values()) == 60_000


def test_the_maps_have_the_papers_sizes():
    net, seen = build(LeNet5(), channels=1), {}
    for name in ("c1", "s2", "c3", "s4", "c5", "f6"):
        getattr(net, name).register_forward_hook(
            lambda *call, name=name: seen.update({name: call[2].shape[1:]})
        )
    net(images(2, 1, 32, 32))
    assert seen == {
        "c1": (6, 28, 28),
        "s2": (6, 14, 14),
        "c3": (16, 10, 10),
        "s4": (16, 5, 5),
        "c5": (120, 1, 1),
        "f6": (84,),
    }


def test_the_table_is_what_the_paper_says_of_it():
    """Every contiguous three, every contiguous four, some discontinuous fours, and all; around a ring."""
    ring = [{(start + i) % 6 for i in range(length)} for length in (3, 4) for start in range(6)]
    assert list(map(set, TABLE[:12])) == ring
    assert all(len(set(seen)) == 4 and set(seen) not in ring for seen in TABLE[12:15])
    assert TABLE[15] == tuple(range(6))
    # Table I has ten crosses in each row: no map of S2 is seen more often than another
    assert [sum(i in seen for seen in TABLE) for i in range(6)] == [10] * 6


def test_c3_is_a_dense_convolution_with_the_unconnected_filters_at_zero():
    conv = TableConv(TABLE, 5, pieces=1, bias=True)
    weight = torch.zeros(16, 6, 5, 5)
    for i, (seen, part) in enumerate(zip(TABLE, conv.maps, strict=True)):
        weight[i, list(seen)] = part.weight.detach()[0]
    bias = torch.cat([part.bias.detach() for part in conv.maps])
    x = images(2, 6, 14, 14)
    torch.testing.assert_close(conv(x), F.conv2d(x, weight, bias))


def test_sub_sampling_by_hand():
    layer = Subsample(1, pieces=1)
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert layer(x).item() == 2.5  # starts as the mean
    with torch.no_grad():
        layer.weight.fill_(0.5)
        layer.bias.fill_(-1.0)
    assert layer(x).item() == 4.0  # 0.5 (1 + 2 + 3 + 4) - 1


def test_pieces_of_a_sub_sampling_differ_and_average_to_the_mean():
    layer, x = Subsample(3, pieces=2), images(2, 3, 8, 8)
    made = layer(x).unflatten(1, (3, 2))
    assert not torch.equal(made[:, :, 0], made[:, :, 1])
    torch.testing.assert_close(made.mean(2), F.avg_pool2d(x, 2))


@pytest.mark.parametrize("side", [20, 28, 31])
def test_a_small_image_is_judged_as_in_the_middle_of_32_zeros(side):
    net, x = build(LeNet5(), channels=1, activate=Tanh()).eval(), images(2, 1, side, side)
    inside = torch.zeros(2, 1, 32, 32)
    start = (32 - side) // 2
    inside[:, :, start : start + side, start : start + side] = x
    assert torch.equal(framed(x, 32), inside)
    assert torch.equal(net(x), net(inside))


def test_large_images_are_not_framed():
    x = images(1, 1, 33, 40)
    assert torch.equal(framed(x, 32), x)
