"""Dropout of features and of whole maps."""

import math

import pytest
import torch
from scipy.stats import binomtest
from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.rng import scoped
from convclinic.models._layers import BranchPlace, MapsPlace
from convclinic.tricks.regularise.dropout import Dropout
from convclinic.tricks.regularise.spatial_dropout import SpatialDropout


def tiny() -> nn.Sequential:
    """Two stages with a place for dropped maps each; dropout with a p of its own before the last layer."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), MapsPlace()),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), MapsPlace(), BranchPlace()),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(8 * 16, 3),
    )


def images(n: int = 8) -> torch.Tensor:
    return torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_dropout_sets_p_everywhere_and_leaves_the_other_places():
    net = tiny()
    net[2] = nn.Sequential(nn.Flatten(), nn.Dropout(0.7))
    Dropout(p=0.3).install(net)
    assert [module.p for module in net.modules() if isinstance(module, nn.Dropout)] == [0.3, 0.3]
    assert sum(isinstance(module, MapsPlace) for module in net.modules()) == 2


def test_spatial_dropout_fills_every_place_and_leaves_the_rest():
    net = tiny()
    SpatialDropout(p=0.2).install(net)
    filled = [net[0][1], net[1][1]]
    assert all(type(module) is nn.Dropout2d and module.p == 0.2 for module in filled)
    assert net[3].p == 0.1 and isinstance(net[1][2], BranchPlace)


@pytest.mark.parametrize("trick", [Dropout(p=0.4), SpatialDropout(p=0.4)])
def test_weights_names_and_testing_are_as_before(trick):
    plain = tiny()
    plain[3].p = 0.0
    net = tiny()
    net.load_state_dict(plain.state_dict())
    trick.install(net)
    assert net.state_dict().keys() == plain.state_dict().keys()
    net.eval()
    before = torch.get_rng_state()
    assert torch.equal(net(images()), plain.eval()(images()))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_net_that_is_tested_is_not_set_to_train():
    net = tiny().eval()
    SpatialDropout().install(net)
    assert not any(module.training for module in net.modules())


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_features_go_with_probability_p_and_the_expectation_stays(p):
    net = nn.Sequential(nn.Dropout())
    Dropout(p=p).install(net)
    x = torch.ones(200, 100)
    with scoped(0, "test"):
        y = net(x)
    assert binomtest(int((y == 0).sum()), y.numel(), p).pvalue > 0.001
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - p)))
    assert y.mean().item() == pytest.approx(1, abs=5 * math.sqrt(p / (1 - p) / y.numel()))


def test_maps_go_whole_each_for_itself_and_the_expectation_stays():
    net = nn.Sequential(MapsPlace())
    SpatialDropout(p=0.3).install(net)
    with scoped(0, "test"):
        y = net(torch.ones(50, 40, 3, 3))
    maps = y.flatten(2)
    assert (maps == maps[..., :1]).all()
    gone = maps[..., 0] == 0
    assert binomtest(int(gone.sum()), gone.numel(), 0.3).pvalue > 0.001
    assert len({tuple(row) for row in gone.tolist()}) == 50  # every image has its own draws
    assert y.mean().item() == pytest.approx(1, abs=5 * math.sqrt(0.3 / 0.7 / gone.numel()))


@pytest.mark.parametrize("kind", [Dropout, SpatialDropout])
def test_p_0_is_off_in_training_too(kind):
    net, plain = tiny(), tiny()
    net.load_state_dict(plain.state_dict())
    kind(**kind.OFF).install(net)
    net[3].p = plain[3].p = 0.0
    assert torch.equal(net(images()), plain(images()))


@pytest.mark.parametrize("trick", [Dropout(), SpatialDropout()])
def test_a_net_without_places_is_refused(trick):
    with pytest.raises(ConvclinicError, match="needs a net"):
        trick.install(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout3d(), BranchPlace()))


@pytest.mark.parametrize("kind", [Dropout, SpatialDropout])
@pytest.mark.parametrize("p", [-0.1, 1.0, math.nan])
def test_outside_is_refused(kind, p):
    with pytest.raises(ConvclinicError, match="p must lie in"):
        kind(p)
