"""`groups.csv` beside class folders: which images come from one photo, patient or place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convclinic.data.sources.columns import find_columns
from convclinic.data.sources.naming import tidy
from convclinic.data.words import count
from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Finding

GROUPS_FILE = "groups.csv"


def read_groups(
    lines: Iterator[list[str]], table: Path, names: list[str], prefix: str
) -> tuple[NDArray[np.int32], tuple[Finding, ...]]:
    """Group of each name, (n,) int32; an image the table does not mention is a group of its own.

    Paths in the table are relative to the table, which lies at `prefix` below the names' root; bare file
    names will do where they are unique.
    """
    header = next(lines, [])
    columns = find_columns(header, table)
    if columns.group is None:
        raise ConvclinicError(
            f"{table} has no column of groups", fix="name it group, or source_image, patient or subject"
        )
    index = {name[len(prefix) :]: i for i, name in enumerate(names)}
    by_file = {name.rpartition("/")[2]: i for i, name in enumerate(names)}
    unique = len(by_file) == len(names)
    groups = np.full(len(names), -1, np.int32)
    ids: dict[str, int] = {}
    unknown = 0
    for row in lines:
        if len(row) <= max(columns.path, columns.group) or not row[columns.group].strip():
            continue
        path = tidy(row[columns.path].strip())
        i = index.get(path, by_file.get(path.rpartition("/")[2], -1) if unique else -1)
        if i < 0:
            unknown += 1
        else:
            groups[i] = ids.setdefault(row[columns.group].strip(), len(ids))
    alone = np.flatnonzero(groups < 0)
    groups[alone] = len(ids) + np.arange(len(alone))
    return groups, _told(header[columns.group], len(ids), len(alone), unknown)


def _told(column: str, n_groups: int, alone: int, unknown: int) -> tuple[Finding, ...]:
    told = Finding(
        "groups",
        "info",
        summary=f"groups.csv puts the images into {count(n_groups, 'group')} by its column '{column}'",
        action="images of one group stay in one part of the split",
    )
    if not alone and not unknown:
        return (told,)
    return (
        told,
        Finding(
            "groups_incomplete",
            "warning",
            summary=f"groups.csv says nothing about {count(alone, 'image')} and names "
            f"{count(unknown, 'file')} that do not exist",
            action="an image without a group is treated as a group of its own",
            remedies=("complete groups.csv: an unknown kinship makes the test look better than it is",),
        ),
    )
