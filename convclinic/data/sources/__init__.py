"""Where images come from: a folder, a CSV file, an archive or arrays, all seen as one `Source`."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

from convclinic.data.sources.archive import open_tar, open_zip
from convclinic.data.sources.arrays import has_idx, open_idx, open_npz
from convclinic.data.sources.base import Source
from convclinic.data.sources.folder import open_folder, open_single
from convclinic.data.sources.naming import looks_like_image
from convclinic.data.sources.table import open_table
from convclinic.ground.errors import ConvclinicError, nearest

__all__ = ["Source", "open_source"]

_TABLES = {".csv", ".tsv", ".txt"}


def open_source(path: Path, *, labelled: bool = True) -> Source:
    """List the images at `path` without decoding any.

    `path` is a folder of class folders, a CSV file, a tar or zip archive, an npz file or a folder of idx
    files. With `labelled=False` (for predicting) any folder, archive or single image will do and every
    label is -1. Raises ConvclinicError when nothing there can be trained on, saying what was expected.
    """
    path = Path(path).expanduser()
    try:
        if path.is_dir():
            return open_idx(path, labelled) if has_idx(path) else open_folder(path, labelled)
        if path.is_file():
            return _open_file(path, labelled)
    except OSError as error:
        raise ConvclinicError(
            f"cannot read {path}: {error.strerror or error}", fix="check the permissions"
        ) from error
    raise ConvclinicError(f"no such folder or file: {path}", fix=_hint(path))


def _open_file(path: Path, labelled: bool) -> Source:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return open_npz(path, labelled)
    if suffix in _TABLES:
        return open_table(path, labelled)
    if zipfile.is_zipfile(path):
        return open_zip(path, labelled)
    if looks_like_image(path):
        if not labelled:
            return open_single(path)
        raise ConvclinicError(
            f"{path} is a single image", fix="to train, give the folder: photos/<class>/*.jpg"
        )
    if suffix == ".zip" or _is_tar(path):
        return open_zip(path, labelled) if suffix == ".zip" else open_tar(path, labelled)
    raise ConvclinicError(
        f"{path} is not a data set that can be read",
        fix="give a folder of class folders, a CSV file, a tar or zip archive, an npz file or idx files",
    )


def _is_tar(path: Path) -> bool:
    """By name or by content: a broken archive still deserves the archive's error message."""
    return any(
        part in {".tar", ".tgz", ".tbz2", ".txz"} for part in path.suffixes[-2:]
    ) or tarfile.is_tarfile(path)


def _hint(path: Path) -> str:
    """The nearest existing name beside the first part of `path` that is missing."""
    missing = path.absolute()
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    try:
        siblings = [entry.name for entry in missing.parent.iterdir() if not entry.name.startswith(".")]
    except OSError:
        siblings = []
    if not siblings:
        return f"the folder {missing.parent} is empty"
    word = nearest(missing.name, siblings)
    return f"{word} in {missing.parent}" if word.startswith("did") else f"{missing.parent} holds no such name"
