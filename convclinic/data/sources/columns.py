"""Tables of files: delimiter, encoding and the usual spellings of column names."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from convclinic.data.words import listed
from convclinic.ground.errors import ConvclinicError

PATH = (
    "path",
    "file",
    "filename",
    "filepath",
    "image",
    "imagepath",
    "imagefile",
    "img",
    "name",
    "imageid",
    "id",
)
LABEL = ("label", "class", "category", "target", "classname", "labels", "y", "diagnosis", "breed", "species")
GROUP = (
    "group", "groupid", "patient", "patientid", "subject", "subjectid", "source", "sourceimage",
    "sourcephoto", "sourcefile", "lesionid", "case", "caseid", "session", "video", "site",
)  # fmt: skip
SPLIT = ("split", "set", "subset", "fold", "partition", "usage")
_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Columns:
    """Positions of the columns; None where there is none."""

    path: int
    label: int | None
    group: int | None
    split: int | None


def _squeeze(name: str) -> str:
    return name.strip().casefold().replace("_", "").replace(" ", "").replace("-", "")


def _position(header: Sequence[str], spellings: Sequence[str]) -> int | None:
    squeezed = [_squeeze(name) for name in header]
    return next((squeezed.index(word) for word in spellings if word in squeezed), None)


def find_columns(header: Sequence[str], table: Path) -> Columns:
    """Which column is which. Raises ConvclinicError when none holds the paths."""
    path = _position(header, PATH)
    if path is None:
        raise ConvclinicError(
            f"{table} has no column of paths; its columns are {listed(header, 12)}",
            fix="name the columns path and label (and, if there are any, group and split)",
        )
    return Columns(path, _position(header, LABEL), _position(header, GROUP), _position(header, SPLIT))


def rows(table: Path) -> Iterator[list[str]]:
    """The rows of a CSV file, the header first, streamed; blank lines are passed over."""
    with open(table, "rb") as file:
        yield from rows_of(file, table)


def rows_of(file: BinaryIO, table: Path) -> Iterator[list[str]]:
    """The rows of an open table: UTF-16 where it starts with its mark, else UTF-8 with or without one."""
    utf16 = file.read(2) in {b"\xff\xfe", b"\xfe\xff"}
    file.seek(0)
    text = io.TextIOWrapper(
        file,
        encoding="utf-16" if utf16 else "utf-8-sig",
        errors="strict" if utf16 else "surrogateescape",
        newline="",
    )
    try:
        first = text.readline()
        delimiter = max(_DELIMITERS, key=first.count)
        text.seek(0)
        yield from (row for row in csv.reader(text, delimiter=delimiter) if any(row))
    except (csv.Error, UnicodeError) as error:
        raise ConvclinicError(
            f"{table} is not a readable CSV file: {error}", fix="save it as UTF-8"
        ) from error
    finally:
        text.detach()
