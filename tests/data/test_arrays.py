"""Arrays: idx and npz."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from convclinic.data.sources import open_source
from convclinic.ground.errors import ConvclinicError


def write_idx(path: Path, array: np.ndarray) -> None:
    data = struct.pack(f">{1 + array.ndim}i", 0x0800 + array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx(tmp_path, end):
    x = np.random.default_rng(0).integers(0, 256, (5, 4, 6)).astype(np.uint8)
    for part, rows in (("train", slice(0, 3)), ("t10k", slice(3, 5))):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte{end}", x[rows])
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte{end}", np.array([7, 3, 7, 3, 7], np.uint8)[rows])
    source = open_source(tmp_path)
    assert source.kind == "idx" and source.classes == ("3", "7")
    assert source.names == ["train/000000", "train/000001", "train/000002", "test/000000", "test/000001"]
    assert source.labels.tolist() == [1, 0, 1, 0, 1]
    assert source.splits.tolist() == [0, 0, 0, 2, 2]
    assert all(np.array_equal(source.read(i), x[i]) for i in (4, 0, 3))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    x = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3)).astype(np.uint8)
    y = np.array([[2], [10], [2], [10], [2], [10]])
    save(tmp_path / "a.npz", x_train=x[:4], y_train=y[:4], x_test=x[4:], y_test=y[4:])
    source = open_source(tmp_path / "a.npz")
    assert source.classes == ("2", "10") and source.splits.tolist() == [0, 0, 0, 0, 2, 2]
    assert source.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert all(np.array_equal(source.read(i), x[i]) for i in range(6))
    save(tmp_path / "b.npz", images=x, labels=np.array(list("ababab")))
    free = open_source(tmp_path / "b.npz")
    assert free.classes == ("a", "b") and (free.splits == -1).all()


def test_npz_with_pickles_or_odd_shapes_is_refused(tmp_path):
    np.savez(tmp_path / "p.npz", x=np.zeros((2, 4, 4), np.uint8), y=np.array(["a", None], object))
    with pytest.raises(ConvclinicError, match="not a readable npz"):
        open_source(tmp_path / "p.npz")
    np.savez(tmp_path / "s.npz", x=np.zeros((2, 3, 8, 8), np.uint8), y=np.arange(2))
    with pytest.raises(ConvclinicError, match=r"shape \(2, 3, 8, 8\).*must be \(n, h, w\)"):
        open_source(tmp_path / "s.npz")
    np.savez(tmp_path / "n.npz", foo=np.zeros(3))
    with pytest.raises(ConvclinicError, match=r"arrays 'foo'.*x_train"):
        open_source(tmp_path / "n.npz")
