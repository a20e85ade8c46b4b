import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.regularise.label_smoothing import LabelSmoothing, smooth


def soft(seed: int, b: int, k: int) -> torch.Tensor:
    return torch.rand(b, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.2, 1.0])
def test_loss_equals_that_of_torch(smoothing):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(16, 7, generator=rng, dtype=torch.float64)
    classes = torch.randint(7, (16,), generator=rng)
    targets = F.one_hot(classes, 7).double()
    ours = F.cross_entropy(logits, LabelSmoothing(smoothing).targets(targets))
    torch.testing.assert_close(ours, F.cross_entropy(logits, classes, label_smoothing=smoothing))
    mixed = soft(1, 16, 7)
    ours = F.cross_entropy(logits, LabelSmoothing(smoothing).targets(mixed))
    torch.testing.assert_close(ours, F.cross_entropy(logits, mixed, label_smoothing=smoothing))


def test_golden_imagenet_value():
    # Szegedy et al. 2016, section 7: K = 1000, u(k) = 1/1000, epsilon = 0.1 -> 0.9001 and 0.0001
    row = smooth(torch.eye(1000, dtype=torch.float64)[:1], 0.1)
    assert row[0, 0].item() == pytest.approx(0.9001) and row[0, 1].item() == pytest.approx(0.0001)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 99), st.floats(0, 1), st.integers(1, 20))
def test_rows_sum_to_one_and_keep_their_order(seed, smoothing, k):
    targets = soft(seed, 3, k)
    out = smooth(targets, smoothing)
    torch.testing.assert_close(out.sum(1), torch.ones(3, dtype=torch.float64))
    assert out.min() >= 0
    if smoothing < 0.99:
        assert torch.equal(out.argmax(1), targets.argmax(1))


def test_zero_is_off_and_input_is_kept():
    targets = torch.eye(4)
    assert torch.equal(LabelSmoothing(**LabelSmoothing.OFF).targets(targets), targets)
    LabelSmoothing(0.5).targets(targets)
    assert torch.equal(targets, torch.eye(4))


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, float("nan")])
def test_outside_is_refused(smoothing):
    with pytest.raises(ConvclinicError, match="smoothing"):
        LabelSmoothing(smoothing)
