"""The policies that act in the loss, against scikit-learn and against what their loss is minimal for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.rng import generator
from convclinic.tricks.balance import class_weights, logit_adjustment
from convclinic.tricks.balance.class_weights import ClassWeights
from convclinic.tricks.balance.logit_adjustment import LogitAdjustment

few = settings(max_examples=40, deadline=None, derandomize=True)
sizes = st.lists(st.integers(1, 500), min_size=1, max_size=6)
COUNTS = torch.tensor([700, 250, 50])


def labels_of(counts: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


@few
@given(sizes)
def test_weights_are_scikit_learns_balanced_ones(counts: list[int]) -> None:
    labels = labels_of(counts)
    wanted = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    np.testing.assert_allclose(ClassWeights().weights(torch.tensor(counts)).numpy(), wanted, rtol=1e-6)


@few
@given(sizes, st.floats(0, 2), st.floats(0, 1))
def test_the_mean_weight_of_an_image_is_one_and_rare_classes_weigh_no_less(
    counts: list[int], power: float, beta: float
) -> None:
    made = ClassWeights(power, beta).weights(torch.tensor(counts)).double().numpy()
    assert np.average(made, weights=counts) == pytest.approx(1, rel=1e-5)
    assert (np.diff(made[np.argsort(counts)]) <= 1e-5 * made.max()).all()


@few
@given(sizes, st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999, 0.9999]))
def test_the_effective_number_is_the_sum_it_comes_from(counts: list[int], beta: float) -> None:
    """Cui et al. 2019, equation 1: E_n = 1 + beta + ... + beta^(n - 1)."""
    wanted = [np.sum(beta ** np.arange(n)) for n in counts]
    made = class_weights.effective_number(torch.tensor(counts), beta)
    np.testing.assert_allclose(made.numpy(), wanted, rtol=1e-8)


def test_the_effective_number_goes_from_one_to_the_number_of_images() -> None:
    assert class_weights.effective_number(COUNTS, 0.0).tolist() == [1, 1, 1]
    assert class_weights.effective_number(COUNTS, 1.0).tolist() == [700, 250, 50]
    near = class_weights.effective_number(COUNTS, 1 - 1e-9)
    torch.testing.assert_close(near, COUNTS.double(), rtol=1e-5, atol=0)


def test_the_weighted_loss_over_all_images_is_scikit_learns() -> None:
    """Its sample weights are normalised, so this holds only while the mean weight is one."""
    labels = torch.from_numpy(labels_of(COUNTS.tolist()))
    logits = torch.randn((len(labels), 3), generator=generator(0, "loss"), dtype=torch.float64)
    weights = class_weights.weights(COUNTS, power=0.5, beta=0.99)
    ours = F.cross_entropy(logits, F.one_hot(labels, 3).double(), weight=weights)
    wanted = log_loss(labels.numpy(), logits.softmax(1).numpy(), sample_weight=weights[labels].numpy())
    assert ours.item() == pytest.approx(wanted)


def minimiser(loss: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """softmax of the logits (x, k) at which `loss` is least; each x has its own."""
    logits = torch.zeros((4, 3), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(logits)
        value.backward()
        return value

    optimizer.step(closure)
    return logits.detach().softmax(1)


def toy() -> tuple[torch.Tensor, torch.Tensor]:
    """p(x | k), columns that sum to one, and the joint p(x, k) under the shares of COUNTS."""
    given_class = torch.rand((4, 3), generator=generator(0, "toy"), dtype=torch.float64) + 0.1
    given_class /= given_class.sum(0)
    return given_class, given_class * COUNTS / COUNTS.sum()


def test_logit_adjustment_is_minimal_at_the_balanced_posterior() -> None:
    given_class, joint = toy()
    offsets = logit_adjustment.offsets(COUNTS, tau=1.0)
    found = minimiser(lambda logits: -(joint * (logits + offsets).log_softmax(1)).sum())
    torch.testing.assert_close(found, given_class / given_class.sum(1, keepdim=True), atol=1e-5, rtol=0)


def test_class_weights_are_minimal_at_the_balanced_posterior() -> None:
    given_class, joint = toy()
    weights = class_weights.weights(COUNTS, power=1.0, beta=1.0)
    found = minimiser(lambda logits: -(joint * weights * logits.log_softmax(1)).sum())
    torch.testing.assert_close(found, given_class / given_class.sum(1, keepdim=True), atol=1e-5, rtol=0)


@pytest.mark.parametrize("tau", [0.0, 0.5, 2.0])
def test_other_taus_divide_the_posterior_by_that_power_of_the_prior(tau: float) -> None:
    _, joint = toy()
    offsets = logit_adjustment.offsets(COUNTS, tau)
    found = minimiser(lambda logits: -(joint * (logits + offsets).log_softmax(1)).sum())
    wanted = joint / (COUNTS / COUNTS.sum()) ** tau
    torch.testing.assert_close(found, wanted / wanted.sum(1, keepdim=True), atol=1e-5, rtol=0)


@few
@given(st.lists(st.integers(1, 500), min_size=2, max_size=6), st.floats(0, 3), st.integers(0, 99))
def test_logit_adjustment_is_the_sources_pairwise_margin(counts: list[int], tau: float, seed: int) -> None:
    """Menon et al. 2021: log(1 + sum over y' != y of (pi_y' / pi_y)^tau exp(f_y' - f_y))."""
    f = torch.randn(len(counts), generator=generator(seed, "margin"), dtype=torch.float64)
    ours = F.cross_entropy(
        (f + logit_adjustment.offsets(torch.tensor(counts), tau))[None], torch.zeros(1, dtype=torch.long)
    )
    prior = np.array(counts) / sum(counts)
    terms = (prior[1:] / prior[0]) ** tau * np.exp(f.numpy()[1:] - f.numpy()[0])
    assert ours.item() == pytest.approx(np.log1p(terms.sum()))


def test_each_policy_leaves_alone_what_it_does_not_do() -> None:
    for policy in (ClassWeights(**ClassWeights.OFF), ClassWeights(beta=0.0), LogitAdjustment(3.0)):
        torch.testing.assert_close(policy.weights(COUNTS), torch.ones(3))
    for policy in (LogitAdjustment(**LogitAdjustment.OFF), ClassWeights(1.5, 0.9)):
        assert torch.equal(policy.offsets(COUNTS), torch.zeros(3))


def test_the_loss_stays_in_single_precision() -> None:
    for policy in (ClassWeights(), LogitAdjustment()):
        assert policy.weights(COUNTS).dtype == policy.offsets(COUNTS).dtype == torch.float32


@pytest.mark.parametrize("find", [ClassWeights().weights, LogitAdjustment().offsets])
def test_a_class_without_images_is_refused_by_its_number(find: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises(ConvclinicError, match=r"class number 1 .*no training images.*\(give"):
        find(torch.tensor([5, 0, 3]))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ClassWeights(power=-1.0),
        lambda: ClassWeights(power=float("nan")),
        lambda: ClassWeights(beta=1.5),
        lambda: LogitAdjustment(tau=-0.5),
        lambda: LogitAdjustment(tau=float("inf")),
    ],
)
def test_impossible_options_are_refused_in_words(wrong: object) -> None:
    with pytest.raises(ConvclinicError, match=r"\w+\.\w+ is .*\("):
        wrong()  # type: ignore[operator]
