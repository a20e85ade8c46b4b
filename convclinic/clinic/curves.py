"""Recorded curves as signals: what the clinic can judge where it was not there itself.

Only losses, accuracies, the LR and the norm of the gradient are taken from a record. A value that is logged
about once an epoch becomes part of an epoch, one that is logged more often a step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convclinic.clinic.column_names import Meaning, meaning
from convclinic.clinic.curve_files import Row, beside, read_rows
from convclinic.clinic.signals import Epoch, Floats, NonFinite, Signals, Steps
from convclinic.ground.errors import ConvclinicError

FEW = 100  # rows of a lone column that are taken for epochs; more are steps
UNSEEN = (
    "the net: dead or saturated units, initialisation, modes, what the optimizer holds",
    "the gradients: a forgotten zero_grad, gradients by layer, update over weight",
    "the images and labels: scale, order, balance, noise, leaks",
)
EXPECTED = "name them like train_loss, val_loss, train_accuracy, val_accuracy, lr, epoch, step"


@dataclass(frozen=True)
class Column:
    """One column that is understood: its values (NaN where absent) over all rows."""

    name: str
    meaning: Meaning
    values: Floats
    grain: str

    @property
    def count(self) -> int:
        return int(np.isfinite(self.values).sum())


def read(path: Path | str, classes: int | None = None, validation: int | None = None) -> Signals:
    """The signals in a file or folder of metrics; `classes` and `validation` (images) where known.

    Raises ConvclinicError for a file that is missing, empty, or holds neither loss nor accuracy.
    """
    rows, source = read_rows(Path(path))
    rows = _joined(rows)
    found = _columns(rows)
    if not any(column.meaning.what in ("loss", "accuracy") for column in found):
        names = sorted({name for row in rows for name in row})
        raise ConvclinicError(
            f"{source} has no column of a loss or an accuracy (columns: {', '.join(names[:20])})",
            fix=EXPECTED,
        )
    known = beside(source)
    return _signals(rows, found, classes or known[0], validation or known[1])


def _joined(rows: Sequence[Row]) -> list[Row]:
    """Rows of one step made one, by rising step; a resumed run's later rows replace the earlier ones."""
    names = {name for row in rows for name in row}
    counter = next((name for name in sorted(names) if (m := meaning(name)) and m.what == "step"), None)
    if counter is None or not all(math.isfinite(row.get(counter, math.nan)) for row in rows):
        return list(rows)
    by_step: dict[float, Row] = {}
    for row in rows:
        by_step.setdefault(row[counter], {}).update(row)
    return [by_step[step] for step in sorted(by_step)]


def _columns(rows: Sequence[Row]) -> list[Column]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    meant = {name: m for name in names if (m := meaning(name)) is not None}
    values = {name: np.array([row.get(name, math.nan) for row in rows], np.float64) for name in meant}
    _say_sides(meant)
    _as_shares(meant, values)
    epochs = [values[name] for name, m in meant.items() if m.what == "epoch"]
    n_epochs = len(np.unique(np.ceil(epochs[0][np.isfinite(epochs[0])]))) if epochs else 0
    scored = [int(np.isfinite(values[n]).sum()) for n, m in meant.items() if m.side == "val"]
    stepped = any(m.what == "step" for m in meant.values())
    often = n_epochs if n_epochs else int(1.5 * max(scored)) + 1 if scored else 0 if stepped else FEW
    return [
        Column(name, m, values[name], m.grain or _grain(m, values[name], often)) for name, m in meant.items()
    ]


def _grain(meant: Meaning, values: Floats, often: int) -> str:
    return "epoch" if meant.side == "val" or np.count_nonzero(~np.isnan(values)) <= often else "step"


def _say_sides(meant: dict[str, Meaning]) -> None:
    """Give every metric a side: test stands for validation where there is none, and a nameless accuracy is
    validation's where the losses are named and no other is (as fastai writes it), else training's."""
    have = {(m.side, m.what) for m in meant.values()}
    validated = any(side == "val" for side, _ in have)
    scored = ("val", "accuracy") in have or ("val", "error") in have
    trained = ("train", "loss") in have and ("val", "loss") in have
    for name, m in meant.items():
        side = m.side
        if side == "test":
            side = "" if validated else "val"
            if not side:
                meant[name] = Meaning("test", m.what, m.grain, m.extra)
                continue
        elif side == "" and m.what in ("loss", "accuracy", "error"):
            side = "val" if m.what != "loss" and trained and not scored else "train"
        meant[name] = Meaning(side, m.what, m.grain, m.extra)


def _as_shares(meant: dict[str, Meaning], values: dict[str, Floats]) -> None:
    """Per cent and error rates become accuracies in [0, 1]. All are per cent where one clearly is."""
    shares = [name for name, m in meant.items() if m.what in ("accuracy", "error")]
    per_cent = any(np.nanmax(values[name], initial=0.0) > 1.5 for name in shares)
    for name in shares:
        share = values[name] / 100 if per_cent else values[name]
        m = meant[name]
        values[name] = 1 - share if m.what == "error" else share
        meant[name] = Meaning(m.side, "accuracy", m.grain, m.extra)


def _pick(found: Sequence[Column], side: str, what: str, grain: str = "") -> Column | None:
    """The column that means this most plainly; of several, the one with most values."""
    fit = [
        column
        for column in found
        if (column.meaning.side, column.meaning.what) == (side, what) and grain in ("", column.grain)
    ]
    return min(fit, key=lambda column: (column.meaning.extra, -column.count)) if fit else None


def _signals(
    rows: Sequence[Row], found: Sequence[Column], classes: int | None, validation: int | None
) -> Signals:
    loss = _pick(found, "train", "loss", "step")
    lost = _lost(rows, loss or _pick(found, "train", "loss") or _pick(found, "val", "loss"))
    taken = np.zeros(len(rows), bool) if loss is None else np.isfinite(loss.values)
    if loss is not None and lost is not None:
        taken |= np.array([i >= lost and loss.name in row for i, row in enumerate(rows)])
    at = _places(found, taken)
    steps = _steps(found, taken, at)
    epochs = _epochs(found, at, steps)
    missing = [
        name
        for name, there in {
            "loss of single batches": loss,
            "validation loss": _pick(found, "val", "loss"),
            "validation accuracy": _pick(found, "val", "accuracy"),
            "training accuracy": _pick(found, "train", "accuracy"),
            "the LR": _pick(found, "", "lr"),
        }.items()
        if there is None
    ]
    observed = int(at[-1]) if len(steps) else 0
    return Signals(
        classes=classes,
        steps=steps,
        epochs=epochs,
        non_finite=None if lost is None else NonFinite(int(at[lost]), "loss", "loss"),
        observed=observed,
        updates=observed,
        validation=validation,
        unseen=(*UNSEEN, *missing),
    )


def _lost(rows: Sequence[Row], loss: Column | None) -> int | None:
    """The row from which on the loss is no number. Single ones between numbers are gaps, as some tools write
    them, or batches that were skipped."""
    if loss is None:
        return None
    cells = [(i, math.isfinite(row[loss.name])) for i, row in enumerate(rows) if loss.name in row]
    runs = [0]
    for _, finite in cells:
        runs = [*runs, 0] if finite else [*runs[:-1], runs[-1] + 1]
    last = runs[-1]
    return cells[-last][0] if last > max(runs[:-1], default=0) else None


def _places(found: Sequence[Column], taken: NDArray[np.bool_]) -> Floats:
    """The step of each row: as recorded, else counted from the losses, else the number of the row."""
    counter = _pick(found, "", "step")
    if counter is not None and counter.count:
        known = counter.values
        offset = 1.0 if np.nanmin(known) == 0 else 0.0  # finished updates count from one
        return _filled(known, first=0.0) + offset
    return np.cumsum(taken, dtype=np.float64) if taken.any() else np.arange(1.0, len(taken) + 1)


def _steps(found: Sequence[Column], taken: NDArray[np.bool_], at: Floats) -> Steps:
    n = int(taken.sum())
    columns = {field.name: np.full(n, math.nan) for field in fields(Steps)}
    columns["step"] = at[taken]
    for name, column in (
        ("loss", _pick(found, "train", "loss", "step")),
        ("accuracy", _pick(found, "train", "accuracy", "step")),
        ("grad_norm", _pick(found, "", "grad_norm")),
        ("lr", _pick(found, "", "lr")),
    ):
        if column is not None:
            columns[name] = (_filled(column.values) if name == "lr" else column.values)[taken]
    return Steps(**columns)


def _epochs(found: Sequence[Column], at: Floats, steps: Steps) -> tuple[Epoch, ...]:
    """One for each epoch, or each place between, at which something was told that is no batch's."""
    told = {
        name: column.values
        for name, column in (
            ("train_loss", _pick(found, "train", "loss", "epoch")),
            ("train_accuracy", _pick(found, "train", "accuracy", "epoch")),
            ("val_loss", _pick(found, "val", "loss")),
            ("val_accuracy", _pick(found, "val", "accuracy")),
        )
        if column is not None
    }
    numbered = _pick(found, "", "epoch")
    keys = at if numbered is None or not numbered.count else _filled(numbered.values, first=0.0)
    lr = _pick(found, "", "lr")
    rates = np.full(len(at), math.nan) if lr is None else _filled(lr.values)
    rows: dict[float, dict[str, Any]] = {}
    for i, key in enumerate(keys):
        values = {name: float(column[i]) for name, column in told.items() if math.isfinite(column[i])}
        if values:
            rate = float(rates[i]) if math.isfinite(rates[i]) else None
            rows.setdefault(float(key), {}).update(values, step=int(at[i]), lr=rate)
    before = 0.0
    epochs: list[Epoch] = []
    for number, key in enumerate(sorted(rows), 1):
        row = rows[key]
        here = steps.loss[(steps.step > before) & (steps.step <= row["step"])]
        if "train_loss" not in row and len(here) and np.isfinite(here).all():
            row["train_loss"] = float(here.mean())
        before = row["step"]
        epochs.append(Epoch(number, **row))
    return tuple(epochs)


def _filled(values: Floats, first: float = math.nan) -> Floats:
    """Each gap takes the value before it."""
    known = np.isfinite(values)
    last = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))
    return np.where(last >= 0, values[np.maximum(last, 0)], first)
