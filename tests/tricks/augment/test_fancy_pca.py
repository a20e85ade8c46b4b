"""Fancy PCA against numpy, numbers worked by hand, and the ImageNet numbers in general use."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.rng import generator
from convclinic.ground.typed import build
from convclinic.kinds import Batch
from convclinic.tricks.augment._pipeline import draw, replay
from convclinic.tricks.augment.fancy_pca import FancyPCA

PHOTOS = Path(__file__).resolve().parents[4] / "shared" / "data" / "trashnet-256.tar"
# fb.resnet.torch, datasets/imagenet.lua (2016), and many since: eigenvalues, and eigenvectors as columns
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


def coloured(n: int, seed: int = 0) -> torch.Tensor:
    """Images whose channels go together, as those of photographs do."""
    light, tint = (torch.rand((n, k, 9, 7), generator=generator(seed, str(k))) for k in (1, 3))
    return ((0.8 * light + 0.2 * tint) * 255).to(torch.uint8)


def photographs() -> list[torch.Tensor]:
    with tarfile.open(PHOTOS) as tar:
        names = [name for name in tar.getnames() if name.endswith(".jpg")][::500]
        files = [tar.extractfile(name) for name in names]
        arrays = [np.asarray(Image.open(io.BytesIO(file.read()))) for file in files if file is not None]
    return [torch.tensor(array).permute(2, 0, 1)[None] for array in arrays]


def covariance(chunks: list[torch.Tensor]) -> NDArray[np.float64]:
    pixels = np.concatenate([chunk.permute(0, 2, 3, 1).reshape(-1, chunk.shape[1]) for chunk in chunks])
    return np.cov(pixels.T.astype(np.float64) / 255, bias=True)


def shift(trick: FancyPCA, alpha: list[float]) -> NDArray[np.float64]:
    maps = trick.matrix({"alpha": torch.tensor([alpha])}, torch.zeros(1, len(alpha)))
    assert torch.equal(maps[0, :, :-1], torch.eye(len(alpha)))
    return maps[0, :, -1].double().numpy()


@pytest.mark.parametrize("real", [False, True])
def test_each_component_moves_by_its_eigenvalue_as_numpy_has_it(real: bool) -> None:
    if real and not PHOTOS.exists():
        pytest.skip(f"needs {PHOTOS.name}")
    chunks = photographs() if real else [coloured(5), coloured(3, seed=1)]
    values, vectors = np.linalg.eigh(covariance(chunks))
    fitted = FancyPCA().fit(chunks)
    for i, k in enumerate((2, 1, 0)):  # numpy's come smallest first
        alpha = [float(i == j) for j in range(3)]
        for by, size in (("variance", values[k]), ("deviation", np.sqrt(values[k]))):
            moved = shift(dataclasses.replace(fitted, by=by), alpha)
            assert np.linalg.norm(moved) == pytest.approx(size, rel=1e-4)
            assert abs(moved @ vectors[:, k]) == pytest.approx(size, rel=1e-4)


def test_black_and_white_by_hand() -> None:
    """Half black, half white: C = 1/4 everywhere, so l = 3/4 along (1, 1, 1) / sqrt 3, and else 0."""
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    fitted = FancyPCA().fit([images])
    assert shift(fitted, [1.0, 0.0, 0.0]) == pytest.approx([0.75 / 3**0.5] * 3, abs=1e-6)
    assert shift(fitted, [0.0, 1.0, 1.0]) == pytest.approx([0, 0, 0], abs=1e-6)


def test_gray_images_move_by_their_variance() -> None:
    images = coloured(6)[:, :1]
    variance = float(np.var(images.double().numpy() / 255))
    assert shift(FancyPCA().fit([images]), [1.0]) == pytest.approx([variance], rel=1e-5)


def test_imagenets_numbers_give_five_levels_and_their_roots_twelve() -> None:
    columns = np.array(EIGENVECTORS) * np.sqrt(EIGENVALUES)
    trick = FancyPCA(basis=tuple(columns.flatten().tolist()))
    batch = Batch(torch.zeros(20_000, 3, 1, 1), torch.zeros(20_000, 1), torch.arange(20_000))
    drawn = trick.sample(generator(0), batch)
    for by, levels in (("variance", 5.5), ("deviation", 11.9)):
        maps = dataclasses.replace(trick, by=by).matrix(drawn, torch.zeros(20_000, 3))
        along = maps[:, :, 3].double() @ torch.tensor(EIGENVECTORS, dtype=torch.float64)[:, 0]
        assert along.std().item() * 255 == pytest.approx(levels, rel=0.02)


def test_chunks_and_layout_change_nothing() -> None:
    images = coloured(12)
    whole = FancyPCA().fit([images])
    pieces = [piece.contiguous(memory_format=torch.channels_last) for piece in images.split(5)]
    assert FancyPCA().fit(pieces) == whole
    assert FancyPCA().fit(iter([*reversed(pieces)])) == whole


def test_fit_returns_a_copy_that_stands_in_a_recipe() -> None:
    bare = FancyPCA(std=0.2, by="deviation")
    fitted = bare.fit([coloured(2)])
    assert bare.basis == () and len(fitted.basis) == 9
    assert dataclasses.replace(fitted, basis=()) == bare
    assert build(FancyPCA, json.loads(json.dumps(dataclasses.asdict(fitted))), "fancy_pca") == fitted


def test_each_image_gets_one_colour_at_all_its_pixels() -> None:
    images = torch.randint(60, 190, (6, 3, 8, 5), dtype=torch.uint8, generator=generator(0))
    batch = Batch(images, torch.eye(6), torch.arange(6))
    fitted = FancyPCA().fit([coloured(20)])
    drawn = draw(batch, (fitted,), lambda name: generator(1, name))
    added = replay(batch, drawn, (8, 5)).images - images / 255
    expected = fitted.matrix(drawn[0][1], torch.zeros(6, 3))[:, :, 3]
    assert torch.allclose(added, expected[:, :, None, None].expand_as(added), atol=1e-5)
    assert len(expected.unique(dim=0)) == 6


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: FancyPCA().matrix({"alpha": torch.zeros(1, 3)}, torch.zeros(1, 3)), "no basis yet"),
        (lambda: FancyPCA(basis=(1.0,)).matrix({"alpha": torch.zeros(1, 3)}, torch.zeros(1, 3)), "need 9"),
        (lambda: FancyPCA().fit([]), "no training images"),
        (lambda: FancyPCA().fit([torch.zeros(0, 3, 2, 2, dtype=torch.uint8)]), "no training images"),
        (lambda: FancyPCA().fit([torch.zeros(1, 3, 2, 2)]), "uint8"),
        (lambda: FancyPCA().fit([coloured(1), coloured(1)[:, :1]]), "some 1"),
        (lambda: FancyPCA(std=-1.0), "fancy_pca.std is -1.0"),
        (lambda: FancyPCA(by="root"), "fancy_pca.by is 'root'"),
    ],
)
def test_misuse_is_refused_in_words(wrong: object, words: str) -> None:
    with pytest.raises(ConvclinicError, match=words):
        wrong()
