"""AlexNet, NIN, VGG and GoogLeNet: what their papers say of the insides."""

import pytest
import torch
from torch import nn
from zoo import SMALL, build, images, of_kind

from convclinic.models._local_response import LocalResponse
from convclinic.models.alexnet import AlexNet
from convclinic.models.googlenet import GoogLeNet, Inception
from convclinic.models.nin import NIN
from convclinic.models.vgg import VGG
from convclinic.tricks.normalise.batch_norm import BatchNorm


def shapes(net, kinds, size, channels=3):
    """What each module of the kinds leaves, in the order of work."""
    seen = []
    for module in of_kind(net, kinds):
        module.register_forward_hook(lambda *call: seen.append(tuple(call[2].shape[1:])))
    with torch.no_grad():
        net.eval()(images(1, channels, size, size))
    return seen


def test_alexnet_has_the_maps_of_figure_2():
    net = build(AlexNet(head=8))
    assert shapes(net, nn.Conv2d, 224) == [
        (96, 55, 55),
        (256, 27, 27),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
    ]


def test_alexnet_has_two_halves_that_meet_in_the_third_layer():
    net = build(SMALL["alexnet"])
    assert [conv.groups for conv in of_kind(net, nn.Conv2d)] == [1, 2, 1, 2, 2]
    x = images(1, 12, 15, 15)
    other = torch.cat([x[:, :6], images(1, 6, 15, 15, seed=1)], 1)
    assert torch.equal(net.conv2(x)[:, :16], net.conv2(other)[:, :16])
    assert not torch.equal(net.conv2(x)[:, 16:], net.conv2(other)[:, 16:])


@pytest.mark.parametrize("name", ["alexnet", "googlenet"])
def test_response_norms_follow_the_activation_twice_with_the_papers_constants(name):
    net = build(SMALL[name])
    norms = of_kind(net, LocalResponse)
    assert [(norm.size, norm.alpha, norm.beta, norm.k) for norm in norms] == [(5, 1e-4, 0.75, 2.0)] * 2
    order = []
    for module in of_kind(net, (nn.ReLU, LocalResponse)):
        module.register_forward_hook(lambda module, *_: order.append(type(module)))
    side = SMALL[name].least
    net(images(1, 3, side, side))
    assert all(order[i - 1] is nn.ReLU for i, kind in enumerate(order) if kind is LocalResponse)


def test_nin_has_the_maps_of_its_public_definition():
    net = build(NIN(), n_classes=10)
    assert shapes(net, nn.Conv2d, 32) == [
        *((192, 32, 32), (160, 32, 32), (96, 32, 32)),
        *((192, 16, 16), (192, 16, 16), (192, 16, 16)),
        *((192, 8, 8), (192, 8, 8), (10, 8, 8)),
    ]


def test_nin_activates_its_logits_unless_told_otherwise():
    x = images(4, 3, 32, 32)
    logits = build(NIN(width=0.125)).eval()(x)
    assert logits.min() >= 0 and logits.any()
    assert build(NIN(width=0.125, activate_last=False)).eval()(x).min() < 0


CONFIGURATIONS = {
    11: "64 M 128 M 256 256 M 512 512 M 512 512 M",
    13: "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    16: "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    19: "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}


@pytest.mark.parametrize("depth", CONFIGURATIONS)
def test_vgg_is_the_papers_table_1(depth):
    net = build(VGG(depth=depth), device="meta")
    found = of_kind(net.features, (nn.Conv2d, nn.MaxPool2d))
    words = ["M" if isinstance(module, nn.MaxPool2d) else str(module.out_channels) for module in found]
    assert " ".join(words) == CONFIGURATIONS[depth]
    linear = of_kind(net.classifier, nn.Linear)
    assert depth == len(of_kind(net, nn.Conv2d)) + len(linear)
    assert [module.out_features for module in linear[:2]] == [4096, 4096]


def test_vgg_has_the_names_of_public_weights():
    # torchvision 0.2x, vgg16 and vgg16_bn: which positions of `features` hold weights
    plain = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    names = {f"features.{i}" for i in plain} | {f"classifier.{i}" for i in (0, 3, 6)}
    wanted = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    assert set(build(VGG(depth=16), device="meta").state_dict()) == wanted
    normed = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]
    found = build(VGG(depth=16), norm=BatchNorm(), device="meta").features
    assert [int(name) for name, module in found.named_children() if isinstance(module, nn.Conv2d)] == normed
    norms = [int(name) for name, module in found.named_children() if isinstance(module, nn.BatchNorm2d)]
    assert norms == [i + 1 for i in normed]


def test_vgg_heads_for_small_images():
    net = build(VGG(depth=11, grid=1, head=256), device="meta")
    assert [tuple(layer.weight.shape) for layer in of_kind(net, nn.Linear)] == [
        (256, 512),
        (256, 256),
        (5, 256),
    ]


def test_googlenet_has_the_maps_of_table_1():
    net = build(GoogLeNet())
    wanted = [(256, 28), (480, 28), *((n, 14) for n in (512, 512, 512, 528, 832)), (832, 7), (1024, 7)]
    assert shapes(net, Inception, 224) == [(maps, side, side) for maps, side in wanted]


def test_an_inception_module_looks_at_one_three_five_and_the_pool():
    net = build(GoogLeNet(), device="meta")
    first = next(iter(of_kind(net, Inception)))
    assert [conv.kernel_size[0] for conv in of_kind(first, nn.Conv2d)] == [1, 1, 3, 1, 5, 1]
    assert [conv.out_channels for conv in of_kind(first, nn.Conv2d)] == [64, 96, 128, 16, 32, 32]
