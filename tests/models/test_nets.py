import re

import pytest
import torch
import torch.nn.functional as F

from convclinic.ground.discovery import adapters, card
from convclinic.models.compact import Compact, Stage
from convclinic.models.fast import Fast
from convclinic.tricks.activate.gelu import GELU
from convclinic.tricks.activate.relu import ReLU

SMALL = {Fast: Fast(widths=(8, 12, 16)), Compact: Compact(widths=(8, 12, 16, 24))}


def build(net, channels=3, n_classes=5, activation=None):
    torch.manual_seed(0)
    return net.build(channels, n_classes, (activation or GELU()).build)


def images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [Fast, Compact])
def test_every_net_that_is_found_is_tested_here(kind):
    assert kind in adapters("convclinic.models").values()
    assert set(SMALL) == set(adapters("convclinic.models").values())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 16), (28, 28), (32, 32), (33, 45), (64, 64)])
def test_fast_maps_any_size_to_logits(channels, size):
    net = build(SMALL[Fast], channels)
    for training in (True, False):
        assert net.train(training)(images(2, channels, *size)).shape == (2, 5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (96, 160), (160, 64), (101, 131), (160, 160)])
def test_compact_maps_any_size_and_aspect_to_logits(channels, size):
    net = build(SMALL[Compact], channels)
    for training in (True, False):
        assert net.train(training)(images(2, channels, *size)).shape == (2, 5)


@pytest.mark.parametrize(
    ("net", "channels", "n_classes", "trainable", "frozen"),
    [
        # by hand: whiten 24 biases, convolutions 9 (24 64 + 64 64 + 64 256 + 3 256 256), norms' biases
        # 2 (64 + 256 + 256), head 256 10; frozen: filters 24 12 and the norms' scales
        (Fast(), 3, 10, 1_971_352, 1_440),
        (Fast(), 1, 10, 1_962_120, 1_184),
        # by hand: stem 16 c 32, convolutions 9 (3 32^2 + 32 64 + 2 64^2 + 64 128 + 2 128^2 + 128 256
        # + 2 256^2), norms 2 32 + 6 (32 + 64 + 128 + 256), head 257 10
        (Compact(), 3, 10, 1_970_058, 0),
        (Compact(), 1, 2, 1_966_978, 0),
    ],
)
def test_parameters_are_counted(net, channels, n_classes, trainable, frozen):
    parameters = list(build(net, channels, n_classes).parameters())
    assert sum(p.numel() for p in parameters if p.requires_grad) == trainable
    assert sum(p.numel() for p in parameters if not p.requires_grad) == frozen


@pytest.mark.parametrize("net", [Fast(), Compact()])
def test_the_card_tells_the_size(net):
    written = re.search(r"about (\d+\.\d) million", card(type(net)))
    trainable = sum(p.numel() for p in build(net, 3, 10).parameters() if p.requires_grad)
    assert written is not None
    assert float(written[1]) == round(trainable / 1e6, 1)


def gradients(net, x, targets):
    net.zero_grad()
    F.cross_entropy(net(x), targets).backward()
    return {name: p.grad for name, p in net.named_parameters() if p.requires_grad}


def behind_a_closed_branch(net):
    """Names of parameters whose output is multiplied by a scale that starts at zero."""
    stages = [name for name, module in net.named_modules() if isinstance(module, Stage)]
    inner = [f"{stage}.branch.{part}." for stage in stages for part in (0, 1, 3)]
    return {name for name, _ in net.named_parameters() if name.startswith(tuple(inner))}


@pytest.mark.parametrize("kind", [Fast, Compact])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("activation", [GELU(), ReLU()])
def test_gradients_reach_every_trainable_parameter(kind, channels, activation):
    net = build(SMALL[kind], channels, activation=activation)
    x, targets = images(8, channels, 32, 32), torch.arange(8) % 5
    found = gradients(net, x, targets)
    silent = {name for name, grad in found.items() if grad is None or not grad.any()}
    assert silent == behind_a_closed_branch(net)
    torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1).step()
    assert all(grad.isfinite().all() and grad.any() for grad in gradients(net, x, targets).values())


def test_stages_start_as_their_first_convolution():
    stage, x = Stage(4, 6, 2, GELU().build), images(3, 4, 8, 8)
    assert stage(x).shape == (3, 6, 4, 4)
    assert torch.equal(stage(x), stage.act(stage.enter(x)))


def test_fast_freezes_its_filters_and_its_norms_scale():
    net = build(SMALL[Fast])
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    norms = {f"groups.{g}.norm{i}.weight" for g in range(3) for i in (1, 2)}
    assert frozen == {"whiten.weight"} | norms
    assert net.whiten.bias.requires_grad


def test_an_image_is_judged_alone_when_training_is_over():
    for net in (build(SMALL[Fast]).eval(), build(SMALL[Compact]).eval()):
        x = images(4, 3, 32, 32)
        assert torch.allclose(net(x)[1:2], net(x[1:2]), atol=1e-5)
        assert torch.equal(net(x), net(x))


def test_dropout_is_for_training_only():
    net = build(Compact(widths=(8, 8, 8, 16), dropout=0.5))
    x = images(4, 3, 32, 32)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
    still = build(Compact(widths=(8, 8, 8, 16), dropout=0.0))
    assert torch.equal(still(x), still(x))


def test_the_number_of_widths_is_the_depth():
    assert len(build(Fast(widths=(8, 8))).groups) == 2
    assert len(build(Compact(widths=(8, 8, 8))).stages) == 3


def test_shapes_are_checked_while_tests_run():
    with pytest.raises(Exception, match="Type-check error"):
        build(SMALL[Fast])(images(3, 32, 32))
    with pytest.raises(Exception, match="Type-check error"):
        build(SMALL[Compact])(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
