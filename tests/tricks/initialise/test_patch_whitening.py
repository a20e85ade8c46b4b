import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.initialise.patch_whitening import PatchWhitening, patch_moment, whitening_filters


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(n: int = 40, c: int = 3, size: int = 10, seed: int = 0) -> torch.Tensor:
    """Smooth images whose channels depend on each other, roughly centred, float64."""
    noise = torch.randn(n, c, size + 2, size + 2, generator=rng(seed), dtype=torch.float64)
    smooth = F.avg_pool2d(noise, 3, stride=1)
    return smooth + 0.5 * smooth.flip(1)


def whitened(images: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    """Second moment (f, f) of the first half of the filters' responses over all patches."""
    z = F.conv2d(images, filters[: len(filters) // 2]).transpose(0, 1).flatten(1)
    return z @ z.mT / z.shape[1]


@settings(deadline=None, derandomize=True, max_examples=12)
@given(st.integers(0, 1000), st.sampled_from([1, 3]), st.sampled_from([1, 2, 3]))
def test_patches_come_out_white_as_eps_goes_to_zero(seed, channels, kernel):
    images = photos(c=channels, seed=seed)
    filters = whitening_filters(images, kernel, eps=1e-12)
    assert filters.shape == (2 * channels * kernel**2, channels, kernel, kernel)
    moment = whitened(images, filters)
    torch.testing.assert_close(moment, torch.eye(len(moment), dtype=torch.float64), atol=1e-6, rtol=0)


def test_eps_shrinks_each_direction_as_the_formula_says():
    images, eps = photos(), 0.05
    scale = np.linalg.eigvalsh(patch_moment(images, 2).numpy())
    moment = whitened(images, whitening_filters(images, 2, eps))
    np.testing.assert_allclose(moment.diagonal().numpy(), scale / (scale + eps), rtol=1e-6)


def test_moment_equals_a_loop_over_patches_in_numpy():
    images = photos(n=3, size=5)
    patches = [
        images[i, :, y : y + 2, x : x + 2].reshape(-1).numpy()
        for i in range(3)
        for y in range(4)
        for x in range(4)
    ]
    expected = np.mean([np.outer(p, p) for p in patches], axis=0)
    np.testing.assert_allclose(patch_moment(images, 2).numpy(), expected, rtol=1e-10, atol=1e-12)


def test_a_golden_case_by_hand():
    # 1x1 patches of two channels: C = [[2, 1], [1, 2]] has v = (1, -1) / sqrt 2 at 1 and (1, 1) / sqrt 2 at 3
    root = np.linalg.cholesky([[2.0, 1.0], [1.0, 2.0]]) * np.sqrt(2)
    images = torch.from_numpy(root.T.copy()).view(2, 2, 1, 1)
    filters = whitening_filters(images, 1, eps=1.0)[:, :, 0, 0].numpy()
    expected = np.array([[1, -1], [1, 1]]) / np.sqrt(2) / np.sqrt([[1 + 1], [3 + 1]])
    # the sign of (1, -1) hangs on the last bit: both halves are there anyway
    np.testing.assert_allclose(np.abs(filters[:2]), np.abs(expected), rtol=1e-9)
    assert filters[0, 0] * filters[0, 1] < 0 < filters[1, 0] * filters[1, 1]
    np.testing.assert_array_equal(filters[2:], -filters[:2])


def test_half_precision_images_are_summed_in_single():
    images = photos().half()
    torch.testing.assert_close(
        patch_moment(images, 2), patch_moment(images.double(), 2), rtol=1e-5, atol=1e-7
    )


def test_directions_without_any_variance_stay_finite():
    assert whitening_filters(torch.zeros(2, 3, 4, 4), 2, 5e-4).isfinite().all()
    gray = photos(c=1).expand(-1, 3, -1, -1)  # rank 4 of 12: rounding may take the rest below zero
    assert whitening_filters(gray, 2, 1e-30).isfinite().all()


class Tiny(nn.Module):
    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, width, 2)
        self.whiten.weight.requires_grad = False


def test_apply_sets_the_frozen_filters_and_nothing_else():
    net, images = Tiny(), photos().float()
    bias = net.whiten.bias.clone()
    PatchWhitening().apply(net, rng(), images, 1.0)
    torch.testing.assert_close(net.whiten.weight.data, whitening_filters(images, 2, 5e-4).float())
    assert torch.equal(net.whiten.bias, bias) and not net.whiten.weight.requires_grad


@pytest.mark.parametrize(
    ("net", "word"),
    [(nn.Sequential(nn.Conv2d(3, 4, 3)), "named `whiten`.*such as fast"), (Tiny(20), r"\(24, 3, 2, 2\)")],
)
def test_a_net_it_does_not_fit_is_explained(net, word):
    with pytest.raises(ConvclinicError, match=word):
        PatchWhitening().apply(net, rng(), photos(), 1.0)


def test_wrong_numbers_are_explained():
    with pytest.raises(ConvclinicError, match="above 0"):
        PatchWhitening(eps=0.0)
    with pytest.raises(ConvclinicError, match="3x3 patches"):
        whitening_filters(torch.zeros(2, 3, 2, 2), 3, 5e-4)
