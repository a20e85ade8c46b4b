"""The engine's tasks on a Ray cluster, one core each. Extra [cluster].

Folders and data must lie where every node sees them under one path. Ray tries a task again whose process was
lost.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from convclinic.ground.errors import ConvclinicError
from convclinic.study.engine import Done, Task, do, keep

RETRIES = 2


def run(tasks: Sequence[Task], work: str, folder: Path, address: str) -> Iterator[Done]:
    """As `engine.run`, on the cluster at `address`; "auto" is the one that this machine belongs to.

    Raises ConvclinicError where Ray is missing or no cluster answers.
    """
    ray = _ray()
    own = not ray.is_initialized()
    if own:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except ConnectionError as error:
            raise ConvclinicError(
                f"no Ray cluster at {address}: {error}", fix="start one with `ray start --head`"
            ) from error
    try:
        yield from _yielded(ray, tasks, work, folder.resolve())
    finally:
        if own:
            ray.shutdown()


def _yielded(ray: Any, tasks: Sequence[Task], work: str, folder: Path) -> Iterator[Done]:
    remote = ray.remote(num_cpus=1, max_retries=RETRIES)(_alone)
    waiting = {remote.remote(task, work, str(folder)): task for task in tasks}
    while waiting:
        [ready], _ = ray.wait(list(waiting), num_returns=1)
        task = waiting.pop(ready)
        try:
            done: Done = ray.get(ready)
        except ray.exceptions.RayError as error:
            done = Done(task, None, f"{type(error).__name__}: its process or node was lost", 0.0)
        yield keep(done, folder)


def _alone(task: Task, work: str, folder: str) -> Done:
    """In a worker: with one thread, as a local run with as many workers as cores."""
    import torch

    torch.set_num_threads(1)
    return do(task, work, Path(folder))


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConvclinicError(
            "a cluster needs the package ray", fix="pip install 'convclinic[cluster]'"
        ) from error
