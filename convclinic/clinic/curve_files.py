"""Recorded metrics of any training tool, as rows of named numbers: what stands in a file, and no more.

Known are CSV (Lightning's sparse `metrics.csv`, timm's `summary.csv`, Keras's `CSVLogger`, anyone's own),
JSON lines, JSON (a Keras history, Hugging Face's `trainer_state.json`, a list of objects), TensorBoard's
event files, and the run folder of convclinic.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

from convclinic.ground.errors import ConvclinicError

Row: TypeAlias = dict[str, float]

EVENTS = "events.out.tfevents"
# what is looked for in a folder, the first that is there
KNOWN = ("history.jsonl", "metrics.csv", "summary.csv", "trainer_state.json", "history.json", "metrics.jsonl")
TEXT = {".csv", ".tsv", ".txt", ".log", ".jsonl", ".ndjson", ".json"}
GIVE = "give a CSV, JSON or JSON-lines file of metrics, a TensorBoard folder or a run folder"
NAMED = re.compile(r"tensor\(([^,)]+)")  # a number that was written as a tensor


def read_rows(path: Path) -> tuple[list[Row], Path]:
    """The rows of a file, or of the metrics file in a folder, and where they stand.

    Raises ConvclinicError for what is missing, empty or no record of metrics.
    """
    if not path.exists():
        raise ConvclinicError(f"no file or folder {path}", fix="check the spelling")
    if path.is_dir():
        path = _in_folder(path)
    if path.is_dir() or EVENTS in path.name:
        return _events(path), path
    if path.suffix.lower() not in TEXT:
        raise ConvclinicError(f"{path} is no record of metrics that is known here", fix=GIVE)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConvclinicError(f"cannot read {path}: {error}", fix=GIVE) from error
    if not text.strip():
        raise ConvclinicError(f"{path} is empty", fix="give it once the run has written its first metrics")
    rows = _json(text, path) if text.lstrip()[0] in "{[" else _table(text, path)
    if not rows:
        raise ConvclinicError(f"{path} holds no rows of numbers", fix=GIVE)
    return rows, path


def _in_folder(folder: Path) -> Path:
    """The file of metrics in a folder; of several versions, the latest; the folder itself for event files."""
    for name in KNOWN:
        if (folder / name).is_file():
            return folder / name
    if any(folder.rglob(f"*{EVENTS}*")):
        return folder
    versions = sorted(folder.glob("**/version_*"), key=lambda path: (len(path.name), path.name))
    for version in reversed(versions):
        if (version / "metrics.csv").is_file():
            return version / "metrics.csv"
    here = sorted(path for path in folder.iterdir() if path.suffix.lower() in TEXT)
    if len(here) == 1:
        return here[0]
    held = ", ".join(path.name for path in here[:8]) or "none"
    raise ConvclinicError(
        f"{folder} holds no metrics that are known here (files of that kind: {held})",
        fix=f"give one file, or a folder with {', '.join(KNOWN[:4])} or TensorBoard's event files",
    )


def _table(text: str, path: Path) -> list[Row]:
    """CSV or TSV with a header. Cells that are no numbers are left out, and so are empty ones."""
    head = text.splitlines()[0]
    delimiter = max(",\t;", key=head.count)
    table = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    names = [name for name in table.fieldnames or () if name]
    if not names or all(number(name) is not None for name in names):
        raise ConvclinicError(f"the first line of {path} names no columns: {head[:60]!r}", fix=GIVE)
    return _numbers(table)


def _json(text: str, path: Path) -> list[Row]:
    """A JSON document, else one object a line; a last line torn by a kill is dropped."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        lines = text.splitlines()
        found: list[Any] = []
        for i, line in enumerate(lines):
            try:
                found += [json.loads(line)] if line.strip() else []
            except json.JSONDecodeError as error:
                if i < len(lines) - 1:
                    raise ConvclinicError(f"{path}, line {i + 1}, is no JSON: {error}", fix=GIVE) from error
        return _numbers(found)
    return _of_document(document)


def _of_document(document: object) -> list[Row]:
    """A list of objects; columns by name; or either under the name of a known tool."""
    if isinstance(document, list):
        return _numbers(cast("list[Any]", document))
    if not isinstance(document, dict):
        return []
    named = cast("dict[str, Any]", document)
    for key in ("log_history", "history", "epochs", "records", "metrics"):
        if isinstance(named.get(key), list | dict):
            return _of_document(named[key])
    columns = {key: cast("list[Any]", value) for key, value in named.items() if isinstance(value, list)}
    if not columns:
        return _numbers([named])
    longest = max(map(len, columns.values()))
    return _numbers([{key: v[i] for key, v in columns.items() if i < len(v)} for i in range(longest)])


def _numbers(rows: Iterable[object]) -> list[Row]:
    found: list[Row] = []
    for row in rows:
        if isinstance(row, dict):
            pairs = _flat(cast("dict[Any, Any]", row))
            found.append({key: value for key, cell in pairs.items() if (value := number(cell)) is not None})
    return [row for row in found if row]


def _flat(row: Mapping[Any, Any], before: str = "") -> dict[str, Any]:
    """{"train": {"loss": 1}} as {"train/loss": 1}."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key is None:  # cells beyond the header
            continue
        name = f"{before}{str(key).strip()}"
        flat.update(
            _flat(cast("dict[Any, Any]", value), f"{name}/") if isinstance(value, dict) else {name: value}
        )
    return flat


def number(cell: object) -> float | None:
    """A cell as a number, NaN and infinity included; None for anything else.

    >>> number("12.5 %"), number("nan"), number(""), number("tensor(0.25, device='cuda:0')")
    (12.5, nan, None, 0.25)
    """
    if isinstance(cell, bool) or cell is None:
        return None
    if isinstance(cell, int | float):
        return float(cell)
    if not isinstance(cell, str):
        return None
    named = NAMED.match(cell.strip())
    try:
        return float((named[1] if named else cell).strip().removesuffix("%").strip())
    except ValueError:
        return None


def _events(path: Path) -> list[Row]:
    """Scalars of TensorBoard's event files by step; a sub-folder's name stands before the tag."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import (  # pyright: ignore
            EventAccumulator,
        )
        from tensorboard.util import tensor_util  # pyright: ignore
    except ImportError as error:
        raise ConvclinicError(
            f"{path} holds TensorBoard's event files, and tensorboard is not installed",
            fix="pip install 'convclinic[track]', or export the scalars as CSV",
        ) from error
    folders = sorted({file.parent for file in path.rglob(f"*{EVENTS}*")}) if path.is_dir() else [path]
    by_step: dict[int, Row] = {}
    for folder in folders:
        events: Any = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        name = "" if folder == path else f"{folder.relative_to(path).as_posix()}/"
        scalars = [
            (f"{name}{tag}", event.step, event.value)
            for tag in events.Tags()["scalars"]
            for event in events.Scalars(tag)
        ]
        for tag in events.Tags()["tensors"]:  # TensorFlow 2 writes scalars as tensors of one number
            for event in events.Tensors(tag):
                array = tensor_util.make_ndarray(event.tensor_proto)
                if array.size == 1 and array.dtype.kind in "fiu":
                    scalars.append((f"{name}{tag}", event.step, array.item()))
        for tag, step, value in scalars:
            by_step.setdefault(step, {"step": float(step)})[tag] = float(value)
    if not by_step:
        raise ConvclinicError(f"{path} holds no scalars", fix="give the folder of a run that has logged some")
    return [by_step[step] for step in sorted(by_step)]


def beside(source: Path) -> tuple[int | None, int | None]:
    """Classes and validation images, where the record lies in a run folder that tells them."""
    if source.name != "history.jsonl":
        return None, None
    known: list[int | None] = []
    for name, *path in (("data.json", "classes"), ("metrics.json", "validation", "n")):
        try:
            value: Any = json.loads((source.parent / name).read_text(encoding="utf-8"))
            for key in path:
                value = value[key]
            known.append(value if isinstance(value, int) else len(value))
        except (OSError, ValueError, KeyError, TypeError):
            known.append(None)
    return known[0], known[1]
