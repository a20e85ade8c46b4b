"""The numbers of a measured step, beside PyTorch's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convclinic.clinic import Clinic
from convclinic.clinic.evaluations import Moments, fingerprints, pixels
from convclinic.clinic.taking import of_outputs
from convclinic.clinic.watch import SAMPLED

CLASSES = 5


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def labels(n: int, classes: int = CLASSES) -> torch.Tensor:
    return torch.arange(n) % classes


@pytest.mark.parametrize("soft", [False, True])
def test_what_is_kept_of_outputs_is_what_pytorch_makes_of_them(soft):
    logits, hard = 4 * drawn(40, CLASSES), labels(40)
    targets = F.one_hot(hard, CLASSES) * 0.8 + 0.04 if soft else hard
    kept = of_outputs(logits.numpy(), hard.numpy(), targets.numpy() if soft else None)
    predictions = logits.argmax(1)
    sure = logits.softmax(1).amax(1) > 0.9
    expected = {
        "cross_entropy": F.cross_entropy(logits, targets),
        "accuracy": (predictions == hard).float().mean(),
        "spread": logits.std(1).mean(),
        "between": logits.std(0).mean(),
        "top": torch.bincount(predictions).max() / 40,
        "sure_wrong": (sure & (predictions != hard)).float().mean(),
    }
    assert kept == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-5)


def test_labels_out_of_range_are_left_aside():
    logits, hard = drawn(6, CLASSES), torch.tensor([0, 1, -100, 7, 2, 3])
    here = torch.tensor([0, 1, 4, 5])
    kept = of_outputs(logits.numpy(), hard.numpy(), None)
    assert kept["cross_entropy"] == pytest.approx(float(F.cross_entropy(logits[here], hard[here])), rel=1e-5)
    assert kept["accuracy"] == pytest.approx(float((logits[here].argmax(1) == hard[here]).float().mean()))


def test_a_net_that_has_diverged_gives_no_numbers_and_no_error():
    logits = np.array([[np.inf, 0.0], [np.nan, 1.0]], np.float32)
    assert math.isnan(of_outputs(logits, np.array([0.0, 1.0], np.float32), None)["cross_entropy"])


def test_norms_of_gradients_and_updates_are_those_of_the_layers():
    """One layer has more numbers than are looked at: all of them move alike, so that a sample tells."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, CLASSES))
    assert net[1].weight.numel() > SAMPLED
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    clinic = Clinic(net, optimizer, classes=CLASSES)
    x, y = drawn(16, 300, 1, 1), labels(16)
    logits = net(x)
    loss = F.cross_entropy(logits, y)
    loss.backward()
    layers = [net[1], net[3]]
    before = [[p.detach().clone() for p in layer.parameters()] for layer in layers]
    optimizer.step()
    clinic.observe(loss=loss, inputs=x, targets=y, logits=logits)
    signals = clinic.signals()

    def norm(parts: list[torch.Tensor]) -> float:
        return math.sqrt(sum(float(part.double().square().sum()) for part in parts))

    gradients = [norm([p.grad for p in layer.parameters()]) for layer in layers]
    sizes = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    weights = [norm(parts) for parts in before]
    changes = [0.1 * gradient for gradient in gradients]
    rms = [gradient / math.sqrt(size) for gradient, size in zip(gradients, sizes, strict=True)]
    assert signals.by_layer.names == ("1", "3")
    assert signals.by_layer.gradient[0] == pytest.approx(rms, rel=1e-4)
    ratios = [change / weight for change, weight in zip(changes, weights, strict=True)]
    assert signals.by_layer.ratio[0] == pytest.approx(ratios, rel=0.05)  # a sample stands for the large one
    assert signals.steps.grad_norm[0] == pytest.approx(norm(torch.tensor(gradients).unbind()), rel=1e-4)
    assert signals.steps.ratio[0] == pytest.approx(math.hypot(*changes) / math.hypot(*weights), rel=0.05)


def test_marks_tell_images_apart_and_say_nothing_of_plain_ones():
    images = (drawn(50, 1, 28, 28) > 0).float()
    marks = fingerprints(pixels(images).numpy())
    assert len(set(marks)) == 50
    assert marks == fingerprints(pixels(images.clone()).numpy())
    plain = torch.tensor([0.0, 1.0, 0.3])[:, None, None, None].expand(3, 1, 28, 28)
    assert fingerprints(pixels(plain).numpy()) == [0, 0, 0]
    one = images[:1].clone()
    one[..., ::2, ::2] = 1 - one[..., ::2, ::2]
    assert fingerprints(pixels(one).numpy())[0] != marks[0]


def test_moments_are_those_of_all_batches_together():
    batches = [3 * drawn(n, 3, 5, 4, seed=n) + 1 for n in (4, 9, 2)]
    moments = Moments()
    for batch in batches:
        moments.add(batch)
    found, whole = moments.inputs(), torch.cat(batches)
    assert found is not None
    assert found.channel_means == pytest.approx(whole.mean((0, 2, 3)).tolist(), rel=1e-4)
    assert found.channel_stds == pytest.approx(whole.std((0, 2, 3), correction=0).tolist(), rel=1e-4)
    assert (found.low, found.high) == (float(whole.min()), float(whole.max()))
