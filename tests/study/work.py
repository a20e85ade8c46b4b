"""What the engine's tests let their workers do."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch

from convclinic.ground.errors import ConvclinicError


def square(payload: dict[str, Any], folder: Path) -> dict[str, Any]:
    with (folder / "calls").open("a") as file:
        file.write("x")
    return {"square": payload["x"] ** 2, "threads": torch.get_num_threads(), "process": os.getpid()}


def picky(payload: dict[str, Any], folder: Path) -> dict[str, Any]:
    if payload["x"] == 1:
        raise ConvclinicError("ones are not liked", fix="give a two")
    if payload["x"] == 2:
        raise ZeroDivisionError("of all things")
    return square(payload, folder)


def deadly(payload: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Kills its own process, as a machine without memory does."""
    if payload["x"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(payload, folder)


def slow(payload: dict[str, Any], folder: Path) -> dict[str, Any]:
    (folder / "begun").touch()
    time.sleep(payload.get("seconds", 0.2))
    return square(payload, folder)


def noisy(payload: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Numbers that depend on how sums are split among threads."""
    generator = torch.Generator().manual_seed(payload["x"])
    a = torch.randn(300, 300, generator=generator)
    return {"sum": float((a @ a @ a).sum())}
