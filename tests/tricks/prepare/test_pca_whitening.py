import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA as SklearnPCA

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.prepare.pca_whitening import PCAWhitening


def images(n: int = 90, seed: int = 0) -> torch.Tensor:
    """Float64 images whose dimensions depend on each other; the variances fall a thousandfold."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(18, 18)))
    mixed = 0.5 + 0.3 * rng.normal(size=(n, 18)) * 0.8 ** np.arange(18) @ rotation
    return torch.from_numpy(mixed).view(n, 2, 3, 3)


def covariance(out: torch.Tensor) -> np.ndarray:
    return np.cov(out.flatten(1).numpy().T, bias=True)


@pytest.mark.parametrize("keep", [0, 6])
def test_equals_scikit_learn_as_eps_goes_to_zero(keep):
    x, unseen = images(), images(20, seed=1)
    trick, k = PCAWhitening(eps=1e-12, keep=keep), keep or 18
    out = trick.apply(unseen, trick.fit(x.split(25))).flatten(1).numpy()
    oracle = SklearnPCA(keep or None, svd_solver="full", whiten=True).fit(x.flatten(1).numpy())
    # scikit-learn's variance is that of a sample, over n - 1
    expected = oracle.transform(unseen.flatten(1).numpy()) * np.sqrt(90 / 89)
    expected *= np.sign((expected * out[:, :k]).sum(0))
    np.testing.assert_allclose(out[:, :k], expected, atol=1e-4)
    assert not out[:, k:].any()


@settings(deadline=None, derandomize=True, max_examples=15)
@given(st.integers(0, 1000))
def test_the_covariance_of_what_it_was_fitted_on_is_the_identity(seed):
    x = images(seed=seed)
    trick = PCAWhitening(eps=1e-12)
    out = trick.apply(x, trick.fit(x.split(31)))
    np.testing.assert_allclose(covariance(out), np.eye(18), atol=1e-4)


def test_eps_shrinks_each_direction_as_the_formula_says():
    x, eps = images(), 0.01
    trick = PCAWhitening(eps=eps)
    scale = np.linalg.eigvalsh(covariance(x))[::-1]
    diagonal = np.diag(covariance(trick.apply(x, trick.fit([x]))))
    np.testing.assert_allclose(diagonal, scale / (scale + eps), rtol=1e-4)


def test_stored_images_come_out_white():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(0, 256, (400, 3, 3, 3), dtype=np.uint8))
    trick = PCAWhitening(eps=1e-12)
    out = trick.apply(x.double() / 255, trick.fit(x.split(64)))
    np.testing.assert_allclose(covariance(out), np.eye(27), atol=1e-5)


def test_directions_that_no_training_image_has_are_bounded_by_eps():
    x = images(6)
    trick = PCAWhitening(eps=0.01)
    state = trick.fit([x])
    out = trick.apply(images(seed=2), state)
    assert out.isfinite().all()
    # no direction is stretched by more than 1 / sqrt(eps)
    assert np.linalg.svd(state["matrix"].numpy(), compute_uv=False).max() <= 10 * (1 + 1e-5)


def test_wrong_numbers_are_explained():
    with pytest.raises(ConvclinicError, match="above 0"):
        PCAWhitening(eps=0.0)
    with pytest.raises(ConvclinicError, match=r"pca_whitening\.keep must be at least 0"):
        PCAWhitening(keep=-1)
    with pytest.raises(ConvclinicError, match="18 components"):
        PCAWhitening(keep=19).fit([images()])
