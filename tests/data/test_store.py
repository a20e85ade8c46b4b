"""The flat file of images."""

from __future__ import annotations

import errno
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from convclinic.data import store as module
from convclinic.data.store import Store
from convclinic.ground.errors import ConvclinicError


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3)).astype(np.uint8)


def test_what_is_written_is_read(tmp_path, images):
    path = tmp_path / "cache" / "images.u8"
    store = Store.create(path, images.shape)
    store.write(0, images[:3])
    for i in range(3, 10):
        store.write(i, images[i])
    assert not path.exists()  # not whole yet
    store.commit()
    assert path.exists() and [p.name for p in path.parent.iterdir()] == ["images.u8"]
    for one in (store, Store.open(path, images.shape)):
        got = one.gather(np.array([9, 0, 9, 4]))
        assert np.array_equal(got, images[[9, 0, 9, 4]]) and got.flags.c_contiguous and got.flags.writeable
        one.close()


@pytest.mark.parametrize("positioned", [True, False])
def test_any_order_of_rows_from_many_threads(tmp_path, images, monkeypatch, positioned):
    if not positioned:
        monkeypatch.delattr(module.os, "preadv", raising=False)
    store = Store.create(tmp_path / "s", images.shape)
    store.write(0, images)
    store.commit()
    orders = [np.random.default_rng(k).integers(0, 10, 40) for k in range(30)] + [np.arange(10), np.arange(0)]
    with ThreadPoolExecutor(4) as pool:
        for order, got in zip(orders, pool.map(store.gather, orders), strict=True):
            assert np.array_equal(got, images[order])
    for wrong in (-1, 10):
        with pytest.raises(IndexError, match="from 0 to 9"):
            store.gather(np.array([0, wrong]))
    store.close()


def test_a_cache_cut_short_behind_our_back_is_told(tmp_path, images):
    store = Store.create(tmp_path / "s", images.shape)
    store.write(0, images)
    store.commit()
    with open(tmp_path / "s", "r+b") as file:
        file.truncate(100)
    with pytest.raises(ConvclinicError, match=r"cannot read the image cache .* ends too early"):
        store.gather(np.array([7]))
    store.close()


def test_a_half_written_store_leaves_nothing_under_its_name(tmp_path, images):
    store = Store.create(tmp_path / "s", images.shape)
    store.write(0, images[:5])
    store.close()
    assert [p.name for p in tmp_path.iterdir()] == ["s.part"]
    with pytest.raises(ConvclinicError, match="cannot open the image cache"):
        Store.open(tmp_path / "s", images.shape)
    store = Store.create(tmp_path / "s", images.shape)
    store.discard()
    assert list(tmp_path.iterdir()) == []


def test_too_little_disk_is_told_before(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(0, 0, 70_000_000))
    with pytest.raises(ConvclinicError, match=r"needs 30\.0 MB in .*70\.0 MB are free.*--out"):
        Store.create(tmp_path / "s", (10_000, 10, 100, 3))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_told(tmp_path, images):
    class Full:
        def seek(self, _):
            pass

        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    store = Store(tmp_path / "s", images.shape, Full(), writable=True)
    with pytest.raises(ConvclinicError, match="no space left"):
        store.write(0, images[0])


def test_misuse_is_refused(tmp_path, images):
    store = Store.create(tmp_path / "s", images.shape)
    for i, wrong in ((0, images[0, :2]), (8, images[:3])):
        with pytest.raises(ValueError, match="do not fit"):
            store.write(i, wrong)
    store.commit()
    with pytest.raises(ValueError, match="writable=False"):
        store.write(0, images[0])
    with pytest.raises(ConvclinicError, match="600 B instead of 660 B"):
        Store.open(tmp_path / "s", (11, 4, 5, 3))
    store.close()
