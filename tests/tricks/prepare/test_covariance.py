from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.prepare._covariance import BLOCK, STRIP, covariance, leading, principal_axes


def images(n: int = 50, c: int = 3, h: int = 4, w: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, c, h, w), dtype=np.uint8))


@pytest.mark.parametrize("as_float", [False, True])
def test_equals_numpy_in_float64(as_float):
    x = images()
    mean, matrix = covariance("pca", (x / 255 if as_float else x).split(13))
    flat = x.flatten(1).numpy() / np.float64(255)
    tolerance = 1e-7 if as_float else 1e-15
    np.testing.assert_allclose(mean.flatten().numpy(), flat.mean(0), atol=tolerance, rtol=0)
    np.testing.assert_allclose(matrix.numpy(), np.cov(flat.T, bias=True), atol=tolerance, rtol=0)
    assert mean.shape == (3, 4, 3) and torch.equal(matrix, matrix.T)


def test_levels_are_summed_without_rounding():
    # the worst case: every level is as far from the middle as it can be, in more images than a block has
    n = 2 * BLOCK + 7
    x = images(n, c=1, h=2, w=2) // 128 * 255
    x[:, 0, 0, 0] = 0
    flat = x.flatten(1).numpy().astype(np.int64)
    # n^2 times the covariance in whole numbers
    exact = n * (flat.T @ flat) - np.outer(flat.sum(0), flat.sum(0))
    _, matrix = covariance("pca", [x])
    np.testing.assert_allclose(matrix.numpy(), exact / (n * 255.0) ** 2, atol=1e-15, rtol=1e-14)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.lists(st.integers(1, 30), max_size=4))
def test_chunks_of_stored_images_do_not_matter_to_the_last_bit(cuts):
    x = images()
    edges = [0, *np.cumsum(cuts).clip(0, 50).tolist(), 50]
    whole, streamed = covariance("pca", [x]), covariance("pca", (x[a:b] for a, b in pairwise(edges)))
    assert torch.equal(whole[0], streamed[0]) and torch.equal(whole[1], streamed[1])


def test_more_dimensions_than_a_strip_has():
    x = images(40, c=3, h=14, w=14)
    assert x[0].numel() > STRIP
    _, matrix = covariance("zca", [x])
    expected = np.cov(x.flatten(1).numpy().T / np.float64(255), bias=True)
    np.testing.assert_allclose(matrix.numpy(), expected, atol=1e-15, rtol=0)


def test_floats_far_from_zero_keep_their_spread():
    # centred where they lie: about zero, float32 would leave nothing of a variance of 1 beside 1e8
    x = 1e4 + torch.randn(50, 1, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, matrix = covariance("pca", x.split(9))
    np.testing.assert_allclose(matrix.numpy(), np.cov(x.flatten(1).numpy().T, bias=True), atol=1e-6, rtol=0)


def test_axes_are_orthonormal_ordered_and_have_a_settled_sign():
    x = torch.randn(60, 2, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    axes, mirrored = principal_axes("pca", [x]), principal_axes("pca", [-x])
    d = 12
    torch.testing.assert_close(axes.vectors.T @ axes.vectors, torch.eye(d, dtype=torch.float64))
    assert (axes.variances.diff() <= 0).all()
    largest = axes.vectors.gather(0, axes.vectors.abs().argmax(0, keepdim=True))
    assert (largest > 0).all()
    torch.testing.assert_close(mirrored.vectors, axes.vectors, rtol=1e-6, atol=1e-6)


def test_a_golden_case_by_hand():
    # C = [[2, 1], [1, 2]]: (1, 1) / sqrt 2 at variance 3, (1, -1) / sqrt 2 at 1
    root = torch.tensor([[2.0, 1.0], [0.0, 3.0**0.5]]).double() / 2**0.5
    x = torch.cat([root, -root]).view(4, 2, 1, 1) * 2**0.5
    _, vectors, variances = principal_axes("pca", [x])
    torch.testing.assert_close(variances, torch.tensor([3.0, 1.0]).double())
    torch.testing.assert_close(vectors.abs(), torch.full((2, 2), 0.5**0.5).double())
    assert vectors[0, 0] * vectors[1, 0] > 0 > vectors[0, 1] * vectors[1, 1]


def test_fewer_images_than_dimensions_leave_directions_without_variance():
    axes = principal_axes("pca", [images(5)])
    assert (axes.variances >= 0).all() and (axes.variances[4:] < 1e-12).all()


def test_too_many_dimensions_are_refused_before_any_memory_is_taken():
    with pytest.raises(ConvclinicError, match=r"65 x 64 images with 3 channels.*patch_whitening"):
        covariance("zca", [torch.zeros(1, 3, 65, 64, dtype=torch.uint8)])


def test_more_components_than_there_are_is_explained():
    axes = principal_axes("pca", [images(c=1)])
    assert leading("pca", axes, 12).vectors.shape == (12, 12)
    with pytest.raises(ConvclinicError, match=r"pca\.keep is 13.*12 components"):
        leading("pca", axes, 13)
