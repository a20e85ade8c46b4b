"""How models are wired, and which weights look fresh."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convclinic.clinic.fresh import is_fresh, share_alike, share_twins
from convclinic.clinic.wiring import groups, layers, setup, wired_again
from convclinic.kinds import Layers
from convclinic.models.resnet_cifar import ResNetCifar

DRAWS: dict[str, Callable[[Tensor], object]] = {
    "kaiming_uniform": nn.init.kaiming_uniform_,
    "kaiming_normal": nn.init.kaiming_normal_,
    "he_for_relu": lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"),
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "truncated": lambda w: nn.init.trunc_normal_(w, std=0.02),
    "orthogonal": nn.init.orthogonal_,
    "normal": lambda w: nn.init.normal_(w, std=0.01),
    "zeros": nn.init.zeros_,
    "constant": lambda w: nn.init.constant_(w, 0.3),
}


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(16, 32, 3),
    "linear": lambda: nn.Linear(256, 128),
    "small": lambda: nn.Conv2d(1, 6, 5),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("draw", ["default", *DRAWS])
def test_draws_look_fresh(draw: str, layer: str, seed: int) -> None:
    torch.manual_seed(seed)
    made = LAYERS[layer]()
    if draw != "default":
        DRAWS[draw](made.weight)
        if layer == "small":  # too few weights to tell a normal draw without the biases
            nn.init.zeros_(made.bias)
    assert is_fresh(made.weight, made.bias)


def test_too_few_weights_to_tell_count_as_touched() -> None:
    small = nn.Conv2d(1, 6, 5, bias=False)
    nn.init.kaiming_normal_(small.weight)
    assert not is_fresh(small.weight, None)


def blobs(n: int) -> tuple[Tensor, Tensor]:
    labels = torch.arange(n) % 4
    return torch.randn(n, 1, 8, 8) * 0.5 + torch.randn(4, 1, 8, 8)[labels], labels


@pytest.mark.parametrize("seed", range(3))
def test_trained_weights_do_not(seed: int) -> None:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 4),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    assert all(layer.untouched for layer in layers(net, [optimizer]))
    inputs, labels = blobs(128)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net(inputs), labels).backward()
        optimizer.step()
    assert not any(layer.untouched for layer in layers(net, [optimizer]))


def test_gain_units_and_head() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(4, 64, 3, groups=2), nn.GroupNorm(4, 64), nn.ConvTranspose2d(64, 32, 2), nn.PReLU(),
        nn.Flatten(), nn.Linear(512, 10, bias=False),
    )  # fmt: skip
    nn.init.kaiming_normal_(net[0].weight)
    found = layers(net, [])
    assert [layer.kind for layer in found] == ["conv", "norm", "conv", "other", "linear"]
    assert [layer.units for layer in found] == [64, 64, 32, 1, 10]
    assert [layer.head for layer in found] == [False, False, False, False, True]
    assert found[0].gain == pytest.approx(2**0.5, rel=0.1)
    assert found[4].gain == pytest.approx(3**-0.5, rel=0.05) and found[1].gain != found[1].gain
    assert all(layer.optimised for layer in found), "without optimizers nobody can tell"


def test_the_order_of_running_names_the_head() -> None:
    net = nn.ModuleDict({"head": nn.Linear(4, 2), "body": nn.Linear(4, 4)})
    assert [layer.name for layer in layers(net, [], ["body", "head"]) if layer.head] == ["head"]
    assert [layer.name for layer in layers(net, []) if layer.head] == ["body"]


def test_missing_foreign_and_frozen() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(2, 2))
    net[2].requires_grad_(False)
    stranger = nn.Parameter(torch.ones(2))
    found = setup(net, [torch.optim.SGD([*net[0].parameters(), stranger], 0.1)])
    assert found.missing == ("1.weight", "1.bias") and found.foreign == 1
    assert [layer.optimised for layer in found.layers] == [True, False, False]
    assert [layer.trainable for layer in found.layers] == [True, True, False]
    assert (found.parameters, found.trainable) == (29, 23)
    assert setup(net, []).missing == ()


def test_tied_weights_are_missing_nowhere() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    assert setup(net, [torch.optim.SGD(net.parameters(), 0.1)]).missing == ()


def test_modes_and_dropouts() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.3))
    net[1].eval()
    found = setup(net, [])
    assert found.modes == ("1",) and found.training
    assert found.dropouts == (("2", 0.3),) and found.batch_norms == 1
    net.eval()
    again = wired_again(found, net, [])
    assert again is not None and not again.training and again.modes == ()
    assert wired_again(None, net, []) is None


def test_wiring_that_changes() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    net[0].requires_grad_(False)
    optimizer = torch.optim.SGD(net[1].parameters(), 0.1)
    before = setup(net, [optimizer])
    net[0].requires_grad_(True)
    after = wired_again(before, net, [optimizer])
    assert after is not None and after.missing == ("0.weight", "0.bias") and before.missing == ()
    assert after.layers[0].trainable and not after.layers[0].optimised
    assert after.layers[0].gain == before.layers[0].gain


@pytest.mark.parametrize(
    "net, first_norm",
    [
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), True),
        (nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 4, 3), nn.ReLU()), True),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Identity(), nn.AvgPool2d(2), nn.GroupNorm(2, 4)), True),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), False),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)), False),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Tanh()), False),
        (ResNetCifar(width=0.25).build(1, 4, Layers(lambda channels: nn.ReLU())), True),
    ],
)
def test_a_norm_behind_the_first_layer(net: nn.Module, first_norm: bool) -> None:
    assert setup(net, []).first_norm is first_norm


@pytest.mark.parametrize(
    "make, name, momentum, adaptive",
    [
        (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.2, maximize=True), "SGD", 0.9, False),
        (lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.2), "SGD", 0.0, False),
        (lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.2), "Adam", 0.9, True),
        (lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.2), "AdamW", 0.9, True),
        (lambda p: torch.optim.RMSprop(p, 0.1, weight_decay=0.2), "RMSprop", 0.0, True),
        (lambda p: torch.optim.Adagrad(p, 0.1, weight_decay=0.2), "Adagrad", 0.0, True),
    ],
)
def test_parameter_groups(
    make: Callable[..., torch.optim.Optimizer], name: str, momentum: float, adaptive: bool
) -> None:
    (found,) = groups([make(nn.Linear(3, 2).parameters())])
    assert (found.optimizer, found.momentum, found.adaptive) == (name, momentum, adaptive)
    assert (found.lr, found.weight_decay, found.parameters) == (0.1, 0.2, 8)
    assert found.maximize is (momentum == 0.9 and name == "SGD")


def test_rows_that_are_alike() -> None:
    rows = torch.randn(6, 200)
    assert share_alike(rows) == 0.0 and share_alike(rows[:1]) == 0.0
    rows[4] = rows[1]
    assert share_alike(rows) == pytest.approx(2 / 6)
    near = rows.clone()
    near[4, 7] += 1e-3
    assert share_alike(near) == 0.0


def test_twins_need_equal_weights_and_equal_gradients() -> None:
    same, different = torch.ones(4, 3), torch.arange(12.0).reshape(4, 3)
    assert share_twins(same, same) == 1.0 and share_twins(same, torch.zeros(4, 3)) == 1.0
    assert share_twins(same, different) == 0.0 and share_twins(different, same) == 0.0
    pairs = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0 + 1e-6], [3.0, 4.0]])
    assert share_twins(torch.ones(4, 2), pairs) == 1.0
    assert share_twins(torch.ones(2, 2), torch.full((2, 2), torch.nan)) == 0.0
