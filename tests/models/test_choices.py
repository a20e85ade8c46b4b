"""What can be chosen in every net: activation, norm, noise, dropout, width."""

import math

import pytest
import torch
from torch import nn
from zoo import MORE, SMALL, build, every_net, gradients, least_images, of_kind, trainable, with_he

from convclinic.ground.discovery import adapters
from convclinic.ground.errors import ConvclinicError
from convclinic.models._layers import BranchPlace, MapsPlace
from convclinic.models._local_response import LocalResponse
from convclinic.models.alexnet import AlexNet
from convclinic.models.googlenet import GoogLeNet
from convclinic.models.nin import NIN
from convclinic.models.resnet import ResNet
from convclinic.models.resnet_cifar import ResNetCifar
from convclinic.models.vgg import VGG

ACTIVATIONS = {name: kind() for name, kind in adapters("convclinic.tricks.activate").items()}
NORMS = {name: kind() for name, kind in adapters("convclinic.tricks.normalise").items() if name != "own"}


@pytest.mark.parametrize("activate", ACTIVATIONS)
@pytest.mark.parametrize("name", SMALL)
def test_every_net_takes_every_activation(name, activate):
    net, chosen = SMALL[name], ACTIVATIONS[activate]
    built = with_he(build(net, activate=chosen), chosen.gain)
    found = gradients(built, least_images(net))
    assert all(grad is not None and grad.isfinite().all() for grad in found.values())
    kinds = {type(module) for module in built.modules()}
    assert type(chosen.build(4)) in kinds
    if activate != "relu":
        assert nn.ReLU not in kinds


@every_net
def test_pieces_make_every_layer_before_an_activation_wider(name):
    net = MORE[name]
    plain, wide = (build(net, activate=ACTIVATIONS[activate]).eval() for activate in ("relu", "maxout"))
    # every activation is given twice as many maps as it leaves
    given = []
    for module in of_kind(wide, type(ACTIVATIONS["maxout"].build(4))):
        module.register_forward_hook(lambda _, x, y: given.append((x[0].shape[1], y.shape[1])))
    x = least_images(net)
    assert wide(x).shape == plain(x).shape == (2, 5)
    assert given and all(before == 2 * after for before, after in given)
    assert len(given) == len(of_kind(plain, nn.ReLU))
    assert trainable(wide) > 1.5 * trainable(plain)


@every_net
def test_three_pieces_fit_as_well(name):
    net = MORE[name]
    maxout = adapters("convclinic.tricks.activate")["maxout"](pieces=3)
    built = build(net, activate=maxout, norm=NORMS["batch_norm"])
    assert built(least_images(net)).isfinite().all()


WITHOUT_NORM = {"fast": 1, "nin": 1, "squeezenet": 1}  # the frozen whitening convolution; the logits


@every_net
@pytest.mark.parametrize("norm", NORMS)
def test_a_chosen_norm_takes_the_place_of_the_own_one(name, norm):
    net = MORE[name]
    built = build(net, norm=NORMS[norm])
    for training in (True, False):
        assert built.train(training)(least_images(net)).isfinite().all()
    wanted = type(NORMS[norm].build(8))
    norms = (nn.BatchNorm2d, nn.GroupNorm, LocalResponse)
    assert {type(module) for module in of_kind(built, norms)} == {wanted} - {nn.Identity}
    biased = sum(conv.bias is not None for conv in of_kind(built, nn.Conv2d))
    if norm in ("batch_norm", "group_norm"):
        assert biased == WITHOUT_NORM.get(name, 0)
    else:
        assert biased == len(of_kind(built, nn.Conv2d))


# mobilenet_v2 has ten at full width; narrowed, its first block keeps its number of maps too
BRANCHES = {"compact": 4, "mobilenet_v2": 11, "resnet": 8, "resnet50": 16, "resnet_cifar": 9}


@every_net
def test_the_places_for_noise_are_passed_once(name):
    net = MORE[name]
    built = build(net).eval()
    places = of_kind(built, (BranchPlace, MapsPlace, nn.Dropout))
    assert any(isinstance(place, MapsPlace) for place in places)
    assert any(isinstance(place, nn.Dropout) for place in places)
    assert sum(isinstance(place, BranchPlace) for place in places) == BRANCHES.get(name, 0)
    passed = []
    for place in places:
        place.register_forward_hook(lambda module, *_: passed.append(module))
    built(least_images(net))
    assert sorted(map(id, passed)) == sorted(map(id, places))


@every_net
def test_places_can_be_exchanged_by_name(name):
    """As spatial dropout and stochastic depth do: what stands there afterwards is what acts."""
    net = MORE[name]
    built = build(net).eval()
    x = least_images(net)
    before = built(x)
    for place, module in list(built.named_modules()):
        if isinstance(module, MapsPlace):
            built.set_submodule(place, nn.Threshold(math.inf, 0.0))
    after = built(x)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after[0], after[1])  # nothing of the images is left


@every_net
def test_an_image_is_judged_alone_when_training_is_over(name):
    net = MORE[name]
    built, x = build(net).eval(), least_images(net, n=3)
    torch.testing.assert_close(built(x)[1:2], built(x[1:2]), rtol=1e-4, atol=1e-5)


@every_net
def test_dropout_is_an_option_that_every_dropout_follows(name):
    net = MORE[name]
    if not hasattr(net, "dropout"):
        pytest.skip("fast has none: only a recipe puts one in")
    chosen = type(net)(**{**vars(net), "dropout": 0.25})
    assert {module.p for module in of_kind(build(chosen, device="meta"), nn.Dropout)} == {0.25}
    for p in (-0.1, 1.0, math.nan):
        with pytest.raises(ConvclinicError, match="dropout"):
            type(net)(dropout=p)


def test_the_papers_dropout_is_the_default():
    defaults = {
        name: kind().dropout for name, kind in adapters("convclinic.models").items() if name != "fast"
    }
    half = dict.fromkeys(("alexnet", "nin", "squeezenet", "vgg"), 0.5)
    none = dict.fromkeys(("backbone", "lenet5", "resnet", "resnet_cifar"), 0.0)
    assert defaults == {**half, **none, "googlenet": 0.4, "compact": 0.1, "mobilenet_v2": 0.2}


@pytest.mark.parametrize(
    ("kind", "option", "value", "words"),
    [
        (VGG, "depth", 12, "one of 11, 13, 16, 19, not 12"),
        (ResNet, "depth", 101, "one of 18, 34, 50, not 101"),
        (ResNetCifar, "depth", 26, "one of 20, 32, 44, 56, 110, not 26"),
        (NIN, "width", 0.0, "width must be above 0"),
        (GoogLeNet, "width", math.nan, "width must be above 0"),
        (AlexNet, "width", math.inf, "width must be above 0"),
        (AlexNet, "head", 0, "head must be at least 1"),
        (VGG, "grid", 0, "grid must be at least 1"),
    ],
)
def test_options_that_cannot_be_are_refused(kind, option, value, words):
    with pytest.raises(ConvclinicError, match=words):
        kind(**{option: value})


@pytest.mark.parametrize("name", [name for name in SMALL if hasattr(SMALL[name], "width")])
def test_width_scales_the_maps(name):
    """Half the width has about a quarter of the weights."""
    kind = type(SMALL[name])
    more = {"head": 64} if "head" in vars(SMALL[name]) else {}
    whole, half = (trainable(build(kind(width=width, **more), device="meta")) for width in (1.0, 0.5))
    assert 2 < whole / half < 4.2
