"""Numbers of one batch against what torch and hand count say, and bad data that must not raise."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convclinic.clinic import measure

LABELS = torch.tensor([0, 2, 1, 2, 3, 0])


def logits(width: int = 4) -> Tensor:
    return torch.randn(6, width, generator=torch.Generator().manual_seed(3))


def test_inputs_by_channel() -> None:
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images[:, 1] = images[:, 1] * 2 - 7
    images[3] = images[0]
    images[4] = 0.5
    found = measure.inputs(images)
    assert found.shape == (5, 3, 8, 8) and found.finite
    assert (found.low, found.high) == (float(images.min()), float(images.max()))
    assert found.mean == pytest.approx(float(images.mean()))
    assert (found.distinct, found.flat) == pytest.approx((0.8, 0.2))
    assert found.channel_means == pytest.approx(images.mean((0, 2, 3)).tolist())
    assert found.channel_stds == pytest.approx(images.std((0, 2, 3), correction=0).tolist())


@pytest.mark.parametrize(
    "images",
    [torch.zeros(3, 5), torch.randint(0, 255, (2, 1, 4, 4), dtype=torch.uint8), [torch.ones(2, 3)],
     {"pixels": torch.ones(2, 3, 4)}, torch.ones(4), torch.zeros(0, 3), None, "words"],
)  # fmt: skip
def test_inputs_of_any_kind(images: Any) -> None:
    found = measure.inputs(images)
    assert found.channel_means == () or len(found.channel_means) == 1


def test_inputs_that_are_not_finite() -> None:
    assert not measure.inputs(torch.tensor([[1.0, math.inf], [0.0, 1.0]])).finite
    assert not measure.inputs(torch.tensor([[1.0, math.nan], [0.0, 1.0]])).finite


@pytest.mark.parametrize(
    "targets, kind, low, high, ignored",
    [
        (LABELS, "classes", 0, 3, 0),
        (LABELS.to(torch.uint8), "classes", 0, 3, 0),
        (LABELS[:, None], "classes", 0, 3, 0),
        (torch.tensor([1, -100, 9]), "classes", 1, 9, 1),
        (torch.tensor([-100]), "classes", math.nan, math.nan, 1),
        (torch.tensor([-1, 2]), "classes", -1, 2, 0),
        (F.one_hot(LABELS, 4), "one-hot", 0, 1, 0),
        (F.one_hot(LABELS, 4).float(), "one-hot", 0, 1, 0),
        (F.one_hot(LABELS, 4).bool(), "one-hot", 0, 1, 0),
        (torch.full((3, 4), 0.25), "soft", 0.25, 0.25, 0),
        (torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), "multi", 0, 1, 0),
        (LABELS.float(), "other", 0, 3, 0),
        (torch.rand(3, 4) * 9 - 20, "other", None, None, 0),
    ],
)
def test_targets(targets: Tensor, kind: str, low: float | None, high: float | None, ignored: int) -> None:
    found = measure.targets(targets, 4)
    assert (found.kind, found.ignored) == (kind, ignored)
    if low is not None:
        assert (found.low, found.high) == pytest.approx((low, high), nan_ok=True)


@pytest.mark.parametrize(
    "made, expected",
    [
        (lambda x: x, {}),
        (lambda x: x.softmax(1), {"sums_to_one": True}),
        (lambda x: x.log_softmax(1), {"log_probabilities": True}),
        (lambda x: x.sigmoid(), {"bounded": True}),
        (lambda x: F.relu(x) + 0, {}),
        (lambda x: x.softmax(1).to(torch.bfloat16), {"sums_to_one": True}),
        (lambda x: torch.zeros_like(x), {"bounded": True}),
    ],
)
def test_outputs_by_what_made_them(made: Any, expected: dict[str, bool]) -> None:
    flags = {"sums_to_one": False, "log_probabilities": False, "bounded": False, **expected}
    found = measure.outputs(made(3 * logits()))
    assert {name: getattr(found, name) for name in flags} == flags
    assert found.width == 4


def test_outputs_count() -> None:
    x = F.relu(logits())
    found = measure.outputs(x)
    assert found.clipped == pytest.approx(float((x == 0).float().mean()))
    assert found.spread == pytest.approx(float(x.std(1).mean()))
    assert found.between == pytest.approx(float(x.std(0).mean()))
    assert measure.outputs(x[:1].expand(6, 4)).between == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize(
    "made, last",
    [
        (lambda x: x.softmax(1), "softmax"), (lambda x: F.relu(x).squeeze(-1), "relu"),
        (lambda x: x.log_softmax(1).to(torch.bfloat16).float(), "log_softmax"),
        (lambda x: x.sigmoid(), "sigmoid"), (lambda x: F.linear(x, torch.ones(2, 4), torch.ones(2)), "addmm"),
        (lambda x: x.detach(), ""), (lambda x: x, ""),
    ],
)  # fmt: skip
def test_the_last_operation(made: Any, last: str) -> None:
    assert measure.outputs(made(logits().requires_grad_())).last == last


@pytest.mark.parametrize(
    "odd", [None, torch.zeros(0, 4), torch.tensor(1.0), torch.randn(5), torch.randn(2, 3, 4, 4)]
)
def test_outputs_of_odd_shapes(odd: Any) -> None:
    assert measure.outputs(odd).width == {1: 1, 4: 3}.get(getattr(odd, "ndim", 0), 0)


SOFT = torch.rand(6, 4, generator=torch.Generator().manual_seed(1)).softmax(1)
ONE_HOT = F.one_hot(LABELS, 4).float()


@pytest.mark.parametrize(
    "loss_fn, targets, field",
    [
        (nn.CrossEntropyLoss(), LABELS, "cross_entropy"),
        (nn.CrossEntropyLoss(), LABELS.to(torch.uint8).long(), "cross_entropy"),
        (nn.CrossEntropyLoss(), torch.tensor([0, -100, 1, 2, -100, 3]), "cross_entropy"),
        (nn.CrossEntropyLoss(ignore_index=2), LABELS, "cross_entropy"),
        (nn.CrossEntropyLoss(), ONE_HOT, "cross_entropy"),
        (nn.CrossEntropyLoss(), SOFT, "cross_entropy"),
        (nn.NLLLoss(), LABELS, "negative_log"),
        (nn.NLLLoss(ignore_index=0), LABELS, "negative_log"),
        (nn.MSELoss(), ONE_HOT, "squared"),
        (nn.MSELoss(), torch.randn(6, 4), "squared"),
        (nn.BCEWithLogitsLoss(), ONE_HOT, "binary"),
        (nn.BCEWithLogitsLoss(), (SOFT > 0.2).float(), "binary"),
    ],
)
def test_each_loss_is_recognised_by_its_value(loss_fn: nn.Module, targets: Tensor, field: str) -> None:
    found = measure.losses(loss_fn(logits(), targets), logits(), targets, loss_fn)
    assert getattr(found, field) == pytest.approx(found.reported, rel=1e-5)
    assert found.name == type(loss_fn).__name__
    values = {name: value for name, value in dataclasses.asdict(found).items() if isinstance(value, float)}
    others = [value for name, value in values.items() if name not in (field, "reported")]
    assert all(math.isnan(value) or value != pytest.approx(found.reported, rel=1e-3) for value in others)


def test_losses_of_binary_nets() -> None:
    x, y = logits(1), (LABELS > 0).float()
    loss = F.binary_cross_entropy_with_logits(x[:, 0], y)
    assert measure.losses(loss, x[:, 0], y).binary == pytest.approx(float(loss))
    assert measure.losses(loss, x, y[:, None]).binary == pytest.approx(float(loss))
    assert math.isnan(measure.losses(loss, x, y).cross_entropy)


def test_squared_softmax_and_prior() -> None:
    found = measure.losses(0.5, logits(), LABELS)
    assert found.squared_softmax == pytest.approx(float(F.mse_loss(logits().softmax(1), ONE_HOT)))
    shares = torch.tensor([2, 1, 2, 1]) / 6
    assert found.prior == pytest.approx(float(-(shares * shares.log()).sum()))
    assert found.reported == 0.5 and found.name == ""


@pytest.mark.parametrize(
    "x, y",
    [
        (logits(), LABELS + 1), (logits(), LABELS - 1), (logits(), LABELS[:3]), (logits(), None),
        (None, LABELS), (logits(), "words"), (logits(), LABELS.float()), (torch.randn(6, 4, 2, 2), LABELS),
        (logits(), torch.rand(6, 9)),
        (torch.zeros(0, 4), LABELS[:0]), (logits(1), LABELS), (logits(), torch.full((6,), -100)),
    ],
)  # fmt: skip
def test_bad_targets_give_no_number_and_never_raise(x: Any, y: Any) -> None:
    found = measure.losses(torch.tensor(1.0), x, y, nn.CrossEntropyLoss())
    assert math.isnan(found.cross_entropy) and found.reported == 1.0


def test_impossible_classes_count_nothing() -> None:
    x = logits().log_softmax(1)
    x[:, 3] = -math.inf
    found = measure.losses(0.0, x, LABELS.clamp(max=2))
    assert math.isfinite(found.negative_log) and math.isfinite(found.cross_entropy)


def test_what_a_loss_says_of_itself() -> None:
    smooth = nn.CrossEntropyLoss(weight=torch.ones(4), label_smoothing=0.1)
    found = measure.losses(torch.ones(6), logits(), LABELS, smooth)
    assert found.weighted and found.smoothing == 0.1 and math.isnan(found.reported)
    half = measure.losses(1, logits(), LABELS, functools.partial(F.cross_entropy, label_smoothing=0.2))
    assert (half.name, half.smoothing, half.weighted) == ("cross_entropy", 0.2, False)


@pytest.mark.parametrize("targets", [LABELS, LABELS[:, None], ONE_HOT, ONE_HOT.long(), ONE_HOT.bool()])
def test_class_numbers(targets: Tensor) -> None:
    found = measure.hard(targets, 4)
    assert found is not None and found.tolist() == LABELS.tolist()
    assert measure.hard(torch.rand(6, 4) * 3, 4) is None
