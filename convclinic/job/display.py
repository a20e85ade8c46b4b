"""What a person sees while it works: one line per stage, with time left and a verdict."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from convclinic.ground.units import duration


class Display(Protocol):
    """Where stages, progress and remarks go."""

    def stage(self, name: str) -> None: ...

    def update(self, done: float, total: float, text: str = "", left: float | None = None) -> None:
        """`left` is the seconds that remain in this stage, if better known than from the share done."""
        ...

    def say(self, text: str) -> None: ...

    def __enter__(self) -> Display: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Silent:
    """Shows nothing."""

    def stage(self, name: str) -> None:
        del name

    def update(self, done: float, total: float, text: str = "", left: float | None = None) -> None:
        del done, total, text, left

    def say(self, text: str) -> None:
        del text

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace


class Lines:
    """A live line on a terminal; on a pipe or in a log, one plain line every few seconds."""

    QUIET_SECONDS = 10.0

    def __init__(self) -> None:
        self.console = Console(file=sys.stderr, highlight=False, markup=False)
        self.progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[text]}", markup=False),
            console=self.console,
            auto_refresh=False,
            disable=not self.console.is_terminal,
        )
        self.task: TaskID | None = None
        self.name, self.began, self.shown, self.text = "", 0.0, 0.0, ""

    def __enter__(self) -> Display:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self._finish()
        self.progress.stop()

    def stage(self, name: str) -> None:
        self._finish()
        now = time.monotonic()
        self.name, self.began, self.shown, self.text = name, now, now, ""
        self.task = self.progress.add_task(name, total=None, text="")

    def update(self, done: float, total: float, text: str = "", left: float | None = None) -> None:
        now = time.monotonic()
        whole = done >= total
        if self.task is None or (
            now - self.shown < (0.1 if self.console.is_terminal else self.QUIET_SECONDS)
        ):
            self.text = text or self.text
            return
        self.shown, self.text = now, text
        if left is None and done:
            left = (now - self.began) * (total - done) / done
        ending = "" if whole or left is None else f"{duration(left)} left"
        line = " | ".join(part for part in (ending, text) if part)
        self.progress.update(self.task, total=total, completed=done, text=line)
        self.progress.refresh()
        if not self.console.is_terminal:
            self.console.print(f"{self.name}: {done:.0f} of {total:.0f} | {line}", soft_wrap=True)

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def _finish(self) -> None:
        """Replace the live line by a lasting one."""
        if self.task is None:
            return
        self.progress.remove_task(self.task)
        self.task = None
        took = duration(time.monotonic() - self.began)
        self.console.print(
            f"{self.name:<10} {took}" + (f" | {self.text}" if self.text else ""), soft_wrap=True
        )
