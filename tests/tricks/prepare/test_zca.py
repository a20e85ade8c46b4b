import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power
from scipy.stats import ortho_group

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.prepare.pca_whitening import PCAWhitening
from convclinic.tricks.prepare.zca import ZCA


def images(n: int = 90, seed: int = 0) -> torch.Tensor:
    """Float64 images whose dimensions depend on each other; the variances fall a thousandfold."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(18, 18)))
    mixed = 0.5 + 0.3 * rng.normal(size=(n, 18)) * 0.8 ** np.arange(18) @ rotation
    return torch.from_numpy(mixed).view(n, 2, 3, 3)


def covariance(out: torch.Tensor) -> np.ndarray:
    return np.cov(out.flatten(1).numpy().T, bias=True)


def test_equals_the_inverse_root_in_scipy():
    x, unseen, eps = images(), images(20, seed=1), 0.01
    trick = ZCA(eps=eps)
    out = trick.apply(unseen, trick.fit(x.split(25)))
    root = fractional_matrix_power(covariance(x) + eps * np.eye(18), -0.5)
    expected = (unseen - x.mean(0)).flatten(1).numpy() @ root
    np.testing.assert_allclose(out.flatten(1).numpy(), expected, atol=1e-5)


@settings(deadline=None, derandomize=True, max_examples=15)
@given(st.integers(0, 1000))
def test_the_covariance_of_what_it_was_fitted_on_is_the_identity(seed):
    x = images(seed=seed)
    trick = ZCA(eps=1e-12)
    out = trick.apply(x, trick.fit(x.split(31)))
    np.testing.assert_allclose(covariance(out), np.eye(18), atol=1e-4)


@settings(deadline=None, derandomize=True, max_examples=15)
@given(st.integers(0, 1000))
def test_no_other_whitening_keeps_the_images_closer(seed):
    # every whitening is this one and a rotation afterwards
    x = images(seed=seed)
    trick, other = ZCA(eps=1e-9), PCAWhitening(eps=1e-9)
    centred = (x - x.mean(0)).flatten(1)
    white = trick.apply(x, trick.fit([x])).flatten(1)
    rotation = torch.from_numpy(ortho_group.rvs(18, random_state=seed))
    least = (white - centred).square().sum()
    assert least < (white @ rotation - centred).square().sum()
    assert least < (other.apply(x, other.fit([x])).flatten(1) - centred).square().sum()


def test_mirrored_images_give_the_mirrored_map():
    # so flips mean the same after it as before; pca has no such law
    x = images()
    trick = ZCA()
    out, flipped = trick.apply(x, trick.fit([x])), trick.apply(x.flip(3), trick.fit([x.flip(3)]))
    torch.testing.assert_close(flipped, out.flip(3), rtol=0, atol=1e-5)


def test_wrong_numbers_are_explained():
    with pytest.raises(ConvclinicError, match="above 0"):
        ZCA(eps=-1.0)
