"""The two families of residual nets: shortcuts, names, public weights."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from zoo import build, images, layers, of_kind

from convclinic.models._layers import BranchPlace
from convclinic.models.resnet import Basic, Bottleneck, ResNet
from convclinic.models.resnet_cifar import Block, ResNetCifar, shortcut

WEIGHTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "weights" / "resnet20-12fca82f.th"


class Nothing(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


def test_public_weights_load_strictly():
    if not WEIGHTS.exists():
        pytest.skip(f"no public weights at {WEIGHTS}")
    saved = torch.load(WEIGHTS, map_location="cpu", weights_only=True)["state_dict"]
    net = build(ResNetCifar(depth=20), n_classes=10)
    net.load_state_dict({name.removeprefix("module."): value for name, value in saved.items()}, strict=True)
    assert net.eval()(images(2, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize(("depth", "entries", "convs"), [(18, 122, 20), (34, 218, 36), (50, 320, 53)])
def test_resnet_has_the_names_of_public_weights(depth, entries, convs):
    # torchvision 0.2x: a state dict has a weight for each convolution, five entries for each norm, and fc
    net = build(ResNet(depth=depth), device="meta")
    names = set(net.state_dict())
    assert len(names) == entries == 6 * convs + 2
    assert {"conv1.weight", "bn1.running_var", "fc.weight", "fc.bias"} <= names
    assert {"layer1.0.conv1.weight", "layer1.1.bn2.bias", "layer4.1.conv2.weight"} <= names
    assert ("layer1.0.downsample.0.weight" in names) == (depth == 50)
    assert all(f"layer{i}.0.downsample.1.running_mean" in names for i in (2, 3, 4))
    assert ("layer3.5.bn3.weight" in names) == (depth == 50)


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_resnet_has_the_maps_of_table_1(depth):
    net, seen = build(ResNet(depth=depth, width=0.25)).eval(), []
    for name in ("layer1", "layer2", "layer3", "layer4"):
        getattr(net, name).register_forward_hook(lambda *call: seen.append(tuple(call[2].shape[1:])))
    with torch.no_grad():
        net(images(1, 3, 224, 224))
    widen, sizes = 4 if depth == 50 else 1, ((16, 32, 64, 128), (56, 28, 14, 7))  # a quarter of the maps
    assert seen == [(maps * widen, side, side) for maps, side in zip(*sizes, strict=True)]
    # the depth counts convolutions and the linear layer, not projections
    counted = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len([name for name in counted if "downsample" not in name]) == depth


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_resnet_cifar_has_6_n_plus_2_layers(depth):
    net = build(ResNetCifar(depth=depth), device="meta")
    assert len(of_kind(net, (nn.Conv2d, nn.Linear))) == depth


def test_option_a_by_hand():
    x = torch.arange(18.0).view(1, 2, 3, 3)
    made = shortcut(x, 6, 2)
    zeros = torch.zeros(1, 2, 2, 2)
    kept = torch.tensor([[[[0.0, 2.0], [6.0, 8.0]], [[9.0, 11.0], [15.0, 17.0]]]])
    assert torch.equal(made, torch.cat([zeros, kept, zeros], 1))
    assert shortcut(x, 2, 1) is x


@pytest.mark.parametrize("side", [8, 9])
def test_option_a_meets_the_branch_at_odd_and_even_sizes(side):
    x = images(1, 4, side, side)
    assert shortcut(x, 8, 2).shape == F.conv2d(x, images(8, 4, 3, 3), stride=2, padding=1).shape


@pytest.mark.parametrize("kind", [Block, Basic])
def test_a_block_without_its_branch_is_its_shortcut(kind):
    torch.manual_seed(0)
    same, x = kind(4, 4, 1, layers()), images(2, 4, 8, 8)
    assert not torch.equal(same(x), x.relu())
    same.place = Nothing()
    assert torch.equal(same(x), x.relu())


@pytest.mark.parametrize("kind", [Basic, Bottleneck])
def test_a_shortcut_is_projected_where_the_shape_changes(kind):
    torch.manual_seed(0)
    block, x = kind(4, 8, 2, layers()).eval(), images(2, 4, 8, 8)
    block.place = Nothing()
    assert torch.equal(block(x), block.downsample(x).relu())
    assert [conv.kernel_size for conv in of_kind(block.downsample, nn.Conv2d)] == [(1, 1)]


def test_the_bottleneck_halves_the_side_in_its_3x3():
    block = Bottleneck(16, 8, 2, layers())
    assert [conv.stride for conv in (block.conv1, block.conv2, block.conv3)] == [(1, 1), (2, 2), (1, 1)]


def test_branches_are_found_in_the_order_of_work():
    """Stochastic depth drops later ones more often, and finds them by walking the modules."""
    net, passed = build(ResNetCifar(depth=20)).eval(), []
    for place in of_kind(net, BranchPlace):
        place.register_forward_hook(lambda module, *_: passed.append(module))
    net(images(1, 3, 32, 32))
    assert list(map(id, passed)) == list(map(id, of_kind(net, BranchPlace)))
