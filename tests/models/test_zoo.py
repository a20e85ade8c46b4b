"""What every net keeps to, whichever it is."""

import pytest
import torch
from zoo import MORE, SMALL, build, every_net, gradients, images, least_images, trainable, with_he

from convclinic.ground.discovery import adapters, card
from convclinic.ground.errors import ConvclinicError
from convclinic.models.alexnet import AlexNet
from convclinic.models.googlenet import GoogLeNet
from convclinic.models.lenet5 import LeNet5
from convclinic.models.mobilenet_v2 import MobileNetV2
from convclinic.models.nin import NIN
from convclinic.models.resnet import ResNet
from convclinic.models.resnet_cifar import ResNetCifar
from convclinic.models.squeezenet import SqueezeNet
from convclinic.models.vgg import VGG
from convclinic.tricks.activate.relu import ReLU
from convclinic.tricks.normalise.batch_norm import BatchNorm
from convclinic.tricks.normalise.group_norm import GroupNorm


def test_every_net_that_is_found_is_tested_here():
    found = dict(adapters("convclinic.models"))
    found.pop("backbone")  # made of the others, and deaf to the recipe's layers: see test_backbone.py
    assert {name: type(net) for name, net in SMALL.items()} == found


@pytest.mark.parametrize(
    ("net", "channels", "n_classes", "count"),
    [
        (LeNet5(), 1, 10, 60_850),  # LeCun et al. 1998: 60,000 and 85 for each of ten outputs
        (AlexNet(), 3, 1000, 60_965_224),  # "60 million" (2012); the sum is Caffe's bvlc_alexnet's
        (NIN(), 3, 10, 966_986),  # by hand: 60,928 + 535,104 + 370,954 in the three blocks
        (VGG(depth=11), 3, 1000, 132_863_336),  # 133, 133, 138 and 144 million in the paper's table 2
        (VGG(depth=13), 3, 1000, 133_047_848),
        (VGG(depth=16), 3, 1000, 138_357_544),
        (VGG(depth=19), 3, 1000, 143_667_240),
        (GoogLeNet(), 3, 1000, 6_998_552),  # Caffe's bvlc_googlenet without its auxiliary classifiers
        (ResNetCifar(depth=20), 3, 10, 269_722),  # 0.27, 0.46, 0.66, 0.85 and 1.7 million in table 6
        (ResNetCifar(depth=32), 3, 10, 464_154),
        (ResNetCifar(depth=44), 3, 10, 658_586),
        (ResNetCifar(depth=56), 3, 10, 853_018),
        (ResNetCifar(depth=110), 3, 10, 1_727_962),
        (ResNet(depth=18), 3, 1000, 11_689_512),  # torchvision's documentation
        (ResNet(depth=34), 3, 1000, 21_797_672),
        (ResNet(depth=50), 3, 1000, 25_557_032),
        (MobileNetV2(), 3, 1000, 3_504_872),  # 3.4 million in table 4; torchvision's documentation
        (SqueezeNet(), 3, 1000, 1_235_496),
    ],
    ids=str,
)
def test_parameters_are_the_papers_and_the_card_tells_them(net, channels, n_classes, count):
    built = build(net, channels, n_classes, device="meta")
    assert trainable(built) == sum(p.numel() for p in built.parameters()) == count
    assert f"{count:,}" in card(type(net))


SIZES = [
    (1, (28, 28)),
    (3, (32, 32)),
    (8, (33, 45)),
    (3, (64, 64)),
    (1, (131, 101)),
    (4, (224, 224)),
    (3, (512, 512)),
]


@every_net
@torch.no_grad()
def test_any_size_and_any_number_of_channels_become_logits(name):
    net, tried = MORE[name], 0
    for channels, size in SIZES:
        if min(size) >= net.least:
            built = build(net, channels, 7).eval()
            assert built(images(1, channels, *size)).shape == (1, 7)
            tried += 1
    assert tried >= 4


@every_net
def test_the_least_size_passes_and_less_is_refused(name):
    net = MORE[name]
    built = build(net)
    for training in (True, False):
        assert built.train(training)(least_images(net)).isfinite().all()
    kind = type(net).__module__.rpartition(".")[2]
    words = f"^{kind} needs images of at least {net.least} x {net.least} pixels, not {net.least} x "
    with pytest.raises(ConvclinicError, match=words + str(net.least - 1)):
        built(images(2, 3, net.least, net.least - 1))


@every_net
def test_the_card_names_the_least_size(name):
    words, least = " ".join(card(type(MORE[name])).split()), MORE[name].least
    assert f"h and w at least {least}," in words or f", {least} by default," in words


# compact starts with closed branches: test_nets.py
@pytest.mark.parametrize("norm", [None, BatchNorm(), GroupNorm()], ids=str)
@pytest.mark.parametrize("name", [name for name in MORE if name != "compact"])
def test_gradients_reach_every_parameter_at_initialisation(name, norm):
    net = MORE[name]
    built = with_he(build(net, norm=norm), ReLU.gain)
    side = min(64, max(32, 2 * net.least))  # one pixel would leave group norm little to work with
    found = gradients(built, images(6, 3, side, side))
    silent = [name for name, grad in found.items() if grad is None or not grad.any()]
    assert not silent
    assert all(grad.isfinite().all() for grad in found.values())
    weights = [grad.norm().item() for grad in found.values() if grad.ndim == 4]
    assert 1e-3 < weights[0] / weights[-1] < 1e3


def first_gradient(net, gain):
    """The size of the gradient that reaches the first convolution."""
    built = with_he(build(net), gain)
    return next(grad for grad in gradients(built, images(4, 3, 32, 32)).values() if grad.ndim == 4).norm()


def test_gradients_neither_vanish_nor_explode_over_depth():
    # He et al. 2015, section 2.2: with sqrt(2 / n) a deep plain net learns; with smaller weights it stalls
    deep = VGG(depth=19, width=0.25, grid=1, head=32, dropout=0.0)
    assert 0.01 < first_gradient(deep, ReLU.gain) < 100
    assert first_gradient(deep, 0.1 * ReLU.gain) < 1e-9
    assert 0.01 < first_gradient(ResNetCifar(depth=110, width=0.25), ReLU.gain) < 100
