"""The run folder: where it lies, what it is called, and that only one process works in it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import explain, read_csv, read_json
from convclinic.recipe import refuse_newer

try:
    import fcntl
except ImportError:  # Windows, where two processes in one run folder are not guarded against
    fcntl = None

RECIPE, METRICS, FINDINGS = "recipe.json", "metrics.json", "findings.json"
HISTORY, TIMINGS, MODEL = "history.jsonl", "timings.jsonl", "model.safetensors"
PARTS = {"convclinic", "recipe", "hardware"}  # of recipe.json, without which nothing goes on
CHECKPOINT, MISTAKES, REPORT = "checkpoint.safetensors", "mistakes.json", "report.html"
SPLITS = "splits.csv"
SEARCH, TOP = "search.json", "top"  # of the folder of a search: what was found, runs of the best trials


def new(out: Path | None, data: Path) -> Path:
    """An empty folder for a new run: `out` itself, or the next free `runs/<name>-<number>`.

    Raises ConvclinicError when `out` exists and is not empty: a run never overwrites anything.
    """
    if out is None:
        name = re.sub(r"[^\w.-]+", "-", data.resolve().name.split(".")[0]).strip("-.") or "data"
        number = 1
        while (Path("runs") / f"{name}-{number}").exists():
            number += 1
        out = Path("runs") / f"{name}-{number}"
    if out.exists() and not out.is_dir():
        raise ConvclinicError(f"{out} is a file", fix="give --out a folder that is new or empty")
    try:
        occupied = out.is_dir() and any(out.iterdir())
    except OSError as error:
        raise explain(error, out) from error
    if occupied:
        fix = (
            f"go on with `convclinic resume {out}`" if (out / RECIPE).exists() else "give --out a new folder"
        )
        raise ConvclinicError(f"{out} is not empty, and nothing is ever overwritten", fix=fix)
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise explain(error, out) from error
    return out


def groups(folder: Path) -> NDArray[np.int64]:
    """The group (n,) of each image of the data set: images of one group were not parted by the split."""
    return np.array([int(row["group"]) for row in read_csv(folder / SPLITS)], np.int64)


def existing(path: Path) -> Path:
    """A run folder of ours. Raises ConvclinicError that tells a missing one from another program's."""
    if not path.exists():
        siblings = sorted(p.parent.name for p in path.parent.glob(f"*/{RECIPE}"))
        fix = f"runs there: {', '.join(siblings[:8])}" if siblings else "start one with `convclinic fit`"
        raise ConvclinicError(f"no run folder {path}", fix=fix)
    if not path.is_dir():
        raise ConvclinicError(f"{path} is a file, not a run folder")
    if not (path / RECIPE).exists():
        raise ConvclinicError(
            f"{path} is not a run folder of convclinic, or was stopped before its plan was made",
            fix="start again with `convclinic fit`",
        )
    document = read_json(path / RECIPE)
    if not isinstance(document, dict) or not document.keys() >= PARTS:
        raise ConvclinicError(f"{path / RECIPE} was not written by convclinic, or a part of it is missing")
    refuse_newer(document, path / RECIPE)
    return path


def document(path: Path) -> dict[str, Any]:
    """The run's `recipe.json`: the recipe, its reasons, and how the run was started."""
    return read_json(existing(path) / RECIPE)


@contextlib.contextmanager
def provisional(folder: Path) -> Generator[None]:
    """Until the recipe is frozen there is nothing to go on with: if that fails, the new folder goes again."""
    try:
        yield
    except BaseException:
        if not (folder / RECIPE).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


@contextlib.contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold the run folder; a second process that wants it gets an error instead of a mixed-up history.

    The lock is the operating system's, so a killed process leaves none behind.
    """
    if fcntl is None:
        yield
        return
    try:
        handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise explain(error, folder / ".lock") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise ConvclinicError(
            f"another process is working in {folder}", fix="wait for it to end, or stop it"
        ) from error
    try:
        yield
    finally:
        os.close(handle)
