"""Files that are either whole or absent: every write goes to a neighbour and is then renamed."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from convclinic.ground.errors import ConvclinicError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS}


def explain(error: OSError, path: Path) -> ConvclinicError:
    """The user's version of an operating-system error met while writing `path`."""
    if error.errno in _NO_ROOM:
        return ConvclinicError(
            f"no space left while writing {path}",
            fix="free some disk space or give another folder with --out; what was saved before is intact",
        )
    if error.errno in _NO_RIGHT:
        return ConvclinicError(
            f"no permission to write {path}", fix="give a folder you may write to with --out"
        )
    return ConvclinicError(f"cannot write {path}: {error.strerror or error}")


@contextlib.contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """Open a temporary neighbour of `path` for writing; on success it takes the name in one step.

    A reader, or a process killed at any moment, sees the old file or the new one, never a part.
    Raises ConvclinicError when the disk is full or the folder may not be written.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except OSError as error:
        raise explain(error, path) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, data: bytes) -> None:
    with replacing(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON. NaN and infinity become null: JSON has no name for them."""
    plain = _finite(value)
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        data = text.encode()
    except UnicodeEncodeError:  # a file name that is not UTF-8: escapes bring it back unchanged
        data = (json.dumps(plain, indent=2, allow_nan=False) + "\n").encode()
    write_bytes(path, data)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def read_json(path: Path) -> Any:
    """Parse a JSON file. Raises ConvclinicError naming the line when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConvclinicError(f"no file {path}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConvclinicError(f"{path} is not readable JSON: {error}") from error
    except OSError as error:
        raise ConvclinicError(f"cannot read {path}: {error.strerror}") from error


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows as RFC 4180 CSV, streamed, so memory does not grow with their number."""
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        writer = csv.writer(text)
        writer.writerow(header)
        writer.writerows(rows)
        text.flush()
        text.detach()


def read_csv(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a CSV file as dictionaries, streamed. Raises ConvclinicError when it cannot be read."""
    try:
        file = open(path, encoding="utf-8", errors="surrogateescape", newline="")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise ConvclinicError(f"cannot read {path}: {error.strerror}") from error
    with file:
        yield from csv.DictReader(file)
