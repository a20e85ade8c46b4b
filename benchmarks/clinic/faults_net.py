"""Faults of how the optimizer holds the net, of initialisation and of activations."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from clinic.loop import Run
from clinic.nets import Deep, Detached, Plain, head_of
from clinic.planting import RELU, SGD, UNNORMED, Plant, fault, weighted

# The optimizer's parameters


@fault("parameters_not_in_optimizer", nets=("normed", "resnet"))
def head_not_in_optimizer(run: Run) -> None:
    head = head_of(run.model)
    own = {id(p) for p in head.parameters()}
    run.parameters = lambda model: [p for p in model.parameters() if id(p) not in own]


@fault("parameters_not_in_optimizer")
def only_head_in_optimizer(run: Run) -> None:
    run.parameters = lambda model: list(head_of(model).parameters())


@fault("optimizer_stale")
def optimizer_of_an_earlier_copy(run: Run) -> None:
    earlier = copy.deepcopy(run.model)
    run.parameters = lambda model: earlier.parameters()


@fault("optimizer_stale", nets=("normed", "resnet"), data=("fashion", "cifar", "digits"))
def head_replaced_after(run: Run) -> None:
    old = head_of(run.model)
    everything = list(run.model.parameters())
    new = copy.deepcopy(old)
    with torch.no_grad():
        for p in new.parameters():
            p.copy_(0.05 * torch.randn_like(p))
    for module in run.model.modules():
        for name, child in list(module.named_children()):
            if child is old:
                setattr(module, name, new)
    run.parameters = lambda model: everything


@fault("frozen_parameters")
def random_body_frozen(run: Run) -> None:
    head = {id(p) for p in head_of(run.model).parameters()}
    for p in run.model.parameters():
        p.requires_grad_(id(p) in head)
    run.parameters = lambda model: [p for p in model.parameters() if p.requires_grad]


@fault("frozen_parameters", nets=("plain",))
def detached_body(run: Run) -> None:
    assert isinstance(run.model, Plain)
    run.model = Detached(run.model.body, run.model.head)


@fault("frozen_parameters", "lr_too_low", "parameters_not_in_optimizer")
def body_with_rate_zero(run: Run) -> None:
    def groups(model: nn.Module) -> list[dict[str, object]]:
        own = list(head_of(model).parameters())
        ids = {id(p) for p in own}
        return [{"params": [p for p in model.parameters() if id(p) not in ids], "lr": 0.0}, {"params": own}]

    run.parameters = groups


# Initialisation and activations


@torch.no_grad()
def _weights(run: Run, change: Callable[[Tensor], object]) -> None:
    for module in weighted(run.model):
        change(module.weight)


@fault("symmetric_init")
def all_weights_equal(run: Run) -> None:
    _weights(run, lambda w: w.fill_(0.01))
    with torch.no_grad():
        for module in weighted(run.model):
            if module.bias is not None:
                module.bias.zero_()


@fault("symmetric_init", "init_scale", nets=UNNORMED)
def all_weights_equal_biases_random(run: Run) -> None:
    _weights(run, lambda w: w.fill_(0.01))


@fault("symmetric_init", nets=UNNORMED)
def all_weights_zero(run: Run) -> None:
    with torch.no_grad():
        for p in run.model.parameters():
            p.zero_()


@fault("init_scale", "saturated_activation", "exploding_gradient", nets=UNNORMED)
def weights_x10(run: Run) -> None:
    _weights(run, lambda w: w.mul_(10))


@fault("init_scale", "vanishing_gradient", nets=UNNORMED, optimizers=SGD)
def weights_x001(run: Run) -> None:
    _weights(run, lambda w: w.mul_(0.01))


@fault("init_scale", nets=UNNORMED)
def standard_normal_weights(run: Run) -> None:
    _weights(run, lambda w: w.normal_())


def _deep(activation: type[nn.Module], depth: int = 10) -> Plant:
    def plant(run: Run) -> None:
        run.model = Deep(run.data.shape[0], run.data.classes, activation, depth)

    return plant


fault("vanishing_gradient", name="deep_sigmoid")(_deep(nn.Sigmoid))
fault("vanishing_gradient", name="deep_sigmoid_sgd", optimizers=SGD)(_deep(nn.Sigmoid, 6))
fault("vanishing_gradient", "init_scale", name="deep_plain_relu", optimizers=SGD)(_deep(nn.ReLU, 14))


@fault("vanishing_gradient", "init_scale", optimizers=SGD)
def deep_tanh_small(run: Run) -> None:
    _deep(nn.Tanh)(run)
    _weights(run, lambda w: w.mul_(0.3))


@fault("exploding_gradient", "init_scale", "lr_too_high", optimizers=SGD)
def deep_relu_large(run: Run) -> None:
    _deep(nn.ReLU, 12)(run)
    _weights(run, lambda w: nn.init.kaiming_normal_(w).mul_(1.7))


@fault("exploding_gradient", "non_finite", "lr_too_high", nets=UNNORMED, optimizers=SGD)
def rate_spikes_in_the_middle(run: Run) -> None:
    run.schedule = lambda step, steps: 300.0 if step == 60 else 1.0


@fault("dead_relu", nets=RELU)
def negative_biases(run: Run) -> None:
    with torch.no_grad():
        for module in weighted(run.model)[:-1]:
            module.bias.fill_(-3.0)


@fault("dead_relu", "lr_too_high", nets=RELU, optimizers=SGD)
def relu_killed_by_one_step(run: Run) -> None:
    run.schedule = lambda step, steps: 200.0 if step == 12 else 1.0


@fault("saturated_activation", nets=("lenet",))
def tanh_biases_at_the_end(run: Run) -> None:
    with torch.no_grad():
        for module in weighted(run.model)[:-1]:
            module.bias.copy_(8 * torch.randn_like(module.bias).sign())


@fault("predicts_one_class", "init_scale", optimizers=SGD)
def head_bias_of_one_class(run: Run) -> None:
    with torch.no_grad():
        head_of(run.model).bias[0] = 60.0
