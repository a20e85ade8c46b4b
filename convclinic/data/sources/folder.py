"""Images in folders on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from convclinic.data.sources.base import PathReader, Source, unlabelled
from convclinic.data.sources.columns import rows
from convclinic.data.sources.grouping import GROUPS_FILE, read_groups
from convclinic.data.sources.layout import lay_out
from convclinic.data.sources.naming import is_clutter, is_image_name, looks_like_image, no_images, sort_names
from convclinic.data.words import count, examples
from convclinic.kinds import Finding

_QUIET = {".csv", ".tsv", ".txt", ".md", ".json", ".yaml", ".yml", ".pdf", ".html", ""}  # documents


@dataclass
class _Walk:
    """What a walk through the folders met."""

    names: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)


def open_single(path: Path) -> Source:
    """One image file, for predicting."""
    names = [path.name]
    root = path.absolute().parent
    return unlabelled(root, "file", names, PathReader(root, names))


def open_folder(path: Path, labelled: bool) -> Source:
    """A folder of class folders, or any folder of images when `labelled` is False."""
    root = path.absolute()
    walk = _Walk()
    _scan(root, "", frozenset(), walk)
    if not walk.names:
        raise no_images(path, len(walk.others))
    sort_names(walk.names)
    findings = list(_oddities(walk))
    if not labelled:
        return unlabelled(root, "files", walk.names, PathReader(root, walk.names), findings)
    layout = lay_out(walk.names, path)
    names = [walk.names[i] for i in layout.keep]
    empty = sorted(
        folder
        for folder in walk.folders
        if folder.startswith(layout.prefix)
        and "/" not in folder[len(layout.prefix) :]
        and folder[len(layout.prefix) :] not in layout.tops
    )
    if empty:
        findings.append(_empty(empty))
    table = root / layout.prefix / GROUPS_FILE
    groups, more = read_groups(rows(table), table, names, layout.prefix) if table.is_file() else (None, ())
    findings += [*layout.findings, *more]
    return Source(
        root,
        "folders",
        names,
        layout.labels,
        layout.classes,
        groups,
        layout.splits,
        tuple(findings),
        reader=PathReader(root, names),
    )


def _scan(folder: Path, prefix: str, above: frozenset[tuple[int, int]], walk: _Walk) -> None:
    """Collect everything below `folder`. Links are followed unless they lead back to a folder above."""
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        walk.loops.append(prefix.rstrip("/"))
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:
        if not above:
            raise
        walk.closed.append(prefix.rstrip("/"))
        return
    for entry in entries:
        name = prefix + entry.name
        if is_clutter(entry.name):
            continue
        if entry.is_dir():
            walk.folders.append(name)
            _scan(Path(entry.path), name + "/", above | {identity}, walk)
        elif not entry.is_file():
            walk.broken.append(name)
        elif entry.name == GROUPS_FILE:
            continue
        elif is_image_name(entry.name) or _is_hidden_image(entry):
            walk.names.append(name)
        else:
            walk.others.append(name)


def _is_hidden_image(entry: os.DirEntry[str]) -> bool:
    """Whether a file with an unusual extension is an image all the same."""
    if os.path.splitext(entry.name)[1].lower() in _QUIET - {""}:  # noqa: PTH122 - called for every file
        return False
    try:
        return looks_like_image(Path(entry.path))
    except OSError:
        return False


def _empty(folders: list[str]) -> Finding:
    return Finding(
        "empty_class_folder",
        "warning",
        summary=f"{count(len(folders), 'folder')} without images",
        action="ignored: it is no class",
        examples=examples(folders),
        remedies=("add images or remove the folder",),
    )


def _oddities(walk: _Walk) -> Iterator[Finding]:
    for cause, severity, names, words, remedy in (
        ("other_files", "info", walk.others, "with something other than an image", ""),
        ("link_loop", "warning", walk.loops, "linked back to a folder above it", "remove the link"),
        (
            "broken_link",
            "warning",
            walk.broken,
            "that cannot be opened, such as a link to nothing",
            "mend the link",
        ),
        ("closed_folder", "warning", walk.closed, "without permission to read", "change its permissions"),
    ):
        if names:
            noun = "folder" if cause in {"link_loop", "closed_folder"} else "file"
            yield Finding(
                cause,
                "info" if severity == "info" else "warning",
                summary=f"{count(len(names), noun)} {words}",
                action="ignored",
                examples=examples(names),
                remedies=(remedy,) if remedy else (),
            )
