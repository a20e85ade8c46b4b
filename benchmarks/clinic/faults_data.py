"""Faults of capacity, regularisation, augmentation, validation and of numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clinic.loop import Run
from clinic.nets import Tiny
from clinic.planting import SGD, fault, set_dropout, with_val

# Capacity and regularisation


@fault("overfitting", steps=300, data=("fashion", "cifar"))
def two_hundred_images(run: Run) -> None:
    run.data = run.data.with_train(torch.arange(200))


@fault("overfitting", steps=300)
def one_hundred_images(run: Run) -> None:
    run.data = run.data.with_train(torch.arange(100))
    run.batch = 25


@fault("underfitting")
def one_map(run: Run) -> None:
    run.model = Tiny(run.data.shape[0], run.data.classes)


@fault("over_regularised")
def dropout_095(run: Run) -> None:
    set_dropout(run.model, 0.95)


@fault("over_regularised", optimizers=SGD)
def weight_decay_1(run: Run) -> None:
    run.options = {"weight_decay": 1.0}


@fault("over_regularised", optimizers=("adam",))
def l2_of_adam_03(run: Run) -> None:
    run.options = {"weight_decay": 0.3}


# Augmentation and validation


@fault("destructive_augmentation")
def noise_of_three(run: Run) -> None:
    run.augment = lambda x, y, rng: (x + 3 * torch.randn(x.shape, generator=rng), y)


@fault("destructive_augmentation")
def cutout_of_most(run: Run) -> None:
    def cut(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        keep, side = torch.zeros_like(x), x.shape[-1]
        size = side // 3
        top, left = (int(torch.randint(0, side - size, (), generator=rng)) for _ in range(2))
        keep[..., top : top + size, left : left + size] = 1
        return x * keep, y

    run.augment = cut


@fault("destructive_augmentation")
def turned_and_cropped(run: Run) -> None:
    def turn(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        angle = 2 * math.pi * torch.rand(len(x), generator=rng)
        shift = torch.rand(len(x), 2, generator=rng) * 1.2 - 0.6
        c, s = 0.4 * angle.cos(), 0.4 * angle.sin()
        rows = [torch.stack([c, -s, shift[:, 0]], 1), torch.stack([s, c, shift[:, 1]], 1)]
        grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False), y

    run.augment = turn


@fault("train_test_leak", steps=400, data=("fashion", "cifar"))
def half_of_validation_trained_on(run: Run) -> None:
    data = run.data
    half = len(data.val_labels) // 2
    run.data = replace(
        data,
        train=torch.cat([data.val[:half], data.train[:300]]),
        train_labels=torch.cat([data.val_labels[:half], data.train_labels[:300]]),
    )


@fault("train_test_leak", steps=400, data=("fashion", "cifar"))
def validation_is_training(run: Run) -> None:
    run.data = run.data.with_train(torch.arange(500))
    with_val(run, run.data.train.clone(), run.data.train_labels.clone())


@fault("train_val_preprocessing_differ")
def validation_not_standardised(run: Run) -> None:
    run.prepare_val = lambda x: x


@fault("train_val_preprocessing_differ")
def validation_in_255(run: Run) -> None:
    run.prepare_val = lambda x: x * 255


@fault("train_val_preprocessing_differ")
def validation_inverted(run: Run) -> None:
    standard = run.prepare
    run.prepare_val = lambda x: standard(1 - x)


@fault("train_val_preprocessing_differ", data=("cells", "cifar"))
def validation_in_bgr(run: Run) -> None:
    standard = run.prepare
    run.prepare_val = lambda x: standard(x).flip(1)


# The rest


@fault("data_starved", steps=60)
def loader_sleeps(run: Run) -> None:
    run.wait = 0.2


@fault("non_finite")
def nan_in_one_image(run: Run) -> None:
    images = run.data.train.clone()
    images[len(images) // 3, :, 3, 3] = math.nan
    run.data = replace(run.data, train=images)


@fault("non_finite", "inputs_not_normalised")
def infinite_pixel(run: Run) -> None:
    images = run.data.train.clone()
    images[len(images) // 2, :, 1, 1] = math.inf
    run.data = replace(run.data, train=images)


@fault("non_finite", "wrong_loss_pairing")
def log_of_zero(run: Run) -> None:
    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        odds = (40 * logits).softmax(1)
        return -(odds.log().gather(1, targets[:, None])).mean()

    run.loss_fn = loss


@fault("non_finite")
def square_root_at_zero(run: Run) -> None:
    run.model = nn.Sequential(run.model, Rooted())


class Rooted(nn.Module):
    """Signed square root: its gradient at zero is infinite."""

    def forward(self, x: Tensor) -> Tensor:
        hard = x * (x.abs() > 0.02)
        return hard.sign() * hard.abs().sqrt()
