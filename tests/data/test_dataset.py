"""From a folder to a data set and back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, fields

import numpy as np
import pytest

from convclinic.data.dataset import LEFT_OUT, assemble, inspect, reopen
from convclinic.data.sources import open_source
from convclinic.data.survey import survey
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import read_csv

SHAPE = (12, 16, 3)


@pytest.fixture
def root(photos):
    root = photos({"cat": 30, "dog": 30, "emu": 12})
    (root / "cat/3.png").write_bytes(b"")
    shutil.copy(root / "cat/0.png", root / "dog/wrong.png")
    shutil.copy(root / "dog/1.png", root / "dog/again.png")
    return root


def made(root, folder, seed=0):
    source = open_source(root)
    return assemble(source, survey(source), SHAPE, folder, seed=seed)


def assert_same(one, two):
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(two, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype and np.array_equal(a, b), field.name
        elif field.name != "store":
            assert a == b, field.name
    every = np.arange(len(one.names))
    assert one.store.shape == two.store.shape
    assert np.array_equal(one.images(every), two.images(every))


def test_a_folder_becomes_a_data_set(root, tmp_path):
    data = made(root, tmp_path / "run")
    assert data.source == str(root) and data.classes == ("cat", "dog", "emu")
    assert len(data.names) == len(data.labels) == len(data.splits) == len(data.rows) == 71
    assert data.store.shape == (74, *SHAPE)
    assert sorted(name for name, _, _ in data.quarantine) == ["cat/0.png", "cat/3.png", "dog/wrong.png"]
    assert ("cat/3.png", "cat", "empty file") in data.quarantine
    parts = [data.indices(part) for part in ("train", "validation", "test")]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(71))
    assert all(set(data.labels[part].tolist()) == {0, 1, 2} for part in parts)
    twins = [data.splits[data.names.index(f"dog/{name}.png")] for name in ("1", "again")]
    assert twins[0] == twins[1]
    assert data.images(np.array([5, 2])).shape == (2, *SHAPE)


def test_the_profile_counts_and_measures(root, tmp_path):
    data = made(root, tmp_path / "run")
    profile = data.profile
    assert (profile.n_train, profile.n_validation, profile.n_test) == tuple(
        len(data.indices(part)) for part in ("train", "validation", "test")
    )
    assert sum(profile.class_counts.values()) == profile.n_train and list(profile.class_counts) == [
        "cat",
        "dog",
        "emu",
    ]
    assert profile.heights == (24,) * 5 and profile.widths == (32,) * 5
    assert (profile.gray, profile.n_set_aside, profile.given_split, profile.grouped) == (
        False,
        3,
        False,
        False,
    )
    train = data.images(data.indices("train")) / 255
    assert np.allclose(profile.mean, train.mean((0, 1, 2))) and np.allclose(profile.std, train.std((0, 1, 2)))
    assert json.loads(json.dumps(asdict(profile)))["n_train"] == profile.n_train


def test_files_tell_the_same(root, tmp_path):
    data = made(root, tmp_path / "run")
    rows = list(read_csv(tmp_path / "run" / "splits.csv"))
    assert [row["path"] for row in rows] == data.names
    assert [row["label"] for row in rows] == [data.classes[k] for k in data.labels]
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    groups = {row["path"]: row["group"] for row in rows}
    assert groups["dog/1.png"] == groups["dog/again.png"] != groups["dog/2.png"]
    quarantine = list(read_csv(tmp_path / "run" / "quarantine.csv"))
    assert [tuple(row.values()) for row in quarantine] == list(data.quarantine)
    saved = json.loads((tmp_path / "run" / "data.json").read_text())
    assert saved["source"] == str(root) and saved["kind"] == "folders"


def test_two_runs_are_the_same_and_another_seed_splits_anew(root, tmp_path):
    one, two, other = (made(root, tmp_path / str(k), seed) for k, seed in enumerate((0, 0, 1)))
    assert_same(one, two)
    assert not np.array_equal(one.splits, other.splits)


def test_reopened_is_equal_also_without_the_photos(root, tmp_path):
    data = made(root, tmp_path / "run")
    shutil.rmtree(root)
    assert_same(data, reopen(tmp_path / "run"))


def test_a_lost_cache_is_rebuilt(root, tmp_path):
    data = made(root, tmp_path / "run")
    cache = tmp_path / "run" / "cache" / "images.u8"
    before = cache.read_bytes()
    cache.unlink()
    assert_same(data, reopen(tmp_path / "run"))
    cache.write_bytes(before[:100])
    reopen(tmp_path / "run")
    assert cache.read_bytes() == before


def test_a_csv_source_is_reopened_from_its_table(root, tmp_path):
    table = tmp_path / "list.csv"
    lines = [f"photos/{c}/{i}.png,{c}" for c in ("cat", "dog") for i in range(5, 15)]
    table.write_text("\n".join(["path,label", *lines]))
    data = made(table, tmp_path / "run")
    assert data.source == str(table)
    shutil.rmtree(tmp_path / "run" / "cache")
    assert_same(data, reopen(tmp_path / "run"))


def test_changed_or_vanished_photos_are_told(root, tmp_path, photo):
    made(root, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "cache")
    photo(500).save(root / "cat" / "7.png")
    with pytest.raises(ConvclinicError, match=r"have changed since the run began.*start a new run"):
        reopen(tmp_path / "run")
    assert not (tmp_path / "run" / "cache" / "images.u8").exists()
    photo(501).save(root / "cat" / "new.png")
    with pytest.raises(ConvclinicError, match="74 images then, 75 now"):
        reopen(tmp_path / "run")
    shutil.rmtree(root)
    with pytest.raises(ConvclinicError, match=r"cache .* is gone and so are the photos.*put them back at"):
        reopen(tmp_path / "run")


def test_a_class_that_is_too_small_is_refused(photos, tmp_path):
    with pytest.raises(
        ConvclinicError, match=r"class 'b' has 1 usable image; at least 3 are needed.*add images or remove"
    ):
        made(photos({"a": 9, "b": 1}), tmp_path / "run")


def test_a_class_whose_training_images_are_all_broken_is_refused(photos, tmp_path):
    root = photos({"train/a": 5, "train/b": 1, "test/a": 5, "test/b": 5})
    (root / "train/b/0.png").write_bytes(b"")
    with pytest.raises(ConvclinicError, match="class 'b' has no training image"):
        made(root, tmp_path / "run")


def test_when_everything_is_broken_the_reasons_are_given(photos, tmp_path):
    root = photos({"a": 3, "b": 3})
    for path in root.rglob("*.png"):
        path.write_text("no image at all")
    with pytest.raises(ConvclinicError, match=r"none of the 6 files .* a/0.png: not an image; a/1.png"):
        made(root, tmp_path / "run")


def test_inspect_writes_nothing(root, tmp_path):
    source = open_source(root)
    before = sorted(tmp_path.rglob("*"))
    findings, profile = inspect(source, survey=survey(source))
    assert sorted(tmp_path.rglob("*")) == before
    assert {"empty_file", "conflicting_labels", "exact_duplicates"} <= {f.cause for f in findings}
    assert profile.n_train + profile.n_validation + profile.n_test == 71
    assert len(profile.mean) == 3


def test_given_splits_are_kept(photos, tmp_path):
    root = photos({f"{part}/{c}": 10 for part in ("train", "val", "test") for c in "ab"})
    data = made(root, tmp_path / "run")
    assert data.profile.given_split
    for name, part in zip(data.names, data.splits, strict=True):
        assert ("train", "val", "test")[part] == name.split("/")[0]


def test_another_run_s_split_is_taken_over_whatever_the_size_and_the_seed(root, photo, tmp_path):
    first = made(root, tmp_path / "first")
    photo(500).save(root / "emu/new.png")
    source = open_source(root)
    folder, like = tmp_path / "second", tmp_path / "first"
    second = assemble(source, survey(source), (24, 24, 3), folder, seed=5, like=like)
    parts = dict(zip(second.names, second.splits.tolist(), strict=True))
    assert parts.pop("emu/new.png") == LEFT_OUT
    assert parts == dict(zip(first.names, first.splits.tolist(), strict=True))
    assert second.profile.n_train == first.profile.n_train
    assert second.profile.class_counts == first.profile.class_counts
    assert_same(second, reopen(folder))


def test_a_split_that_cannot_be_taken_over_is_refused(root, tmp_path):
    first, like = made(root, tmp_path / "first"), tmp_path / "first"
    source = open_source(root)

    def again(folder):
        source = open_source(root)
        return assemble(source, survey(source), SHAPE, tmp_path / folder, seed=0, like=like)

    with pytest.raises(ConvclinicError, match=r"has no splits\.csv"):
        assemble(source, survey(source), SHAPE, tmp_path / "x", seed=0, like=root)
    (root / "splits.csv").write_text("path,label,split\ncat/0.png,cat,val\n")
    with pytest.raises(ConvclinicError, match=r"splits\.csv is not one that"):
        assemble(source, survey(source), SHAPE, tmp_path / "x", seed=0, like=root)
    trained, tested = (first.names[first.indices(part)[0]] for part in ("train", "test"))
    (root / trained).unlink()
    assert tested in again("without a training image").names
    (root / tested).write_bytes(b"")  # broken by now
    with pytest.raises(ConvclinicError, match=rf"1 judging image of .* '{tested}'"):
        again("broken")
    (root / tested).unlink()
    with pytest.raises(ConvclinicError, match=rf"1 judging image of .* '{tested}'"):
        again("gone")


def test_a_class_that_the_other_run_did_not_have_is_refused(photos, photo, tmp_path):
    root = photos({"cat": 30, "dog": 30})
    made(root, tmp_path / "first")
    (root / "emu").mkdir()
    for i in range(12):
        photo(500 + i).save(root / f"emu/{i}.png")
    source = open_source(root)
    with pytest.raises(ConvclinicError, match="class 'emu' has no training image") as refused:
        assemble(source, survey(source), SHAPE, tmp_path / "x", seed=0, like=tmp_path / "first")
    assert "--split" in (refused.value.fix or "")


def test_the_room_works_without_torch():
    code = "import sys; sys.modules['torch'] = None; import convclinic.data.dataset"
    subprocess.run([sys.executable, "-c", code], check=True)
