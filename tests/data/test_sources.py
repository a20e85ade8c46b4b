"""Listing images: every kind of source, the traps in each, and the words of every error."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from convclinic.data.sources import open_source
from convclinic.ground.errors import ConvclinicError


def causes(source):
    return [finding.cause for finding in source.findings]


def test_class_folders_are_classes_in_natural_order(photos):
    source = open_source(photos({"class10": 3, "class2": 12}))
    assert source.kind == "folders"
    assert source.classes == ("class2", "class10")
    assert source.names[:3] == ["class2/0.png", "class2/1.png", "class2/2.png"]
    assert source.names[10] == "class2/10.png"
    assert np.bincount(source.labels).tolist() == [12, 3]
    assert (source.splits == -1).all() and source.groups is None
    assert source.read(0) == (source.root / "class2/0.png").read_bytes()


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "VALID", "Holdout")])
def test_split_folders_in_any_spelling(photos, names):
    train, val, test = names
    source = open_source(photos({f"{part}/{c}": 2 for part in (train, val, test) for c in ("a", "b")}))
    assert source.classes == ("a", "b")
    for part, number in ((train, 0), (val, 1), (test, 2)):
        chosen = [s for name, s in zip(source.names, source.splits, strict=True) if name.startswith(part)]
        assert chosen == [number] * 4


def test_a_class_may_be_called_train(photos):
    source = open_source(photos({"train": 2, "bus": 2, "car": 2}))
    assert source.classes == ("bus", "car", "train")
    assert (source.splits == -1).all()


def test_wrapper_folders_are_descended(photos):
    source = open_source(photos({"trashnet/v2/glass": 2, "trashnet/v2/paper": 2}))
    assert source.classes == ("glass", "paper")
    assert source.names[0] == "trashnet/v2/glass/0.png"


def test_nested_stray_hidden_and_other_files(photos, photo):
    root = photos({"cat/2020/may": 2, "dog": 2, "__MACOSX/cat": 1})
    photo(90).save(root / "stray.png")
    for name in ("cat/.DS_Store", "cat/Thumbs.db", "cat/._0.png"):
        (root / name).write_bytes(b"junk")
    (root / "dog" / "notes.txt").write_text("hello")
    (root / "empty").mkdir()
    source = open_source(root)
    assert source.names == ["cat/2020/may/0.png", "cat/2020/may/1.png", "dog/0.png", "dog/1.png"]
    assert source.classes == ("cat", "dog")
    assert sorted(causes(source)) == ["empty_class_folder", "nested_folders", "other_files", "stray_images"]


def test_an_image_without_an_extension_is_found_by_content(photos, photo):
    root = photos({"cat": 2, "dog": 2})
    photo(91).save(root / "cat" / "IMG_7", format="JPEG")
    assert "cat/IMG_7" in open_source(root).names


@pytest.mark.skipif(sys.platform != "linux", reason="such names exist on Linux only")
def test_odd_names_are_kept_and_printable(photos, photo):
    root = photos({"chat noir": 2, "日本": 2})
    (root / "chat noir" / "0.png").rename(root / "chat noir" / os.fsdecode(b"caf\xe9.png"))
    source = open_source(root)
    assert source.classes == ("chat noir", "日本")
    name = source.names[1]
    assert os.fsencode(name) == b"chat noir/caf\xe9.png"
    assert len(source.read(1)) > 0


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="no symbolic links")
def test_links_are_followed_and_loops_end(photos, photo, tmp_path):
    root = photos({"cat": 2, "dog": 2})
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    photo(92).save(outside / "x.png")
    (root / "emu").symlink_to(outside)
    (root / "cat" / "loop").symlink_to(root)
    (root / "cat" / "gone.png").symlink_to(tmp_path / "nothing.png")
    source = open_source(root)
    assert source.classes == ("cat", "dog", "emu")
    assert len(source) == 5
    assert sorted(causes(source)) == ["broken_link", "link_loop"]


def test_class_folders_that_differ_between_splits(photos):
    source = open_source(
        photos({"train/a": 2, "train/b": 2, "train/c": 2, "test/a": 2, "test/b": 2, "test/z": 2})
    )
    assert source.classes == ("a", "b", "c")
    assert not any("/z/" in name for name in source.names)
    told = [f.summary for f in source.findings if f.cause == "class_folders_differ"]
    assert len(told) == 2 and "'z'" in told[0] and "'c'" in told[1]


def test_unlabelled_images_in_a_test_folder_are_ignored_aloud(photos):
    source = open_source(photos({"train/a": 2, "train/b": 2, "test": 3}))
    assert len(source) == 4
    assert causes(source) == ["unlabelled_images"]


def test_groups_csv_is_honoured(photos):
    root = photos({"a": 2, "b": 2})
    (root / "groups.csv").write_text("file,label,source_image\na/0.png,a,p1\nb/1.png,b,p1\na/1.png,a,p2\n")
    source = open_source(root)
    groups = dict(zip(source.names, source.groups.tolist(), strict=True))
    assert groups["a/0.png"] == groups["b/1.png"]
    assert len(set(groups.values())) == 3
    assert causes(source) == ["groups", "groups_incomplete"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_with_every_column(photos, tmp_path, delimiter):
    photos({"a": 3, "b": 3})
    rows = [("Image", "Category", "patient_id", "Subset")]
    rows += [(f"photos/a/{i}.png", "cat", f"p{i % 2}", "train") for i in range(3)]
    rows += [(f"photos\\b\\{i}.png", "dog", "", "test") for i in range(3)]
    rows += [("photos/gone.png", "dog", "p9", "test")]
    table = tmp_path / "list.csv"
    table.write_text("\n".join(delimiter.join(row) for row in rows), encoding="utf-8-sig")
    source = open_source(table)
    assert source.kind == "csv" and source.classes == ("cat", "dog")
    assert source.splits.tolist() == [0, 0, 0, 2, 2, 2]
    assert source.groups[0] == source.groups[2] != source.groups[1]
    assert len(set(source.groups[3:].tolist())) == 3
    assert "missing_file" in causes(source)
    assert source.path == table
    assert source.read(3) == (tmp_path / "photos/b/0.png").read_bytes()


def test_for_predicting_anything_goes(photos, photo, tmp_path):
    root = photos({"cat": 2})
    photo(5).save(root / "loose.jpg")
    source = open_source(root, labelled=False)
    assert source.names == ["cat/0.png", "cat/1.png", "loose.jpg"]
    assert (source.labels == -1).all() and source.classes == ()
    single = open_source(root / "loose.jpg", labelled=False)
    assert single.names == ["loose.jpg"] and len(single.read(0)) > 0
    (tmp_path / "list.csv").write_text("path\nphotos/cat/0.png\n")
    assert open_source(tmp_path / "list.csv", labelled=False).names == ["photos/cat/0.png"]


def test_errors_of_folders(photos, photo, tmp_path):
    root = photos({"cat": 2, "dog": 2})
    with pytest.raises(ConvclinicError, match="did you mean 'photos'"):
        open_source(tmp_path / "photo")
    with pytest.raises(ConvclinicError, match="did you mean 'photos'"):
        open_source(tmp_path / "phots" / "cat")
    with pytest.raises(ConvclinicError, match=r"directly, without class folders.*photos/<class>"):
        open_source(root / "cat")
    with pytest.raises(ConvclinicError, match=r"one class only, 'cow'.*photos/<class>"):
        open_source(photos({"cow": 2}, "one"))
    with pytest.raises(ConvclinicError, match=r"single image.*photos/<class>"):
        open_source(root / "cat" / "0.png")
    (tmp_path / "void").mkdir()
    with pytest.raises(ConvclinicError, match=r"is empty.*photos/<class>"):
        open_source(tmp_path / "void")
    (tmp_path / "void" / "a.txt").write_text("x")
    with pytest.raises(ConvclinicError, match="no images, only 1 other"):
        open_source(tmp_path / "void")
    (tmp_path / "x.bin").write_bytes(b"0" * 2000)
    with pytest.raises(ConvclinicError, match="not a data set"):
        open_source(tmp_path / "x.bin")
    with pytest.raises(ConvclinicError, match=r"train folder .* no class folders"):
        open_source(photos({"train": 2, "test": 2}, "flat"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("foo,label\nx,1\n", "no column of paths; its columns are 'foo', 'label'"),
        ("path,foo\nphotos/cat/0.png,1\n", "no column of labels"),
        ("path,label\nphotos/cat/0.png,\nphotos/dog/0.png,d\n", "1 row without a label.*'photos/cat/0.png'"),
        ("path,label\nphotos/cat/0.png,c\n", "one class only, 'c'"),
        ("path,label\nnope.png,c\n", "none of its 1 files exists"),
    ],
)
def test_errors_of_csv(photos, tmp_path, text, words):
    photos({"cat": 2, "dog": 2})
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ConvclinicError, match=words):
        open_source(tmp_path / "t.csv")


def test_columns_cost_few_bytes_an_image(photos):
    source = open_source(photos({"some_class_name": 40, "another": 40}))
    columns = source.labels.itemsize + source.splits.itemsize
    names = sum(sys.getsizeof(name) + 8 for name in source.names) / len(source)
    assert columns + names <= 150


def test_real_data_is_listed(shared):
    trash = open_source(shared("trashnet-256.tar"))
    assert len(trash) == 2527 and len(trash.classes) == 6
    cells = open_source(shared("bccd-crops.tar"))
    assert len(cells) == 4886 and int(cells.groups.max()) + 1 == 364
    fashion = open_source(shared("fashion-mnist"))
    assert np.bincount(fashion.splits).tolist() == [60000, 0, 10000]
    assert fashion.read(69_999).shape == (28, 28)
