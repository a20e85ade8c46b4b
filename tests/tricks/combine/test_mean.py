"""How views are averaged, against SciPy and numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.rng import generator
from convclinic.tricks.combine._mean import MEANS, averaged
from convclinic.tricks.combine.five_crop import FiveCrop
from convclinic.tricks.combine.flip_views import FlipViews
from convclinic.tricks.combine.scale_views import ScaleViews
from convclinic.tricks.combine.shift_views import ShiftViews
from convclinic.tricks.combine.ten_crop import TenCrop

few = settings(max_examples=40, deadline=None, derandomize=True)
any_views = given(st.integers(0, 999), st.integers(1, 10), st.integers(1, 6), st.floats(0.01, 50))


def drawn(seed: int, v: int, k: int, spread: float) -> tuple[list[torch.Tensor], list[float]]:
    """Logits of three images in `v` views, and the views' weights."""
    rng = generator(seed, "mean")
    logits = spread * torch.randn((v, 3, k), generator=rng, dtype=torch.float64)
    weights = torch.rand(v, generator=rng, dtype=torch.float64) + 0.01
    return list(logits), (weights / weights.sum()).tolist()


@few
@any_views
def test_probabilities_are_the_mean_of_the_views_probabilities(
    seed: int, v: int, k: int, spread: float
) -> None:
    logits, weights = drawn(seed, v, k, spread)
    made = special.softmax(averaged(logits, weights, "probabilities").numpy(), axis=1)
    views = special.softmax(torch.stack(logits).numpy(), axis=2)
    np.testing.assert_allclose(made, np.average(views, axis=0, weights=weights), atol=1e-12)


@few
@any_views
def test_logits_are_the_mean_of_the_views_logits(seed: int, v: int, k: int, spread: float) -> None:
    logits, weights = drawn(seed, v, k, spread)
    wanted = np.average(torch.stack(logits).numpy(), axis=0, weights=weights)
    np.testing.assert_allclose(averaged(logits, weights, "logits").numpy(), wanted, atol=1e-12)


@few
@any_views
def test_a_views_level_of_logits_does_not_count_in_probabilities(
    seed: int, v: int, k: int, spread: float
) -> None:
    logits, weights = drawn(seed, v, k, spread)
    raised = [logits[0] + 100, *logits[1:]]
    before, after = (averaged(views, weights, "probabilities") for views in (logits, raised))
    torch.testing.assert_close(before, after, atol=1e-9, rtol=1e-9)


@few
@any_views
def test_the_order_of_the_views_does_not_matter(seed: int, v: int, k: int, spread: float) -> None:
    logits, weights = drawn(seed, v, k, spread)
    for mean in MEANS:
        turned = averaged(logits[::-1], weights[::-1], mean)
        torch.testing.assert_close(averaged(logits, weights, mean), turned, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("mean", MEANS)
def test_views_that_agree_are_not_changed(mean: str) -> None:
    logits, _ = drawn(0, 1, 5, 3.0)
    made = averaged(logits * 4, [0.4, 0.3, 0.2, 0.1], mean)
    torch.testing.assert_close(made.softmax(1), logits[0].softmax(1))


def test_logits_of_a_single_view_are_kept_bit_for_bit() -> None:
    [logits], _ = drawn(0, 1, 5, 3.0)
    assert torch.equal(averaged([logits.float()], [1.0], "logits"), logits.float())


def test_certain_views_that_contradict_each_other_leave_both_answers_open() -> None:
    sure = torch.tensor([[1e4, 0.0, -1e4]])
    made = averaged([sure, sure.roll(1, 1)], [0.5, 0.5], "probabilities")
    torch.testing.assert_close(made.softmax(1), torch.tensor([[0.5, 0.5, 0.0]]))


@pytest.mark.parametrize("mean", MEANS)
def test_gradients_flow(mean: str) -> None:
    logits, weights = drawn(3, 3, 4, 1.0)
    inputs = tuple(view.requires_grad_() for view in logits)
    assert torch.autograd.gradcheck(lambda *views: averaged(views, weights, mean), inputs)


@pytest.mark.parametrize("kind", [FlipViews, ShiftViews, FiveCrop, TenCrop, ScaleViews])
def test_every_choice_of_views_says_what_it_averages(kind: Any) -> None:
    assert kind().mean == "logits" and kind(mean="probabilities").mean == "probabilities"
    with pytest.raises(ConvclinicError, match=r"mean is 'logit' \(did you mean 'logits'\?\)"):
        kind(mean="logit")
