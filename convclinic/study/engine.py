"""Many pieces of work, some at once, each kept as soon as it is finished.

    tasks = [Task("fold-0", {...}), Task("fold-1", {...})]
    for done in run(tasks, "convclinic.job.tasks:fit", folder):
        done.task.name, done.result, done.error, done.seconds

A task is a name and plain data; what is to be done with it is a function, named by its module, that takes the
data and a folder of the task's own and returns plain data, or None where there is nothing to do now. The
result is written into that folder. Whoever runs the same tasks again, after a kill, gets what is finished
without working for it; a task that was cut short finds its folder as it was left. What fails is told and
hinders nobody else.

Workers are processes of this machine, one beside the other with the cores divided among them, or of a Ray
cluster. No scheduling of our own: concurrent.futures and Ray do it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from convclinic.ground.errors import ConvclinicError, Interrupted
from convclinic.ground.files import read_json, write_json

RESULT = "result.json"
ORPHAN_SECONDS = 2.0  # between two looks of a worker whether its parent is still there
WORKER_BYTES = 2 * 2**30  # of memory that a worker may need: libraries, images, maps
GPU_BYTES, GPU_WORKERS = 8 * 2**30, 4  # the same of a GPU's, and how many keep one busy

Plain = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """name: unique among the tasks, and a folder's name; payload: plain data that says what is to be done;
    session: what may differ from one call to the next, such as a deadline, and is never written down."""

    name: str
    payload: Plain
    session: Plain = field(default_factory=dict[str, Any], repr=False)

    @property
    def digest(self) -> str:
        """Of the payload: a result is one of these very data."""
        return hashlib.blake2b(json.dumps(self.payload, sort_keys=True).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Done:
    """A finished task: its result, or what went wrong, in words; neither where there was nothing to do now.
    kept: it had been finished before."""

    task: Task
    result: Plain | None
    error: str
    seconds: float
    kept: bool = False


def finished(task: Task, folder: Path) -> Done | None:
    """What `folder` holds of this task; None where it was not finished or failed.

    Raises ConvclinicError where the result is of another task by this name.
    """
    path = folder / task.name / RESULT
    if not path.exists():
        return None
    kept = read_json(path)
    if kept["task"] != task.digest:
        raise ConvclinicError(
            f"{path.parent} holds the result of other settings", fix="give another --out, or remove it"
        )
    return Done(task, kept["result"], "", kept["seconds"], kept=True)


def threads_each(workers: int) -> int:
    """Of the cores, for each of so many workers."""
    return max(1, _cores() // workers)


def _cores() -> int:
    """That this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bearable(device: torch.device) -> int:
    """How many workers this machine bears at once: one a core, or some a GPU, as far as memory goes."""
    by_memory = max(1, _free_memory() // WORKER_BYTES)
    if device.type == "cuda":
        frees = [torch.cuda.mem_get_info(number)[0] for number in range(torch.cuda.device_count())]
        return min(by_memory, sum(max(1, min(GPU_WORKERS, free // GPU_BYTES)) for free in frees))
    return min(by_memory, _cores())


def _free_memory() -> int:
    """Bytes that programs can still have; where the system does not tell, half of all."""
    try:
        words = Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()
        return 1024 * int(words[0])
    except (OSError, IndexError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def run(
    tasks: Sequence[Task], work: str, folder: Path, *, workers: int = 1, cluster: str | None = None
) -> Iterator[Done]:
    """Do what is not done yet, and yield every task as it is finished, those of before first.

    work: "module:function" of (payload with session, folder) -> plain data or None. workers: at once on this
    machine; cluster: a Ray cluster's address instead, or "auto". Raises ConvclinicError for two tasks of one
    name.
    """
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ConvclinicError(f"two tasks are called {twice[0]}")
    left: list[Task] = []
    for task in tasks:
        done = finished(task, folder)
        if done is None:
            left.append(task)
        else:
            yield done
    if not left:
        return
    if cluster is not None:
        from convclinic.study import cluster as ray_cluster  # an extra that few have

        yield from ray_cluster.run(left, work, folder, cluster)
    elif workers <= 1:
        for task in left:
            yield keep(do(task, work, folder), folder)
    else:
        yield from _beside_each_other(left, work, folder, workers)


def keep(done: Done, folder: Path) -> Done:
    """Write a result down. A task that failed or had nothing to do will be tried again."""
    if done.result is not None:
        plain = {"task": done.task.digest, "result": done.result, "seconds": done.seconds}
        write_json(folder / done.task.name / RESULT, plain)
    return done


def do(task: Task, work: str, folder: Path) -> Done:
    """One task in this process. Whatever it raises but an interrupt becomes its error."""
    own = folder / task.name
    own.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    try:
        result = function(work)({**task.payload, **task.session}, own)
    except Interrupted:
        raise
    except ConvclinicError as error:
        return Done(task, None, f"{error.message} ({error.fix})" if error.fix else error.message, 0.0)
    except Exception as error:  # a task of many: the others go on, and this one's story is told
        (own / "error.txt").write_text(traceback.format_exc())
        return Done(task, None, f"{type(error).__name__}: {error}; see {own / 'error.txt'}", 0.0)
    return Done(task, result, "", time.perf_counter() - begin)


def function(work: str) -> Callable[[Plain, Path], Plain | None]:
    """What "module:function" names."""
    module, _, name = work.partition(":")
    return getattr(importlib.import_module(module), name)


def _beside_each_other(tasks: Sequence[Task], work: str, folder: Path, workers: int) -> Iterator[Done]:
    """In processes. One that is killed takes its pool with it: what it had is tried once more, alone."""
    left = list(tasks)
    try:
        for done in _in_pool(left, work, folder, min(workers, len(left))):
            left.remove(done.task)
            yield keep(done, folder)
    except BrokenProcessPool:
        for task in left:
            try:
                [done] = _in_pool([task], work, folder, 1)
            except BrokenProcessPool:
                words = "its process was killed; the machine may have run out of memory"
                done = Done(task, None, words, 0.0)
            yield keep(done, folder)


def _in_pool(tasks: Sequence[Task], work: str, folder: Path, workers: int) -> Iterator[Done]:
    context = multiprocessing.get_context("spawn")
    pool: Executor = ProcessPoolExecutor(
        workers,
        mp_context=context,
        initializer=_begin_worker,
        initargs=(threads_each(workers), os.getpid(), context.Value("i", 0)),
    )
    try:
        futures: list[Future[Done]] = [pool.submit(do, task, work, folder) for task in tasks]
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker(threads: int, parent: int, begun: Any) -> None:
    """Take a share of the cores and one of the GPUs, and end where the parent was killed: nobody would fetch
    the results."""
    torch.set_num_threads(threads)
    with begun.get_lock():
        number, begun.value = begun.value, begun.value + 1
    if torch.cuda.device_count() > 1:
        torch.cuda.set_device(number % torch.cuda.device_count())

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
