"""The survey and the one pass."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from convclinic.data.decode import DEEP16, GRAY, decode
from convclinic.data.intake import survey as survey_
from convclinic.data.intake import take_in, thumbnails
from convclinic.data.sources import open_source

SHAPE = (12, 16, 3)


def test_survey_is_reproducible_and_knows_sizes(photos, photo):
    root = photos({"a": 20, "b": 20})
    photo(99, 50, 60).save(root / "a" / "big.png")
    source = open_source(root)
    first, second = survey_(source, 10, seed=1), survey_(source, 10, seed=1)
    assert np.array_equal(first.heights, second.heights) and len(first.heights) == 10
    whole = survey_(source)
    assert (whole.n, len(whole.heights), int(whole.heights.max()), int(whole.widths.max())) == (
        41,
        41,
        50,
        60,
    )
    assert (whole.gray_share, whole.deep_max) == (0, 65535)


def test_survey_finds_gray_and_depth(photos, photo):
    root = photos({"a": 0, "b": 0})
    for i in range(4):
        photo(i).convert("L").convert("RGB").save(root / "a" / f"{i}.png")
        Image.fromarray(np.full((9, 9), 900 + i, np.uint16)).save(root / "b" / f"{i}.png")
    got = survey_(open_source(root))
    assert (got.gray_share, got.deep_max) == (1, 1023)


def test_survey_passes_over_broken_files(photos):
    root = photos({"a": 3, "b": 3})
    (root / "a" / "0.png").write_bytes(b"")
    assert len(survey_(open_source(root)).heights) == 5


@pytest.fixture
def mixed(photos, photo):
    root = photos({"a": 70, "b": 70})
    (root / "a" / "0.png").write_bytes(b"")
    (root / "b" / "5.png").write_text("text")
    photo(200).convert("L").save(root / "b" / "7.png")
    return open_source(root)


def test_every_image_lands_in_its_row(mixed, tmp_path):
    calls = []
    intake = take_in(
        mixed, SHAPE, tmp_path / "s", survey=survey_(mixed), progress=lambda done, n: calls.append((done, n))
    )
    assert intake.reason == {0: "empty file", 75: "not an image"}
    assert np.flatnonzero(~intake.ok).tolist() == [0, 75]
    assert calls[-1] == (140, 140) and calls == sorted(calls)
    rows = intake.store.gather(np.arange(140))
    for i in (1, 77, 139):
        want = decode(mixed.read(i), SHAPE, name=mixed.names[i])
        assert np.array_equal(rows[i], want.image)
        assert (intake.heights[i], intake.widths[i]) == (24, 32)
    assert (intake.traits & GRAY).nonzero()[0].tolist() == [77]
    assert np.array_equal(thumbnails(rows[1:2])[0], intake.thumbs[1])
    assert len(np.unique(intake.pixel_hash[intake.ok])) == 138


def test_two_passes_give_the_same_columns(mixed, tmp_path):
    one, two = (take_in(mixed, SHAPE, tmp_path / str(k), survey=survey_(mixed)) for k in range(2))
    for column in ("ok", "traits", "heights", "widths", "file_hash", "pixel_hash", "thumbs"):
        assert np.array_equal(getattr(one, column), getattr(two, column))
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()


def test_without_a_store_or_a_shape(mixed):
    small = take_in(mixed, SHAPE, None, survey=survey_(mixed))
    whole = take_in(mixed, None, None, survey=survey_(mixed))
    assert small.store is None and whole.store is None
    assert np.array_equal(small.ok, whole.ok)
    assert len(np.unique(whole.pixel_hash[whole.ok])) == 138
    with pytest.raises(ValueError, match="one shape"):
        take_in(mixed, None, mixed.root / "s", survey=survey_(mixed))


def test_thumbnails_of_a_stack_are_those_of_each_image():
    for shape in ((5, 21, 13, 3), (64, 32, 32, 3), (9, 100, 60, 1)):
        images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        alone = np.concatenate([thumbnails(image[None]) for image in images])
        assert np.array_equal(thumbnails(images), alone)


def test_columns_cost_few_bytes_an_image(mixed):
    intake = take_in(mixed, SHAPE, None, survey=survey_(mixed))
    columns = [value for value in vars(intake).values() if isinstance(value, np.ndarray)]
    assert len(columns) == 7
    assert sum(column.nbytes for column in columns) / len(mixed) <= 150


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_file_without_permission_is_set_aside(mixed):
    (mixed.root / "a" / "1.png").chmod(0)
    assert take_in(mixed, SHAPE, None, survey=survey_(mixed)).reason[1] == "cannot be read: Permission denied"


def test_a_file_that_vanishes_is_set_aside(mixed):
    (mixed.root / "a" / "1.png").unlink()
    assert (
        take_in(mixed, SHAPE, None, survey=survey_(mixed))
        .reason[1]
        .startswith("cannot be read: No such file")
    )


def test_an_interrupted_pass_leaves_no_store(mixed, tmp_path):
    def stop(done, n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_in(mixed, SHAPE, tmp_path / "s", survey=survey_(mixed), progress=stop)
    assert not list(tmp_path.glob("s*"))


def test_deep_arrays_use_the_surveyed_depth(tmp_path):
    x = np.random.default_rng(0).integers(0, 4096, (6, 8, 8)).astype(np.uint16)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(6) % 2)
    source = open_source(tmp_path / "a.npz")
    intake = take_in(source, (8, 8, 1), tmp_path / "s", survey=survey_(source))
    rows = intake.store.gather(np.arange(6))[..., 0]
    assert np.abs(rows - x / 4095 * 255).max() <= 0.51
    assert (intake.traits == DEEP16 | GRAY).all()
