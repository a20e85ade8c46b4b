"""Mixup and CutMix: their laws, and their formulas restated in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.rng import generator
from convclinic.kinds import Batch
from convclinic.tricks.mix import cutmix, mixup
from convclinic.tricks.mix.cutmix import Cutmix
from convclinic.tricks.mix.mixup import Mixup

few = settings(max_examples=30, deadline=None, derandomize=True)


def batch(n: int, height: int = 6, width: int = 9, k: int = 4) -> Batch:
    rng = generator(0, "mix")
    targets = torch.rand((n, k), generator=rng)
    images = torch.rand((n, 3, height, width), generator=rng)
    return Batch(images, targets / targets.sum(1, keepdim=True), torch.arange(n))


@few
@given(st.integers(1, 20), st.floats(0, 5), st.integers(0, 1000))
def test_mixup_keeps_rows_a_distribution_and_pixels_in_range(n: int, alpha: float, seed: int) -> None:
    given_ = batch(n)
    params = mixup.sample(generator(seed), n, alpha)
    images, targets = mixup.apply(given_.images, given_.targets, params["partner"], params["m"])
    assert torch.allclose(targets.sum(1), torch.ones(n), atol=1e-6)
    assert targets.min() >= 0
    assert images.min() >= 0 and images.max() <= 1
    assert sorted(params["partner"].tolist()) == list(range(n))


def test_mixup_is_its_formula() -> None:
    given_ = batch(8)
    params = Mixup(alpha=1.0).sample(generator(1), given_)
    images, targets = Mixup(alpha=1.0).apply(given_.images, given_.targets, params)
    x, y = given_.images.numpy(), given_.targets.numpy()
    partner, m = params["partner"].numpy(), params["m"].numpy()
    share = m[:, None, None, None]
    np.testing.assert_allclose(images.numpy(), share * x + (1 - share) * x[partner], atol=1e-6)
    np.testing.assert_allclose(targets.numpy(), m[:, None] * y + (1 - m[:, None]) * y[partner], atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_are_beta(alpha: float) -> None:
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1))."""
    m = mixup.sample(generator(0), 20000, alpha)["m"]
    assert abs(m.mean().item() - 0.5) < 0.015
    assert abs(m.var().item() * 4 * (2 * alpha + 1) - 1) < 0.05


@few
@given(st.integers(1, 12), st.integers(1, 20), st.integers(1, 20), st.integers(0, 1000))
def test_cutmix_labels_follow_the_pasted_pixels(n: int, height: int, width: int, seed: int) -> None:
    given_ = batch(n, height, width)
    params = cutmix.sample(generator(seed), n, 1.0, 1.0)
    images, targets = Cutmix().apply(given_.images, given_.targets, params)
    for i, j in enumerate(params["partner"].tolist()):
        own = (images[i] == given_.images[i]).all(0)
        other = (images[i] == given_.images[j]).all(0)
        assert (own | other).all()
        m = own.float().mean() if i != j else torch.tensor(1.0)
        assert torch.allclose(targets[i], m * given_.targets[i] + (1 - m) * given_.targets[j], atol=1e-6)
        rows, columns = (~own).any(1), (~own).any(0)
        assert torch.equal(~own, rows[:, None] & columns)  # one box
    assert torch.allclose(targets.sum(1), torch.ones(n), atol=1e-6)


def test_cutmix_boxes_are_as_large_as_drawn_away_from_the_border() -> None:
    given_ = batch(2, 40, 60)
    centre, share = torch.full((2, 2), 0.5), torch.tensor([0.25, 0.0])
    images, targets = cutmix.apply(given_.images, given_.targets, torch.tensor([1, 0]), centre, share)
    changed = (images != given_.images).any(1)
    assert changed[0, 10:30, 15:45].all() and int(changed[0].sum()) == 20 * 30
    assert not changed[1].any()
    assert torch.allclose(targets[0], 0.75 * given_.targets[0] + 0.25 * given_.targets[1])


def test_cutmix_leaves_the_rest_of_the_images_alone() -> None:
    share = cutmix.sample(generator(0), 4000, 0.3, 1.0)["share"]
    assert 0.27 < (share > 0).float().mean().item() < 0.33


@pytest.mark.parametrize(
    "wrong", [lambda: Mixup(alpha=-1.0), lambda: Cutmix(p=1.5), lambda: Cutmix(alpha=0.0)]
)
def test_impossible_options_are_refused_in_words(wrong: object) -> None:
    with pytest.raises(ConvclinicError, match=r"\w+\.\w+ is .*\("):
        wrong()  # type: ignore[operator]
