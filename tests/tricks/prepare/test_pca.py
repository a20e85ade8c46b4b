import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA as SklearnPCA

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.prepare.pca import PCA


def images(n: int = 90, seed: int = 0) -> torch.Tensor:
    """Float64 images whose dimensions depend on each other; the variances fall a thousandfold."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(18, 18)))
    mixed = 0.5 + 0.3 * rng.normal(size=(n, 18)) * 0.8 ** np.arange(18) @ rotation
    return torch.from_numpy(mixed).view(n, 2, 3, 3)


def with_signs_of(theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
    return theirs * np.sign((theirs * ours).sum(0))


@pytest.mark.parametrize("keep", [0, 6])
def test_equals_scikit_learn(keep):
    x, unseen = images(), images(20, seed=1)
    trick = PCA(keep=keep)
    out = trick.apply(unseen, trick.fit(x.split(25))).flatten(1).numpy()
    oracle = SklearnPCA(keep or None, svd_solver="full").fit(x.flatten(1).numpy())
    expected = oracle.transform(unseen.flatten(1).numpy())
    k = keep or 18
    np.testing.assert_allclose(out[:, :k], with_signs_of(expected, out[:, :k]), atol=1e-5)
    assert not out[:, k:].any()


@settings(deadline=None, derandomize=True, max_examples=15)
@given(st.integers(0, 1000))
def test_coordinates_are_uncorrelated_centred_and_fall_in_variance(seed):
    x = images(seed=seed)
    trick = PCA()
    out = trick.apply(x, trick.fit([x])).flatten(1).numpy()
    matrix = np.cov(out.T, bias=True)
    np.testing.assert_allclose(matrix, np.diag(np.diag(matrix)), atol=1e-6)
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-6)
    assert (np.diff(np.diag(matrix)) < 1e-6).all()


def test_all_components_are_a_rotation():
    x = images()
    trick = PCA()
    out = trick.apply(x, trick.fit([x]))
    torch.testing.assert_close(torch.pdist(out.flatten(1)), torch.pdist(x.flatten(1)), rtol=1e-5, atol=0)


def test_what_is_kept_is_the_best_of_that_many_dimensions():
    # Eckart and Young, 1936: what is lost is the sum of the variances left out
    x = images()
    full, part = PCA(), PCA(keep=4)
    all_of_it = full.apply(x, full.fit([x])).flatten(1)
    state = part.fit([x])
    kept = part.apply(x, state).flatten(1)
    assert state["matrix"].shape == (18, 4)
    torch.testing.assert_close(kept[:, :4], all_of_it[:, :4])
    lost = (x.flatten(1) - x.flatten(1).mean(0) - kept[:, :4] @ state["matrix"].double().T).square().sum()
    torch.testing.assert_close(lost, all_of_it[:, 4:].square().sum(), rtol=1e-4, atol=0)


def test_wrong_numbers_are_explained():
    with pytest.raises(ConvclinicError, match=r"pca\.keep must be at least 0"):
        PCA(keep=-1)
    with pytest.raises(ConvclinicError, match=r"pca\.keep is 19.*18 components"):
        PCA(keep=19).fit([images()])
