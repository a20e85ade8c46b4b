"""Evaluations in real loops: looks at the training set are no leaks, and copies in the validation are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from convclinic.clinic import Clinic
from convclinic.clinic.passes import training_batches

pixels, digits = load_digits(return_X_y=True)
IMAGES = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
LABELS = torch.tensor(digits)
TRAIN, VALIDATION = torch.arange(1280), torch.arange(1280, 1797)
BATCH = 64


def net() -> nn.Module:
    layers = [nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16 * 9, 10))


def flip(images: Tensor) -> Tensor:
    mirrored = torch.rand(len(images)) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def shift(images: Tensor) -> Tensor:
    """One of nine places, and mirrored or not: one in eighteen images stays as it is."""
    x, y = torch.randint(-1, 2, (2,)).tolist()
    return flip(images.roll((x, y), (2, 3)))


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, batch: int = BATCH) -> float:
    model.eval()
    with torch.no_grad():
        answers = torch.cat([model(part).argmax(1) for part in images.split(batch)])
    model.train()
    return float((answers == labels).float().mean())


def train(
    looks: list[Tensor], validation: Tensor, augment=None, epochs: int = 3, batch: int = BATCH
) -> Clinic:
    """A loop that evaluates on each of `looks`, and then on `validation`, after every epoch."""
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    clinic = Clinic(model, optimizer, classes=10)
    for _ in range(epochs):
        for here in TRAIN[torch.randperm(len(TRAIN))].split(BATCH):
            images = IMAGES[here] if augment is None else augment(IMAGES[here])
            logits = model(images)
            loss = F.cross_entropy(logits, LABELS[here])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            clinic.observe(loss=loss, inputs=images, targets=LABELS[here], logits=logits)
        for look in looks:
            accuracy(model, IMAGES[look], LABELS[look], batch)
        score = accuracy(model, IMAGES[validation], LABELS[validation], batch)
        clinic.observe_epoch(val_accuracy=score)
    return clinic


def leak(clinic: Clinic) -> str | None:
    """The severity of what is said of a leak."""
    found = [f.severity for f in clinic.findings() if f.cause == "train_test_leak"]
    return found[0] if found else None


@pytest.mark.parametrize(
    ("look", "augment"),
    [
        (TRAIN, None),
        (TRAIN, flip),
        (TRAIN, shift),
        (TRAIN[:400], None),
        (TRAIN[:400], flip),
        (TRAIN[torch.randperm(1280)], flip),
    ],
    ids=["all", "all, flipped", "all, shifted", "part", "part, flipped", "in another order, flipped"],
)
def test_a_look_at_the_training_set_is_no_leak(look: Tensor, augment) -> None:
    clinic = train([look], VALIDATION, augment)
    assert leak(clinic) in (None, "info")
    assert [f.cause for f in clinic.findings() if f.severity != "info"] == []


@pytest.mark.parametrize("augment", [None, flip])
def test_a_look_at_the_training_set_is_not_counted_as_validation(augment) -> None:
    signals = train([TRAIN], VALIDATION, augment, epochs=8).signals()  # the last ones are no longer compared
    assert signals.validation == len(VALIDATION)
    assert signals.evaluations.images == 8 * len(VALIDATION)
    assert signals.evaluations.inputs is not None
    mean = float(IMAGES[VALIDATION].mean())
    assert signals.evaluations.inputs.mean == pytest.approx(
        mean, abs=2e-3
    )  # the first 32 batches: three passes and a half


@pytest.mark.parametrize("share", [0.06, 0.3])
@pytest.mark.parametrize("order", ["mixed", "behind", "within", "before"])
@pytest.mark.parametrize("looks", [[], [TRAIN]], ids=["alone", "after a look at the training set"])
def test_copies_in_the_validation_are_a_leak_wherever_they_stand(
    looks: list[Tensor], order: str, share: float
) -> None:
    copies = TRAIN[100 : 100 + round(share * 500)]
    clean = VALIDATION[: 500 - len(copies)]
    parts = {
        "mixed": [torch.cat([clean, copies])[torch.randperm(500)]],
        "behind": [clean, copies],
        "within": [clean[:40], copies, clean[40:]],
        "before": [copies, clean],
    }
    clinic = train(looks, torch.cat(parts[order]), epochs=2)
    evaluations = clinic.signals().evaluations
    assert leak(clinic) == "warning"
    if not looks or order in ("mixed", "within"):
        assert evaluations.repeats == pytest.approx(len(copies) / 500, abs=1e-6)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_copies_are_counted_whatever_the_batch(batch: int) -> None:
    validation = torch.cat([VALIDATION[:350], TRAIN[:150]])[torch.randperm(500)]
    clinic = train([], validation, epochs=1, batch=batch)
    assert leak(clinic) == "warning"
    assert clinic.signals().evaluations.repeats == 0.3


def test_validation_on_the_training_set_alone_is_a_leak() -> None:
    assert leak(train([], TRAIN[:500])) == "warning"


def test_a_clean_test_set_beside_does_not_hide_a_leak() -> None:
    validation = torch.cat([VALIDATION[:250], TRAIN[:30]])[torch.randperm(280)]
    assert leak(train([VALIDATION[250:]], validation)) == "warning"


def test_a_change_inside_of_a_batch_is_one_set_and_between_batches_two() -> None:
    rng = np.random.default_rng(0)
    new, old = np.zeros(64, bool), np.ones(64, bool)
    assert training_batches([new, new, old[:10]], 640) == [False, False, True]
    assert training_batches([new, np.append(new[:30], old[:34])], 640) == [False, False]
    flipped = [rng.random(64) < 0.5 for _ in range(4)]
    assert training_batches([*flipped, new, new], 640) == [True] * 4 + [False] * 2
    assert (
        training_batches(flipped, 640) == [False] * 4
    )  # nothing to compare with: a leak, as far as is known
    assert training_batches([], 640) == []
