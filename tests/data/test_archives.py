"""Tar and zip archives, read in place."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from convclinic.data.sources import open_source, zipped
from convclinic.ground.errors import ConvclinicError


def write_archive(root: Path, path: Path) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for entry in sorted(root.rglob("*.png")):
                file.write(entry, entry.relative_to(root.parent))
            file.writestr("../evil/x.png", b"x")
            file.writestr("__MACOSX/photos/a/._0.png", b"x")
    else:
        mode = {"tar": "w", "gz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}[path.suffix[1:]]
        with tarfile.open(path, mode) as file:
            file.add(root, root.name)
            evil = tarfile.TarInfo("../evil/x.png")
            evil.size = 1
            file.addfile(evil, io.BytesIO(b"x"))
    return path


@pytest.mark.parametrize("end", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_archives_are_read_in_place(photos, tmp_path, end):
    root = photos({"a": 3, "b": 2})
    (root / "groups.csv").write_text("path,group\n" + "".join(f"a/{i}.png,g\n" for i in range(3)))
    source = open_source(write_archive(root, tmp_path / f"photos.{end}"))
    assert source.classes == ("a", "b") and len(source) == 5
    assert source.findings[0].cause == "unsafe_name"
    for i in (4, 0, 2):  # any order must work, also backwards in a compressed archive
        assert source.read(i) == (tmp_path / source.names[i]).read_bytes()
    if end != "zip":
        assert len(set(source.groups[:3].tolist())) == 1
    assert not (tmp_path / "evil").exists()


def test_a_link_in_a_tar_stands_for_its_target(photos, tmp_path):
    root = photos({"a": 2, "b": 2})
    os.link(root / "a/0.png", root / "b/same.png")
    source = open_source(write_archive(root, tmp_path / "p.tar"))
    same = [source.read(i) for i, name in enumerate(source.names) if name.endswith(("a/0.png", "b/same.png"))]
    assert len(same) == 2 and same[0] == same[1]


@pytest.mark.parametrize("end", ["zip", "tar", "tar.gz"])
def test_a_broken_archive_says_so(photos, tmp_path, end):
    path = write_archive(photos({"a": 30, "b": 30}), tmp_path / f"p.{end}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ConvclinicError, match=r"archive .* is broken.*again"):
        open_source(path)


def test_an_archive_for_predicting_needs_no_classes(photos, tmp_path):
    root = photos({"cat": 2})
    source = open_source(write_archive(root, tmp_path / "p.zip"), labelled=False)
    assert (source.labels == -1).all() and source.read(0) == (root / "cat/0.png").read_bytes()


def test_a_member_that_unfolds_without_end_is_refused(photos, tmp_path, monkeypatch):
    source = open_source(write_archive(photos({"a": 2, "b": 2}), tmp_path / "p.zip"))
    assert source.read(0)
    monkeypatch.setattr(zipped, "_MOST", 100)
    with pytest.raises(OSError, match="more than 1 GB"):
        source.read(0)


def test_a_damaged_member_of_a_zip_is_no_picture(photos, tmp_path):
    path = write_archive(photos({"a": 2, "b": 2}), tmp_path / "p.zip")
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"broken|checksum"):
        open_source(path).read(0)
