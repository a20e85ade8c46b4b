"""What the policies of a recipe make of an epoch and of the loss, together."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.balance._policies import class_terms, visits
from convclinic.tricks.balance.class_weights import ClassWeights
from convclinic.tricks.balance.down_sampling import DownSampling
from convclinic.tricks.balance.logit_adjustment import LogitAdjustment
from convclinic.tricks.balance.up_sampling import UpSampling

LABELS = torch.tensor([0] * 12 + [1] * 4)


def test_without_a_policy_an_epoch_visits_each_image_once_in_an_order_of_its_own() -> None:
    first, second = (visits((), LABELS, 0, epoch, 0.0).tolist() for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(16))
    assert first != second != visits((), LABELS, 1, 1, 0.0).tolist()


def test_a_sampling_policy_decides_and_draws_anew_for_each_epoch() -> None:
    first, second = (visits((UpSampling(),), LABELS, 0, epoch, 0.0) for epoch in (0, 1))
    assert torch.bincount(LABELS[first]).tolist() == [12, 12]
    assert first.tolist() != second.tolist() and len(first) == len(second)
    assert visits((UpSampling(), ClassWeights()), LABELS, 0, 0, 0.0).tolist() == first.tolist()


def test_two_sampling_policies_are_refused_by_name() -> None:
    with pytest.raises(ConvclinicError, match="up_sampling and down_sampling"):
        visits((UpSampling(), DownSampling()), LABELS, 0, 0, 0.0)


def test_loss_policies_are_combined() -> None:
    counts = torch.tensor([30, 10])
    assert class_terms((), counts) == class_terms((UpSampling(),), counts) == (None, None)
    weights, offsets = class_terms((ClassWeights(), LogitAdjustment()), counts)
    assert weights is not None and offsets is not None
    assert torch.allclose(weights, torch.tensor([2 / 3, 2.0]))
    assert torch.allclose(offsets[0] - offsets[1], torch.tensor(3.0).log())


def test_in_a_weighted_loss_each_class_counts_the_same() -> None:
    logits = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0] * 30 + [1] * 10)
    weights, _ = class_terms((ClassWeights(),), torch.bincount(labels))
    ours = F.cross_entropy(logits, F.one_hot(labels, 2).float(), weight=weights)
    each = F.cross_entropy(logits, labels, reduction="none")
    assert ours.item() == pytest.approx((each[:30].mean() + each[30:].mean()).item() / 2, rel=1e-5)
