"""A few images learnt by heart: what can and what cannot be, and what it may cost."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convclinic.clinic import one_batch
from convclinic.clinic.signals import OneBatch

CLASSES = 4


def batch(n: int = 64) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(2)
    return torch.randn(n, 1, 6, 6, generator=rng), torch.randint(0, CLASSES, (n,), generator=rng)


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, CLASSES))


def fit(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss_fn: Any = F.cross_entropy
) -> OneBatch | None:
    return one_batch.fit(model, [optimizer], *batch(), loss_fn)


def adam(model: nn.Module, lr: float = 1e-2) -> torch.optim.Optimizer:
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)


def test_a_sound_net_learns_them_with_its_own_optimizer() -> None:
    model = net()
    found = fit(model, adam(model))
    assert found is not None
    assert (found.images, found.classes, found.accuracy, found.lr) == (one_batch.IMAGES, CLASSES, 1.0, 1e-2)
    assert found.own_accuracy == 1.0 and found.own_last_loss == found.last_loss < 0.5 * found.first_loss
    assert 0 < found.steps <= one_batch.OWN_STEPS


@pytest.mark.parametrize("lr", [1e-7, 1e5])
def test_a_wrong_lr_shows_beside_adam(lr: float) -> None:
    model = net()
    found = fit(model, torch.optim.SGD(model.parameters(), lr))
    assert found is not None and found.accuracy == 1.0 and found.lr in one_batch.ADAM_LRS
    assert found.own_last_loss > 0.9 * found.first_loss


def test_parameters_that_nobody_holds_show_beside_adam() -> None:
    model = net()
    found = fit(model, torch.optim.Adam([torch.nn.Parameter(torch.ones(3))], 1e-2))
    assert found is not None and found.accuracy == 1.0 and found.own_last_loss == found.first_loss


def test_a_net_that_cannot_learn() -> None:
    """Behind units that are all dead only the last bias can move."""
    model = net()
    nn.init.constant_(model[1].bias, -1e4)
    found = fit(model, adam(model))
    assert found is not None and found.accuracy < 1.0 and found.last_loss > 0.5 * found.first_loss


def test_a_warm_up_is_run_through() -> None:
    model = net()
    optimizer = adam(model)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 1000)
    assert optimizer.param_groups[0]["lr"] == 0.0
    found = fit(model, optimizer)
    assert found is not None and found.lr == 1e-2 and found.own_accuracy == 1.0
    assert optimizer.param_groups[0]["lr"] == 0.0


class Wrapped(nn.Module):
    """Gives its logits in something else."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner, self.kind = net(), kind

    def forward(self, x: Tensor) -> Any:
        logits = self.inner(x)
        if self.kind == "object":
            return type("Output", (), {"logits": logits})()
        return {"dict": {"logits": logits}, "tuple": (logits, x)}[self.kind]


@pytest.mark.parametrize("kind", ["dict", "tuple", "object"])
def test_outputs_that_hold_logits(kind: str) -> None:
    model = Wrapped(kind)
    found = fit(model, adam(model))
    assert found is not None and found.accuracy == 1.0


class NeverCopied(nn.Linear):
    def __init__(self) -> None:
        super().__init__(36, CLASSES)
        self.lock = threading.Lock()


def test_what_cannot_be_copied_or_trained_is_not_tried() -> None:
    locked = nn.Sequential(nn.Flatten(), NeverCopied())
    assert fit(locked, adam(locked)) is None
    frozen = net()
    optimizer = adam(frozen)
    frozen.requires_grad_(False)
    assert fit(frozen, optimizer) is None
    model = net()
    assert fit(model, adam(model), lambda *_: 1 / 0) is None


def test_an_optimizer_that_cannot_be_copied_leaves_adam() -> None:
    class Odd(torch.optim.SGD):
        def __init__(self, params: Any) -> None:
            super().__init__(params, 0.1)
            self.scale = 2.0

        def step(self, closure: Any = None) -> None:
            assert self.scale == 2.0, "a copy has lost it"

    model = net()
    found = fit(model, Odd(model.parameters()))
    assert found is not None and found.accuracy == 1.0 and found.own_accuracy != found.own_accuracy


def test_hooks_of_the_user_are_not_called_and_stay() -> None:
    model, calls = net(), []
    model[1].register_forward_hook(lambda *_: calls.append(1))
    fit(model, adam(model))
    assert not calls
    model(batch()[0])
    assert calls


def test_a_loss_with_parameters_of_its_own_gets_no_gradients() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
            return F.cross_entropy(self.scale * logits, targets)

    model, loss_fn = net(), Scaled()
    found = fit(model, adam(model), loss_fn)
    assert found is not None and loss_fn.scale.grad is None and float(loss_fn.scale.detach()) == 1.0


def test_soft_targets_and_several_optimizers() -> None:
    model, (inputs, labels) = net(), batch()
    soft = 0.9 * F.one_hot(labels, CLASSES) + 0.1 / CLASSES
    optimizers = [adam(model[1]), adam(model[4])]
    found = one_batch.fit(model, optimizers, inputs, soft, nn.CrossEntropyLoss())
    assert found is not None and found.accuracy == found.own_accuracy == 1.0


def test_the_work_is_no_more_than_ten_steps_at_batch_128() -> None:
    images: list[int] = []

    class Counting(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            images.append(len(input))
            return super().forward(input * 0)

    model = nn.Sequential(nn.Flatten(), Counting(36, CLASSES))
    fit(model, torch.optim.SGD(model.parameters(), 1e-7))
    assert 0 < sum(images) <= 10 * 128


def test_images_are_chosen_from_all_classes_alike() -> None:
    labels = torch.tensor([0] * 50 + [1] * 3 + [-100] * 4 + [2] * 20)
    chosen = labels[one_batch.balanced(labels, len(labels), 12)]
    assert chosen.bincount().tolist() == [5, 3, 4]
    assert len(one_batch.balanced(None, 7, 12)) == 7
