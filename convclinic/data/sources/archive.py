"""Images inside tar and zip archives, read in place: nothing is ever unpacked."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import posixpath
import struct
import tarfile
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

import numpy as np

from convclinic.data.sources.base import Source, StreamReader, unlabelled
from convclinic.data.sources.columns import rows_of
from convclinic.data.sources.grouping import GROUPS_FILE, read_groups
from convclinic.data.sources.layout import lay_out
from convclinic.data.sources.naming import is_clutter, is_image_name, natural, no_images, tidy
from convclinic.data.sources.zipped import Ints, ZipReader, open_binary
from convclinic.data.words import count, examples
from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Finding

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, struct.error)
Reader: TypeAlias = Callable[[int], bytes]


@dataclass
class _Members:
    """The images of an archive, in columns."""

    names: list[str] = field(default_factory=list)
    offsets: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    methods: array[int] = field(default_factory=lambda: array("b"))
    others: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    tables: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def add(self, name: str, offset: int, size: int, method: int = 0) -> None:
        name = tidy(name)
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or (len(parts[0]) == 2 and parts[0][1] == ":"):
            self.odd.append(name)
        elif any(is_clutter(part) for part in parts):
            return
        elif parts[-1] == GROUPS_FILE:
            self.tables[name] = (offset, size, method)
        elif not is_image_name(name):
            self.others.append(name)
        else:
            self.names.append(name)
            self.offsets.append(offset)
            self.sizes.append(size)
            self.methods.append(method)


def open_zip(path: Path, labelled: bool) -> Source:
    """A zip archive. Raises ConvclinicError when it is broken or holds no class folders."""
    members = _Members()
    try:
        with zipfile.ZipFile(path) as file:
            for info in file.infolist():
                if not info.is_dir():
                    members.add(info.filename, info.header_offset, info.compress_size, info.compress_type)
    except _BROKEN as error:
        raise _broken(path, error) from error
    return _source(path, "zip", members, labelled, partial(ZipReader, path), sequential=False)


def open_tar(path: Path, labelled: bool) -> Source:
    """A tar archive, plain or compressed by gzip, bzip2 or xz. Compressed ones keep the archive's order."""
    opener = _decompressor(path)
    try:
        members = _list_tar(path)
    except (*_BROKEN, OSError) as error:
        raise _broken(path, error) from error
    ends = [offset + size for offset, size in zip(members.offsets, members.sizes, strict=True)]
    if opener is None and max(ends, default=0) > path.stat().st_size:
        raise _broken(path, EOFError("it ends too early"))

    def reader(offsets: Ints, sizes: Ints, methods: Ints) -> Reader:
        return StreamReader(opener or partial(open_binary, path), offsets, sizes)

    return _source(path, "tar", members, labelled, reader, sequential=opener is not None)


def _list_tar(path: Path) -> _Members:
    members = _Members()
    places: dict[str, tuple[int, int]] = {}
    links: list[tuple[str, str]] = []
    with tarfile.open(path) as file:
        for info in _streamed(file):
            if info.isreg():
                members.add(info.name, info.offset_data, info.size)
            elif info.islnk() or info.issym():
                base = "" if info.islnk() else posixpath.dirname(info.name)
                links.append((info.name, posixpath.normpath(posixpath.join(base, info.linkname))))
    if links:  # a link stands for the member it names
        for name, offset, size in zip(members.names, members.offsets, members.sizes, strict=True):
            places[name] = (offset, size)
        for name, target in links:
            if tidy(target) in places:
                members.add(name, *places[tidy(target)])
            else:
                members.odd.append(name)
    return members


def _streamed(file: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Members one by one; tarfile would keep every header it has seen, about a kilobyte each."""
    while (info := file.next()) is not None:
        yield info
        setattr(file, "members", [])  # noqa: B010 - an attribute its type stubs leave out


def _decompressor(path: Path) -> Callable[[], BinaryIO] | None:
    with open(path, "rb") as file:
        head = file.read(6)
    if head.startswith(b"\x1f\x8b"):
        return lambda: cast("BinaryIO", gzip.open(path, "rb"))
    if head.startswith(b"BZh"):
        return lambda: cast("BinaryIO", bz2.open(path, "rb"))
    if head.startswith(b"\xfd7zXZ"):
        return lambda: cast("BinaryIO", lzma.open(path, "rb"))
    return None


def _source(
    path: Path,
    kind: str,
    members: _Members,
    labelled: bool,
    open_reader: Callable[[Ints, Ints, Ints], Reader],
    sequential: bool,
) -> Source:
    if not members.names:
        raise no_images(path, len(members.others))
    every = members.names
    columns = [np.array(column, np.int64) for column in (members.offsets, members.sizes, members.methods)]
    if sequential:
        order = np.argsort(columns[0], kind="stable")
    else:
        order = np.array(sorted(range(len(every)), key=lambda i: (natural(every[i]), every[i])))
    names = [every[i] for i in order]
    findings = _oddities(members)
    if not labelled:
        reader = open_reader(*(column[order] for column in columns))
        return unlabelled(path.absolute(), kind, names, reader, findings, sequential)
    layout = lay_out(names, path)
    names = [names[i] for i in layout.keep]
    reader = open_reader(*(column[order[layout.keep]] for column in columns))
    table = members.tables.get(layout.prefix + GROUPS_FILE)
    groups, more = None, ()
    if table is not None:
        text = io.BytesIO(open_reader(*(np.array([value]) for value in table))(0))
        groups, more = read_groups(
            rows_of(text, path / GROUPS_FILE), path / GROUPS_FILE, names, layout.prefix
        )
    return Source(
        path.absolute(),
        kind,
        names,
        layout.labels,
        layout.classes,
        groups,
        layout.splits,
        (*findings, *layout.findings, *more),
        reader=reader,
        sequential=sequential,
    )


def _oddities(members: _Members) -> list[Finding]:
    findings: list[Finding] = []
    if members.others:
        summary = f"{count(len(members.others), 'member')} of the archive without an image's extension"
        findings.append(
            Finding(
                "other_files", "info", summary=summary, action="ignored", examples=examples(members.others)
            )
        )
    if members.odd:
        summary = (
            f"{count(len(members.odd), 'member')} of the archive with an absolute path, '..' or a broken link"
        )
        findings.append(
            Finding(
                "unsafe_name", "warning", summary=summary, action="ignored", examples=examples(members.odd)
            )
        )
    return findings


def _broken(path: Path, error: BaseException) -> ConvclinicError:
    return ConvclinicError(f"the archive {path} is broken: {error}", fix="download or pack it again")
