"""Faults of what goes in, of the loss, of the learning rate and of the loop itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clinic.loop import Run
from clinic.nets import NORMED
from clinic.planting import ADAPTIVE, SGD, UNNORMED, Plant, fault, set_dropout, with_val


def add_output(run: Run, layer: nn.Module) -> None:
    """Put `layer` behind the head."""
    run.model = nn.Sequential(run.model, layer)


def both(run: Run, change: Callable[[Tensor], Tensor]) -> None:
    """Prepare training and validation images alike, and wrongly."""
    run.prepare = run.prepare_val = change


# Inputs


@fault("inputs_not_normalised", nets=UNNORMED, optimizers=SGD)
def pixels_255_sgd(run: Run) -> None:
    both(run, lambda x: x * 255)


@fault("inputs_not_normalised", nets=("lenet",), optimizers=ADAPTIVE)
def pixels_255_tanh(run: Run) -> None:
    both(run, lambda x: x * 255)


@fault("inputs_not_normalised", nets=UNNORMED, optimizers=SGD)
def divided_by_255_twice(run: Run) -> None:
    both(run, lambda x: x / 255)


@fault("inputs_not_normalised", nets=UNNORMED, optimizers=SGD)
def scale_1e_3(run: Run) -> None:
    standard = run.prepare
    both(run, lambda x: standard(x) * 1e-3)


@fault("inputs_not_normalised", nets=UNNORMED)
def far_from_zero(run: Run) -> None:
    standard = run.prepare
    both(run, lambda x: standard(x) + 30)


@fault("inputs_constant")
def blank_images(run: Run) -> None:
    both(run, torch.zeros_like)


@fault("inputs_constant")
def same_image_again(run: Run) -> None:
    standard, first = run.prepare, run.data.train[:1]
    run.prepare = lambda x: standard(first).expand_as(x)


# Loss


@fault("wrong_loss_pairing", optimizers=SGD)
def softmax_before_cross_entropy(run: Run) -> None:
    add_output(run, nn.Softmax(1))


@fault("wrong_loss_pairing", optimizers=SGD)
def sigmoid_before_cross_entropy(run: Run) -> None:
    add_output(run, nn.Sigmoid())


@fault("wrong_loss_pairing")
def relu_before_cross_entropy(run: Run) -> None:
    add_output(run, nn.ReLU())


@fault("wrong_loss_pairing")
def nll_on_logits(run: Run) -> None:
    run.loss_fn = nn.NLLLoss()


@fault("wrong_loss_pairing", optimizers=SGD)
def nll_on_probabilities(run: Run) -> None:
    add_output(run, nn.Softmax(1))
    run.loss_fn = nn.NLLLoss()


def _onehot(targets: Tensor, classes: int) -> Tensor:
    return F.one_hot(targets, classes).float()


@fault("wrong_loss_pairing", optimizers=SGD)
def mse_on_softmax(run: Run) -> None:
    classes = run.data.classes
    run.loss_fn = lambda logits, targets: F.mse_loss(logits.softmax(1), _onehot(targets, classes))


@fault("wrong_loss_pairing", optimizers=("sgd",), nets=UNNORMED)
def mse_on_logits(run: Run) -> None:
    classes = run.data.classes
    run.loss_fn = lambda logits, targets: F.mse_loss(logits, _onehot(targets, classes))


@fault("loss_reduction", "lr_too_high", optimizers=SGD)
def summed_loss(run: Run) -> None:
    run.loss_fn = nn.CrossEntropyLoss(reduction="sum")


@fault("loss_reduction", optimizers=("sgd",))
def divided_by_batch_twice(run: Run) -> None:
    run.loss_fn = lambda logits, targets: F.cross_entropy(logits, targets) / len(targets)


@fault("flipped_loss_sign")
def negative_cross_entropy(run: Run) -> None:
    run.loss_fn = lambda logits, targets: -F.cross_entropy(logits, targets)


@fault("flipped_loss_sign")
def maximize(run: Run) -> None:
    run.options = {"maximize": True}


# Learning rate


def _lr(factor: float) -> Plant:
    def plant(run: Run) -> None:
        run.lr *= factor

    return plant


fault("lr_too_high", name="lr_x100_sgd", optimizers=SGD)(_lr(100))
fault("lr_too_high", name="lr_x100_adaptive", optimizers=ADAPTIVE)(_lr(100))
fault("lr_too_high", name="lr_x20_unnormed", nets=UNNORMED)(_lr(20))
fault("lr_too_high", name="lr_x1000_to_nan", optimizers=SGD, nets=UNNORMED)(_lr(10000))
fault("lr_too_low", name="lr_over_1000", optimizers=SGD)(_lr(1e-3))
fault("lr_too_low", name="lr_over_1000_adaptive", optimizers=ADAPTIVE)(_lr(1e-3))
fault("lr_too_low", name="lr_over_100", optimizers=("sgd",))(_lr(1e-2))


@fault("plateau", "lr_too_low")
def rate_falls_too_early(run: Run) -> None:
    run.schedule = lambda step, steps: 0.1 ** (step // 8)


# The loop


@fault("missing_zero_grad", optimizers=SGD)
def no_zero_grad_sgd(run: Run) -> None:
    run.zero_grad = False


@fault("missing_zero_grad", optimizers=ADAPTIVE)
def no_zero_grad_adaptive(run: Run) -> None:
    run.zero_grad = False


@fault("wrong_mode", nets=NORMED, optimizers=SGD)
def trained_in_eval_mode(run: Run) -> None:
    run.training = False


@fault("wrong_mode", nets=NORMED, optimizers=SGD)
def never_back_to_training(run: Run) -> None:
    run.back = False
    run.data = run.data.with_train(torch.arange(400))  # short epochs


@fault("wrong_mode", nets=NORMED)
def validated_in_training_mode(run: Run) -> None:
    run.evaluating = True
    order = run.data.val_labels.argsort()  # a folder's order
    with_val(run, run.data.val[order], run.data.val_labels[order])


@fault("wrong_mode", data=("fashion", "cifar", "digits"), nets=UNNORMED)
def dropout_in_validation(run: Run) -> None:
    run.evaluating = True
    set_dropout(run.model, 0.6)
