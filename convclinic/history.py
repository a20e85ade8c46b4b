"""What happened during training: append-only plain data, one JSON object a line, no torch inside.

A record never holds a wall-clock time, so that a resumed run's history equals the uninterrupted one's
byte for byte. Times are kept apart, in `timings.jsonl`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import explain, write_text


@dataclass(frozen=True)
class Record:
    """One optimiser step, and at the end of an interval also the validation results.

    step counts finished updates (1 is the first); epoch is fractional; loss is the mini-batch mean;
    accuracy is that of the mini-batch against the hard labels; grad_norm the global L2 norm; val_* are
    None between evaluations and come from the averaged weights where there are any.
    """

    step: int
    epoch: float
    lr: float
    loss: float
    accuracy: float
    grad_norm: float
    val_loss: float | None = None
    val_accuracy: float | None = None
    val_balanced_accuracy: float | None = None
    train_accuracy: float | None = None

    def line(self) -> str:
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None}) + "\n"


class History:
    """The records of one run, in memory and in a file that only ever grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = read(path) if path.exists() else []
        if path.exists():
            self.rewind(len(self.records) and self.records[-1].step)  # a torn last line goes

    def append(self, records: Iterable[Record]) -> None:
        """Add records to memory and file. Raises ConvclinicError when the disk is full."""
        new = list(records)
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.writelines(record.line() for record in new)
        except OSError as error:
            raise explain(error, self.path) from error
        self.records += new

    def rewind(self, step: int) -> None:
        """Forget what came after `step`: a resume replays it."""
        self.records = [record for record in self.records if record.step <= step]
        write_text(self.path, "".join(record.line() for record in self.records))


def read(path: Path) -> list[Record]:
    """Records of a history file; a last line torn by a kill is dropped.

    Raises ConvclinicError when there is no such file, or when another line is damaged.
    """
    records: list[Record] = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConvclinicError(f"cannot read the history {path}: {error}") from error
    for number, line in enumerate(lines):
        if not line:
            continue
        try:
            records.append(Record(**json.loads(line)))
        except (json.JSONDecodeError, TypeError) as error:
            if number < len(lines) - 1:
                raise ConvclinicError(
                    f"{path}, line {number + 1}, is damaged: {error}",
                    fix="move it away: the report can be written without it",
                ) from error
    return records
