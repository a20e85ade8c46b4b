"""A CSV file that lists images, their labels and, if it has them, their groups and splits."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convclinic.data.sources.base import FREE, TRAIN, UNLABELLED, PathReader, Source
from convclinic.data.sources.columns import LABEL, Columns, find_columns, rows
from convclinic.data.sources.naming import SPLITS, sort_names, tidy
from convclinic.data.words import count, examples, listed, shown
from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Finding

_GUESSED = ("", ".jpg", ".png", ".jpeg")


@dataclass
class _Lines:
    """The columns of the table as they fill."""

    names: list[str] = field(default_factory=list)
    labels: array[int] = field(default_factory=lambda: array("i"))
    groups: array[int] = field(default_factory=lambda: array("i"))
    splits: array[int] = field(default_factory=lambda: array("b"))
    classes: dict[str, int] = field(default_factory=dict)
    group_ids: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    blank: list[str] = field(default_factory=list)
    odd_splits: set[str] = field(default_factory=set)


def open_table(table: Path, labelled: bool) -> Source:
    """Images listed in a CSV file, with paths relative to it.

    Files that are missing are set aside with a finding. Raises ConvclinicError when a column is missing
    or a row has no label.
    """
    lines = rows(table)
    header = next(lines, None)
    if header is None:
        raise ConvclinicError(f"{table} is empty", fix="it needs the columns path and label")
    columns = find_columns(header, table)
    if labelled and columns.label is None:
        raise ConvclinicError(
            f"{table} has no column of labels; its columns are {listed(header, 12)}",
            fix=f"name it one of {', '.join(LABEL[:4])}",
        )
    if not labelled:
        columns = Columns(columns.path, None, None, None)
    root = table.absolute().parent
    read = _fill(lines, columns, root)
    _refuse(read, table, labelled)
    classes, labels = _ordered(read)
    groups = np.frombuffer(read.groups, np.int32).copy() if columns.group is not None else None
    return Source(
        root,
        "csv",
        read.names,
        labels,
        classes,
        groups,
        np.frombuffer(read.splits, np.int8).copy(),
        tuple(_findings(read, header, columns)),
        reader=PathReader(root, read.names),
        table=table.absolute(),
    )


def _cell(row: list[str], column: int | None) -> str:
    return row[column].strip() if column is not None and column < len(row) else ""


def _fill(lines: Iterable[list[str]], columns: Columns, root: Path) -> _Lines:
    read = _Lines()
    base = os.fspath(root)
    for row in lines:
        path = tidy(_cell(row, columns.path))
        label = _cell(row, columns.label)
        if not path:
            continue
        there = next((path + end for end in _GUESSED if os.path.isfile(os.path.join(base, path + end))), None)  # noqa: PTH113, PTH118
        if there is None:
            read.missing.append(path)
            continue
        if columns.label is not None and not label:
            read.blank.append(path)
        split = _cell(row, columns.split)
        if split and split.casefold() not in SPLITS:
            read.odd_splits.add(split)
        group = _cell(row, columns.group) or f"\0{len(read.names)}"
        read.names.append(there)
        read.labels.append(read.classes.setdefault(label, len(read.classes)) if label else UNLABELLED)
        read.groups.append(read.group_ids.setdefault(group, len(read.group_ids)))
        read.splits.append(SPLITS.get(split.casefold(), FREE))
    return read


def _refuse(read: _Lines, table: Path, labelled: bool) -> None:
    if not read.names:
        why = f"none of its {len(read.missing)} files exists" if read.missing else "it has no rows"
        raise ConvclinicError(
            f"{table} lists no image: {why}", fix="paths are relative to the folder of the CSV file"
        )
    if labelled and read.blank:
        raise ConvclinicError(
            f"{table} has {count(len(read.blank), 'row')} without a label, such as {listed(read.blank, 3)}",
            fix="fill in the label or remove the row",
        )
    if labelled and len(read.classes) < 2:
        raise ConvclinicError(
            f"{table} has one class only, '{shown(next(iter(read.classes)))}'", fix="at least two are needed"
        )


def _ordered(read: _Lines) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Classes in natural order, and the labels renumbered to it."""
    classes = list(read.classes)
    sort_names(classes)
    labels = np.frombuffer(read.labels, np.int32).copy()
    if classes:
        new = np.empty(len(classes), np.int32)
        new[[read.classes[name] for name in classes]] = np.arange(len(classes))
        labels = new[labels]
    return tuple(shown(name) for name in classes), labels


def _findings(read: _Lines, header: list[str], columns: Columns) -> list[Finding]:
    findings: list[Finding] = []
    if read.missing:
        findings.append(
            Finding(
                "missing_file",
                "warning",
                summary=f"{count(len(read.missing), 'file')} named in the CSV file does not exist"
                if len(read.missing) == 1
                else f"{count(len(read.missing), 'file')} named in the CSV file do not exist",
                action="set aside",
                examples=examples(read.missing),
                remedies=("paths are relative to the folder of the CSV file",),
            )
        )
    if columns.group is not None:
        summary = (
            f"column '{header[columns.group]}' puts the images into {count(len(read.group_ids), 'group')}"
        )
        action = "images of one group stay in one part of the split"
        findings.append(Finding("groups", "info", summary=summary, action=action))
    if columns.split is not None and read.odd_splits:
        odd = listed(sorted(read.odd_splits))
        summary = f"column '{header[columns.split]}' has values that name no split: {odd}"
        action = "ignored: these images are free to go anywhere"
        findings.append(
            Finding(
                "unknown_split",
                "warning",
                summary=summary,
                action=action,
                remedies=("write train, validation or test",),
            )
        )
    if columns.split is not None and TRAIN not in read.splits and any(role > 0 for role in read.splits):
        findings.append(
            Finding(
                "no_train_rows",
                "info",
                summary="no row is marked as train",
                action="rows without a split are used for training",
            )
        )
    return findings
