"""The clinic beside real loops: it looks at everything and changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from convclinic.clinic import Clinic
from convclinic.ground.errors import ConvclinicError

pixels, digits = load_digits(return_X_y=True)
IMAGES = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
LABELS = torch.tensor(digits)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


class Functional(nn.Module):
    """ReLU and dropout as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.Linear(16 * 9, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.max_pool2d(F.relu(self.norm(self.conv(images))), 2)
        return self.head(F.dropout(maps.flatten(1), 0.2, self.training))


def sequential() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 9, 10),
    )


def random_states(device: str) -> list[Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if device == "cuda" else [])]


def train(
    build: Callable[[], nn.Module] = sequential,
    watched: bool = True,
    steps: int = 60,
    alter: str = "",
    preflight: bool = True,
    device: str = "cpu",
) -> tuple[nn.Module, Clinic | None]:
    """The contract's loop on digits. `alter` plants a fault."""
    torch.manual_seed(0)
    images, labels = IMAGES.to(device), LABELS.to(device)
    model = build().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    clinic = Clinic(model, optimizer, classes=10) if watched else None
    order = torch.randperm(1400)
    if clinic and preflight:
        clinic.preflight(images[order[:64]], labels[order[:64]], nn.CrossEntropyLoss())
    for step in range(steps):
        here = order[torch.arange(step * 64, step * 64 + 64) % 1400]
        model.train(alter != "eval")
        logits = model(images[here])
        loss = F.cross_entropy(logits, labels[here])
        if alter != "no zero_grad":
            optimizer.zero_grad(set_to_none=step % 2 == 0)
        loss.backward()
        optimizer.step()
        if clinic:
            clinic.observe(loss=loss, inputs=images[here], targets=labels[here], logits=logits)
    if clinic:
        model.train(alter == "train mode")
        with torch.no_grad():
            answers = torch.cat([model(part).argmax(1) for part in images[1400:].split(64)])
        clinic.observe_epoch(val_accuracy=float((answers == labels[1400:]).float().mean()))
    return model, clinic


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("build", [sequential, Functional])
def test_weights_buffers_and_random_state_are_those_of_an_unwatched_run(
    build: Callable[[], nn.Module], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)  # without it no two runs are equal
    alone, _ = train(build, watched=False, device=device)
    states = random_states(device)
    watched, _ = train(build, device=device)
    assert all(map(torch.equal, states, random_states(device)))
    for name, value in alone.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("build", [sequential, Functional])
def test_a_healthy_run_is_met_with_silence(build: Callable[[], nn.Module], device: str) -> None:
    _, clinic = train(build, device=device)
    assert clinic and [f for f in clinic.findings() if f.severity != "info"] == []


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("alter", "cause"),
    [("no zero_grad", "missing_zero_grad"), ("eval", "wrong_mode"), ("train mode", "wrong_mode")],
)
def test_mistakes_in_the_loop_are_named(alter: str, cause: str, device: str) -> None:
    _, clinic = train(alter=alter, device=device)
    assert clinic and clinic.findings()[0].cause == cause


def test_it_works_without_preflight_and_with_the_loss_alone() -> None:
    model = sequential()
    optimizer = torch.optim.Adam(model.parameters())
    clinic = Clinic(model, optimizer)
    for step in range(30):
        optimizer.step()
        clinic.observe(loss=2.3 - 0.05 * step)
    assert clinic.findings() == []
    assert clinic.signals().observed == 30


def test_hooks_are_gone_after_closing() -> None:
    model = sequential()
    optimizer = torch.optim.Adam(model.parameters())
    before = copy.copy(model._forward_hooks), copy.copy(model._forward_pre_hooks)
    with Clinic(model, optimizer) as clinic:
        assert model._forward_hooks
    assert (model._forward_hooks, model._forward_pre_hooks) == before
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks
    assert clinic.findings() == []


def test_signals_hold_what_happened() -> None:
    _, clinic = train(steps=40)
    assert clinic is not None
    seen = clinic.signals()
    assert seen.observed == seen.updates == 40 and seen.moved
    assert list(seen.steps.step[:3]) == [1, 2, 3]
    loss, cross_entropy = seen.steps.known("loss", "cross_entropy")
    assert loss == pytest.approx(cross_entropy, abs=1e-5)
    assert sum(seen.labels.counts) == 40 * 64
    assert seen.data_probe is not None and seen.data_probe.accuracy > 0.8
    assert [probe.step for probe in seen.probes] == [0, 1, 10, 25]
    assert {a.operation for a in seen.probes[-1].activations} == {"relu"}
    assert seen.evaluations.images == 397 and seen.evaluations.training == 0


def test_the_validation_set_among_the_training_images_is_counted() -> None:
    model = sequential()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    clinic = Clinic(model, optimizer, classes=10)
    for begin in range(0, 640, 64):
        images, labels = IMAGES[begin : begin + 64], LABELS[begin : begin + 64]
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clinic.observe(loss=loss, inputs=images, targets=labels, logits=logits)
    with torch.no_grad():
        model.eval()(IMAGES[:640])  # the training accuracy, which says nothing
        model(IMAGES[600:800])  # 40 of 200 were trained on
    clinic.observe_epoch(val_accuracy=0.9)
    evaluations = clinic.signals().evaluations
    assert (evaluations.compared, evaluations.repeats) == (200, 0.2)


def test_a_value_that_is_no_number_is_traced_to_the_images() -> None:
    model = sequential()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    clinic = Clinic(model, optimizer, classes=10)
    images = IMAGES[:32].clone()
    images[5, 0, 3, 3] = float("nan")
    logits = model(images)
    loss = F.cross_entropy(logits, LABELS[:32])
    loss.backward()
    optimizer.step()
    clinic.observe(loss=loss, inputs=images, targets=LABELS[:32], logits=logits)
    first = clinic.findings()[0]
    bad = clinic.signals().non_finite
    assert first.cause == "non_finite" and first.severity == "critical"
    assert bad is not None and (bad.what, bad.examples, bad.step) == ("inputs", (5,), 1)


def test_a_cause_is_muted_with_a_reason_only() -> None:
    _, clinic = train(alter="eval", steps=20)
    assert clinic is not None
    with pytest.raises(ConvclinicError, match="no reason"):
        clinic.mute("wrong_mode", " ")
    with pytest.raises(ConvclinicError, match="wrong_mode"):
        clinic.mute("wrong_mod", "a test")
    clinic.mute("wrong_mode", "the statistics are frozen on purpose")
    assert "wrong_mode" not in [f.cause for f in clinic.findings()]


def test_accuracies_in_per_cent_are_refused() -> None:
    model = sequential()
    clinic = Clinic(model, torch.optim.Adam(model.parameters()))
    with pytest.raises(ConvclinicError, match="between 0 and 1"):
        clinic.observe_epoch(val_accuracy=93.0)


def test_history_is_bounded() -> None:
    model = nn.Linear(2, 2)
    clinic = Clinic(model, torch.optim.SGD(model.parameters(), lr=0.1))
    for step in range(6000):
        clinic.observe(loss=1.0 / (1 + step))
    steps = clinic.signals().steps
    assert len(steps) <= 2048 and list(steps.step[:256]) == list(range(1, 257))
    assert steps.step[-1] > 5900 and (steps.step[1:] > steps.step[:-1]).all()


def test_gradient_accumulation_is_not_a_forgotten_zero_grad() -> None:
    torch.manual_seed(0)
    model = sequential()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    clinic = Clinic(model, optimizer, classes=10)
    for step in range(40):
        images, labels = IMAGES[step * 32 : step * 32 + 32], LABELS[step * 32 : step * 32 + 32]
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        (loss / 4).backward()
        if step % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
        clinic.observe(loss=loss, inputs=images, targets=labels, logits=logits)
    assert [f for f in clinic.findings() if f.severity != "info"] == []
    assert clinic.signals().updates == 10


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("frozen", [False, True])
def test_it_goes_with_compile_autocast_clipping_and_several_optimizers(frozen: bool, device: str) -> None:
    torch.manual_seed(0)
    model = Functional().to(device)
    model.conv.requires_grad_(not frozen)
    wrapped = torch.compile(model, backend="eager" if device == "cpu" else "inductor")
    optimizers = [
        torch.optim.Adam([*model.conv.parameters(), *model.norm.parameters()]),
        torch.optim.SGD(model.head.parameters(), lr=0.1),
    ]
    clinic = Clinic(wrapped, optimizers, classes=10)
    clinic.preflight(IMAGES[:64].to(device), LABELS[:64].to(device), nn.CrossEntropyLoss())
    for step in range(25):
        here = slice(step * 32, step * 32 + 32)
        images, labels = IMAGES[here].to(device), LABELS[here].to(device)
        with torch.autocast(device, dtype=torch.bfloat16):
            logits = wrapped(images)
        loss = F.cross_entropy(logits.float(), labels)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        clinic.observe(loss=loss, inputs=images, targets=labels, logits=logits)
    seen = clinic.signals()
    assert seen.updates == 25 and (seen.steps.known("grad_norm")[0] > 0).all()
    assert seen.probes[-1].activations
    alarms = [f.cause for f in clinic.findings() if f.severity != "info"]
    assert alarms == (["frozen_parameters"] if frozen else [])  # a random layer that never learns


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("scale", [2.0**10, 2.0**40])
def test_it_goes_with_a_gradient_scaler_that_skips_updates(scale: float) -> None:
    torch.manual_seed(0)
    model = sequential().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cuda", init_scale=scale)
    clinic = Clinic(model, optimizer, classes=10)
    clinic.preflight(IMAGES[:64].cuda(), LABELS[:64].cuda(), nn.CrossEntropyLoss())
    skipped = 0
    for step in range(60):
        here = slice(step % 40 * 32, step % 40 * 32 + 32)
        images, labels = IMAGES[here].cuda(), LABELS[here].cuda()
        with torch.autocast("cuda", dtype=torch.float16):
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        before = scaler.get_scale()
        scaler.update()
        skipped += scaler.get_scale() < before
        clinic.observe(loss=loss, inputs=images, targets=labels, logits=logits)
    assert (skipped > 0) == (scale > 2.0**20)
    assert [f.cause for f in clinic.findings() if f.severity != "info"] == []
    norms = clinic.signals().steps.known("grad_norm")[0]
    assert (norms < 1e3).all(), "the scale is not part of the gradient"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_of_32_steps_one_waits_for_the_accelerator() -> None:
    model = sequential().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    clinic = Clinic(model, optimizer, classes=10)
    images, labels = IMAGES[:64].cuda(), LABELS[:64].cuda()
    try:
        for step in range(1, 345):
            if step > 300:  # past the first steps, when much is measured
                torch.cuda.set_sync_debug_mode("default" if step % 32 == 0 else "error")
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            clinic.observe(loss=loss, inputs=images, targets=labels, logits=logits)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert clinic.signals().observed == 344
