"""What only the two default nets do."""

import re

import pytest
import torch
from zoo import SMALL, build, gradients, images, layers

from convclinic.ground.discovery import card
from convclinic.models.compact import Compact, Stage
from convclinic.models.fast import Fast
from convclinic.tricks.activate.gelu import GELU
from convclinic.tricks.activate.maxout import Maxout
from convclinic.tricks.activate.relu import ReLU
from convclinic.tricks.normalise.none import NoNorm

FAST, COMPACT = SMALL["fast"], SMALL["compact"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(9, 9), (16, 16), (28, 28), (32, 32), (33, 45), (64, 64)])
def test_fast_maps_any_size_to_logits(channels, size):
    net = build(FAST, channels)
    for training in (True, False):
        assert net.train(training)(images(2, channels, *size)).shape == (2, 5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (96, 160), (160, 64), (101, 131), (160, 160)])
def test_compact_maps_any_size_and_aspect_to_logits(channels, size):
    net = build(COMPACT, channels)
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
    parameters = list(build(net, channels, n_classes, device="meta").parameters())
    assert sum(p.numel() for p in parameters if p.requires_grad) == trainable
    assert sum(p.numel() for p in parameters if not p.requires_grad) == frozen


@pytest.mark.parametrize("net", [Fast(), Compact()])
def test_the_card_tells_the_size(net):
    written = re.search(r"about (\d+\.\d) million", card(type(net)))
    parameters = build(net, 3, 10, device="meta").parameters()
    assert written is not None
    assert float(written[1]) == round(sum(p.numel() for p in parameters if p.requires_grad) / 1e6, 1)


NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def test_the_names_of_saved_weights_stay_what_they_were():
    """Models that were saved before the nets had places for noise still load."""
    fast = {"whiten.weight", "whiten.bias", "head.weight"}
    for i in (1, 2):
        fast |= {f"groups.0.conv{i}.weight"} | {f"groups.0.norm{i}.{part}" for part in NORM}
    assert set(build(Fast(widths=(8,))).state_dict()) == fast
    compact = {"head.weight", "head.bias"}
    for conv, norm in [
        ("stem.0", "stem.1"),
        ("stages.0.enter.0", "stages.0.enter.1"),
        ("stages.0.branch.0", "stages.0.branch.1"),
        ("stages.0.branch.3", "stages.0.branch.4"),
    ]:
        compact |= {f"{conv}.weight"} | {f"{norm}.{part}" for part in NORM}
    assert set(build(Compact(widths=(8,))).state_dict()) == compact


def behind_a_closed_branch(net):
    """Names of parameters whose output is multiplied by a scale that starts at zero."""
    stages = [name for name, module in net.named_modules() if isinstance(module, Stage)]
    inner = [f"{stage}.branch.{part}." for stage in stages for part in (0, 1, 3)]
    return {name for name, _ in net.named_parameters() if name.startswith(tuple(inner))}


@pytest.mark.parametrize("kind", [FAST, COMPACT])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("activate", [GELU(), ReLU()])
def test_gradients_reach_every_trainable_parameter(kind, channels, activate):
    net = build(kind, channels, activate=activate)
    x = images(8, channels, 32, 32)
    found = gradients(net, x)
    silent = {name for name, grad in found.items() if grad is None or not grad.any()}
    assert silent == behind_a_closed_branch(net)
    torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1).step()
    assert all(grad.isfinite().all() and grad.any() for grad in gradients(net, x).values())


def test_stages_start_as_their_first_convolution():
    stage, x = Stage(4, 6, 2, layers(GELU())), images(3, 4, 8, 8)
    assert stage(x).shape == (3, 6, 4, 4)
    assert torch.equal(stage(x), stage.act(stage.enter(x)))


def test_a_norm_without_a_scale_leaves_the_branch_open():
    stage, x = Stage(4, 6, 2, layers(GELU(), NoNorm())), images(3, 4, 8, 8)
    assert not torch.equal(stage(x), stage.act(stage.enter(x)))


def test_fast_freezes_its_filters_and_its_norms_scale():
    net = build(FAST)
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    norms = {f"groups.{g}.norm{i}.weight" for g in range(3) for i in (1, 2)}
    assert frozen == {"whiten.weight"} | norms
    assert net.whiten.bias.requires_grad


def test_maxout_lets_the_whitened_maps_pass():
    """The filters are given, so there are no pieces to choose from and nothing is lost."""
    net = build(FAST, activate=Maxout(pieces=2))
    assert net.whiten.weight.shape == (24, 3, 2, 2)
    seen = []
    net.groups.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x = images(2, 3, 16, 16)
    net(x)
    assert torch.equal(seen[0], net.whiten(x))


def test_an_image_is_judged_alone_when_training_is_over():
    for net in (build(FAST).eval(), build(COMPACT).eval()):
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


@pytest.mark.parametrize(
    ("net", "least"), [(Fast(), 9), (Fast(widths=(8,), kernel=3), 4), (Compact(), 32), (Compact((8,)), 4)]
)
def test_the_least_size_leaves_one_pixel_before_the_head(net, least):
    assert net.least == least
    built = build(net).eval()
    seen = []
    body = built.groups if isinstance(net, Fast) else built.stages
    body.register_forward_hook(lambda *call: seen.append(call[2].shape[2:]))
    built(images(1, 3, least, least))
    assert seen == [(1, 1)]


def test_shapes_are_checked_while_tests_run():
    with pytest.raises(Exception, match="Type-check error"):
        build(FAST)(images(3, 32, 32))
    with pytest.raises(Exception, match="Type-check error"):
        build(COMPACT)(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
