"""The clinic beside loops of every kind: mixed precision, compiled nets, accumulation, nets of timm.

Each training is run alone and watched: weights, buffers and random state must be equal bit for bit, a healthy
one is met with silence, and a forgotten `zero_grad` is found.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from convclinic.clinic import Clinic
from tests.peers import mend_torchvision

pixels, digits = load_digits(return_X_y=True)
IMAGES = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
LABELS = torch.tensor(digits)
BATCH, STEPS = 32, 40
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch.compile's own affair


def plain() -> nn.Module:
    layers = [nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.1), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 9, 10))


def from_timm() -> nn.Module:
    mend_torchvision()
    timm = pytest.importorskip("timm", exc_type=ImportError)
    net = timm.create_model("resnet10t", num_classes=10, in_chans=1, drop_path_rate=0.1)
    return nn.Sequential(nn.Upsample(scale_factor=2), net)


def compiled() -> nn.Module:
    if shutil.which("c++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    torch.compiler.reset()
    return torch.compile(plain())


Step = Callable[[nn.Module, torch.optim.Optimizer, Any, Tensor, Tensor, int, bool], tuple[Tensor, Tensor]]


def simple(model, optimizer, scaler, images, labels, step, clears) -> tuple[Tensor, Tensor]:
    logits = model(images)
    loss = F.cross_entropy(logits, labels)
    if clears:
        optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss, logits


def mixed(model, optimizer, scaler, images, labels, step, clears) -> tuple[Tensor, Tensor]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
    if clears:
        optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    scaler.step(optimizer)
    scaler.update()
    return loss, logits


def accumulated(model, optimizer, scaler, images, labels, step, clears) -> tuple[Tensor, Tensor]:
    if step % 2 == 0 and clears:
        optimizer.zero_grad()
    logits = model(images)
    loss = F.cross_entropy(logits, labels)
    (loss / 2).backward()
    if step % 2:
        optimizer.step()
    return loss, logits


LOOPS: dict[str, tuple[Callable[[], nn.Module], Step, bool]] = {
    "autocast, scaler off": (plain, mixed, False),
    "autocast, scaler on": (plain, mixed, True),
    "accumulation": (plain, accumulated, False),
    "timm": (from_timm, simple, False),
    "compiled, autocast": (compiled, mixed, False),
}
LONG, SLOW = ("timm", "compiled, autocast"), pytest.mark.slow


def train(loop: str, watched: bool, clears: bool = True) -> tuple[dict[str, Tensor], Clinic | None]:
    build, go, scaled = LOOPS[loop]
    torch.manual_seed(0)
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=scaled)
    clinic = Clinic(model, optimizer, classes=10) if watched else None
    if clinic:
        clinic.preflight(IMAGES[:BATCH], LABELS[:BATCH], nn.CrossEntropyLoss())
    for step in range(STEPS):
        here = slice(step * BATCH, step * BATCH + BATCH)
        images, labels = IMAGES[here], LABELS[here]
        loss, logits = go(model, optimizer, scaler, images, labels, step, clears)
        if clinic:
            clinic.observe(loss=loss, inputs=images, targets=labels, logits=logits)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return {**state, "random state": torch.get_rng_state()}, clinic


@pytest.mark.parametrize("loop", [pytest.param(loop, marks=SLOW if loop in LONG else ()) for loop in LOOPS])
def test_a_healthy_run_is_left_as_it_is_and_met_with_silence(loop: str) -> None:
    alone, _ = train(loop, watched=False)
    state, clinic = train(loop, watched=True)
    assert [name for name in alone if not torch.equal(alone[name], state[name])] == []
    assert clinic and [f.cause for f in clinic.findings() if f.severity != "info"] == []
    signals = clinic.signals()
    assert signals.observed == STEPS
    assert signals.updates == (STEPS // 2 if loop == "accumulation" else STEPS)
    (norms,) = signals.steps.known("grad_norm")
    assert 0 < norms[0] < 50  # of gradients as they are, and not as a scaler has scaled them
    assert signals.probes[-1].activations


@pytest.mark.parametrize("loop", [pytest.param(loop, marks=SLOW if loop in LONG else ()) for loop in LOOPS])
def test_a_forgotten_zero_grad_is_found(loop: str) -> None:
    _, clinic = train(loop, watched=True, clears=False)
    assert clinic and clinic.findings()[0].cause == "missing_zero_grad"
