"""Preflight tells what it should of one batch, and leaves nothing behind."""

from __future__ import annotations

import copy
import math
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convclinic.clinic import preflight
from convclinic.clinic.untouched import untouched
from convclinic.kinds import Layers
from convclinic.models.resnet_cifar import ResNetCifar

Nets = dict[str, Callable[[], nn.Module]]


class FunctionalDropout(nn.Module):
    """Draws from torch, numpy, Python and generators of its own, counts its calls, and gives a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(64, 16), nn.Linear(16, 4)
        self.calls, self.seen = 0, [0]
        self.own, self.noise = torch.Generator().manual_seed(1), np.random.default_rng(2)
        self.mean = torch.zeros(())

    def forward(self, x: Tensor) -> dict[str, Any]:
        self.calls += 1
        self.seen.append(self.calls)
        self.mean += x.detach().mean()
        shift = random.random() + np.random.rand() + self.noise.random()  # noqa: NPY002 - the global state is the point
        x = F.dropout(F.relu(self.layer(x.flatten(1) + shift)), 0.5, training=True)
        return {"logits": self.head(x + torch.rand(x.shape, generator=self.own))}


class Shared(nn.Module):
    """One layer twice, weights that are kept in bounds in every forward pass, and spectral norm."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(64, 64)
        self.again = self.inner
        self.head = nn.utils.parametrizations.spectral_norm(nn.Linear(64, 4))
        self.old = nn.utils.spectral_norm(nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.inner.weight.data = self.inner.weight.data.clamp(-0.1, 0.1)
        with torch.no_grad():
            self.inner.bias.mul_(0.5)
        return self.old(self.head(self.again(torch.relu(self.inner(x.flatten(1))))))


def lenet() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 4))


def noisy() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.3), nn.Flatten(),
        nn.Linear(144, 8), nn.BatchNorm1d(8, momentum=None), nn.Dropout(), nn.Linear(8, 4),
    )  # fmt: skip


def frozen() -> nn.Module:
    net = noisy()
    net[0].requires_grad_(False)
    net[1].eval()
    return net


def resnet() -> nn.Module:
    return ResNetCifar(width=0.25).build(1, 4, Layers(lambda channels: nn.ReLU()))


NETS: Nets = {
    "lenet": lenet, "noisy": noisy, "frozen": frozen, "resnet": resnet, "dict": FunctionalDropout,
    "shared": Shared, "eval": lambda: noisy().eval(),
}  # fmt: skip
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=1e-4),
    "adam": lambda p: torch.optim.Adam(p, 1e-3),
}


def batch(n: int = 12) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(5)
    return torch.rand(n, 1, 8, 8, generator=rng), torch.arange(n) % 4


def logits_of(output: Any) -> Tensor:
    return output["logits"] if isinstance(output, dict) else output


def loss_of(output: Any, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits_of(output), targets)


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    inputs, targets = batch()
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(net(inputs), targets).backward()
        optimizer.step()


def everything(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[Any]:
    """All that preflight could change, as values to compare."""
    state: list[Any] = [torch.get_rng_state(), random.getstate(), str(np.random.get_state())]  # noqa: NPY002
    state += [torch.backends.cudnn.benchmark, torch.is_autocast_cache_enabled(), torch.is_grad_enabled()]
    for name, module in net.named_modules():
        state += [name, module.training, sorted(vars(module))]
        state += [list(hooks) for key, hooks in sorted(vars(module).items()) if key.endswith("_hooks")]
        for key, value in vars(module).items():
            if isinstance(value, Tensor):
                state += [key, value.detach().clone()]
            if isinstance(value, int | list):
                state += [key, copy.copy(value)]
    for name, parameter in net.named_parameters():
        gradient = parameter.grad
        state += [
            name,
            id(parameter),
            parameter.data_ptr(),
            parameter.detach().clone(),
            parameter.requires_grad,
        ]
        state += [
            id(gradient),
            None if gradient is None else gradient.clone(),
            list(parameter._backward_hooks or ()),
        ]
    for name, buffer in net.named_buffers():
        state += [name, id(buffer), buffer._version, buffer.clone()]
    for value in optimizer.state.values():
        state += [item.clone() if isinstance(item, Tensor) else item for item in value.values()]
    state += [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    return [*state, str(vars(net).get("noise") and net.noise.bit_generator.state)]


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETS)
def test_preflight_leaves_everything_as_it_was(name: str, optimizer: str, steps: int) -> None:
    torch.manual_seed(0)
    net = NETS[name]()
    first = next(p for p in net.parameters() if p.requires_grad)
    calls: list[int] = []
    first.register_hook(lambda gradient: calls.append(1))
    optim = OPTIMIZERS[optimizer]([p for p in net.parameters() if p.requires_grad])
    train(net, optim, steps)
    called, before = len(calls), everything(net, optim)
    _, _, found = preflight.measure(net, [optim], *batch(), loss_of, 4)
    assert not found.error and found.depth and found.one_batch is not None
    assert same(before, everything(net, optim))
    assert len(calls) == called, "the user's own gradient hooks belong to the loop alone"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETS)
def test_training_is_the_same_with_and_without_it(name: str, optimizer: str) -> None:
    ends: list[list[Any]] = []
    for examined in (False, True):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - the global state is the point
        random.seed(0)
        net = NETS[name]()
        optim = OPTIMIZERS[optimizer]([p for p in net.parameters() if p.requires_grad])
        if examined:
            preflight.measure(net, [optim], *batch(), loss_of, 4)
        train(net, optim, 3)
        ends.append([*net.state_dict().values(), torch.rand(3), random.random(), float(np.random.rand())])  # noqa: NPY002
    assert same(*ends)


def test_it_undoes_even_what_raises_in_the_middle() -> None:
    net = noisy()
    before = everything(net, torch.optim.SGD(net.parameters(), 0.1))
    with pytest.raises(RuntimeError, match="in the middle"), untouched(net):
        net(batch()[0])
        net[0].weight.data.zero_()
        net.eval()
        net.register_forward_hook(lambda *_: None)
        net[1].running_mean = torch.ones(4)
        raise RuntimeError("in the middle")
    assert same(before, everything(net, torch.optim.SGD(net.parameters(), 0.1)))


def test_a_graph_of_the_loop_survives() -> None:
    """Between a forward pass and its backward pass nothing may write to what the graph has kept."""
    net, (inputs, targets) = noisy(), batch()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    loss = loss_of(net(inputs), targets)
    versions = [tensor._version for tensor in net.state_dict(keep_vars=True).values()]
    preflight.measure(net, [optimizer], inputs, targets, loss_of)
    assert versions == [tensor._version for tensor in net.state_dict(keep_vars=True).values()]
    loss.backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("inside", [False, True])
def test_autocast_keeps_no_casts_without_gradients(inside: bool) -> None:
    net, (inputs, targets) = lenet(), batch()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    if not inside:
        preflight.measure(net, [optimizer], inputs, targets, loss_of)
    with torch.autocast("cpu", torch.bfloat16):
        if inside:
            preflight.measure(net, [optimizer], inputs, targets, loss_of)
            with untouched(net), torch.no_grad():
                net(inputs)
        loss = loss_of(net(inputs).float(), targets)
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())


def test_wrapped_models_are_taken_as_what_is_inside() -> None:
    net, (inputs, targets) = lenet(), batch()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    plain = preflight.measure(net, [optimizer], inputs, targets, loss_of)
    wrapped = preflight.measure(torch.compile(net, backend="eager"), [optimizer], inputs, targets, loss_of)
    parallel = preflight.measure(nn.DataParallel(net), [optimizer], inputs, targets, loss_of)
    assert plain == wrapped == parallel
    assert [depth.name for depth in wrapped[2].depth] == ["0", "4"]


def examined(
    net: nn.Module, inputs: Tensor, targets: Tensor, loss_fn: Any = F.cross_entropy
) -> tuple[Any, Any, Any]:
    return preflight.measure(net, [torch.optim.SGD(net.parameters(), 0.1)], inputs, targets, loss_fn)


def test_depth_stands_in_the_order_of_running() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.norm, self.first = nn.Linear(8, 4), nn.BatchNorm1d(8), nn.Linear(64, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.norm(self.first(x.flatten(1)))))

    setup, _, found = examined(Backwards(), *batch())
    assert [depth.name for depth in found.depth] == ["first", "head"]
    assert [layer.name for layer in setup.layers if layer.head] == ["head"]
    assert setup.first_norm
    assert all(depth.gradient > 0 and depth.relative > 0 and depth.output > 0 for depth in found.depth)


def constant(net: nn.Module, value: float) -> nn.Module:
    for parameter in net.parameters():
        nn.init.constant_(parameter, value)
    return net


def test_units_that_can_never_differ() -> None:
    assert [depth.alike for depth in examined(constant(lenet(), 0.05), *batch())[2].depth] == [1.0, 0.0]
    assert [depth.alike for depth in examined(constant(lenet(), 0.0), *batch())[2].depth] == [1.0, 0.0]


def test_zero_heads_and_fresh_nets_are_not_alike() -> None:
    net = lenet()
    assert [depth.alike for depth in examined(net, *batch())[2].depth] == [0.0, 0.0]
    nn.init.zeros_(net[4].weight)
    setup, _, found = examined(net, *batch())
    assert [depth.alike for depth in found.depth] == [0.0, 0.0]
    assert setup.layers[1].alike == 1.0 and setup.layers[1].gain == 0.0


@pytest.mark.parametrize("reduction, ratio", [("mean", 1.0), ("sum", 2.0)])
def test_a_doubled_batch_tells_the_reduction(reduction: str, ratio: float) -> None:
    found = examined(noisy(), *batch(), nn.CrossEntropyLoss(reduction=reduction))[2]
    assert found.doubled == pytest.approx(ratio, rel=1e-5)


@pytest.mark.parametrize(
    "targets, loss_fn, words",
    [
        (torch.arange(12) % 5, nn.CrossEntropyLoss(), "labels run from 0 to 4, the net has outputs 0 to 3"),
        (torch.arange(12) % 4 - 1, nn.CrossEntropyLoss(), "labels run from -1 to 2"),
        ((torch.arange(12) % 4).float(), nn.CrossEntropyLoss(), "must be int64"),
        (torch.zeros(12, 3), nn.CrossEntropyLoss(), r"outputs are \(12, 4\), targets \(12, 3\)"),
    ],
)
def test_what_the_loss_raises_is_told(targets: Tensor, loss_fn: nn.Module, words: str) -> None:
    _, first, found = examined(lenet(), batch()[0], targets, loss_fn)
    assert re.search(words, found.error)
    assert found.one_batch is None and math.isnan(found.doubled)
    assert first.outputs is not None and math.isnan(first.losses.cross_entropy)


def test_a_batch_that_the_net_cannot_take_is_told() -> None:
    setup, first, found = examined(lenet(), torch.rand(12, 3, 8, 8), batch()[1])
    assert found.error.startswith("the model cannot take this batch: RuntimeError")
    assert first.outputs is None and first.inputs.shape == (12, 3, 8, 8) and len(setup.layers) == 2


def test_lazy_layers_stay_lazy() -> None:
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    found = preflight.measure(net, [], *batch(), loss_of)[2]
    assert "lazy" in found.error and isinstance(net[1], nn.LazyLinear)


def test_gradients_that_are_there_already() -> None:
    net = lenet()
    assert not examined(net, *batch())[2].stale
    loss_of(net(batch()[0]), batch()[1]).backward()
    assert examined(net, *batch())[2].stale
    for parameter in net.parameters():
        parameter.grad.zero_()
    assert not examined(net, *batch())[2].stale


def test_the_copy_is_fitted_only_where_wanted() -> None:
    net = lenet()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    found = preflight.measure(net, [optimizer], *batch(), loss_of, 4, fit_copy=False)[2]
    assert found.one_batch is None and found.depth and not found.error


def test_a_loss_that_is_no_tensor_is_told() -> None:
    found = examined(lenet(), *batch(), lambda logits, targets: 0.5)[2]
    assert "the loss gives float, not a tensor" in found.error
