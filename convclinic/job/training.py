"""Train a frozen recipe in its run folder: record, checkpoint, stop on request, keep to the budget."""

from __future__ import annotations

import dataclasses
import itertools
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from convclinic import checkpoint as saving
from convclinic import loop
from convclinic.data.dataset import Dataset
from convclinic.ground.errors import ConvclinicError, Interrupted
from convclinic.ground.files import read_json, write_json
from convclinic.history import History, Record
from convclinic.job import snapshots
from convclinic.job.display import Display
from convclinic.job.folder import CHECKPOINT, HISTORY, RECIPE
from convclinic.job.treating import Treatment
from convclinic.job.trials import Arm, finite
from convclinic.job.verdict import verdict
from convclinic.job.watching import Watcher, check_mode, told
from convclinic.planning.speed import Speed
from convclinic.recipe import Recipe

CHECKPOINT_SECONDS = 20.0
ADJUST_FROM = 0.05  # a projected end this share of the budget away from the plan bends the schedule
ADJUST_EVERY = 0.1  # of training between two such looks
FARTHEST = 2.0  # times as many steps as were left that one bend may lead to: the next one knows more
PLANNED_COUNTS, REMEMBERED = 20, 50  # steps that the planned pace counts as, and that are remembered
UNUSUAL = 3.0  # times the pace so far that a step may count: one that took longer was held up
LEAST_LEFT = 20  # steps that a bent schedule still has


@dataclasses.dataclass(frozen=True)
class Pace:
    """When training should end (time.monotonic()), out of what budget, and how fast steps were expected."""

    ends: float
    budget: float
    speed: Speed


def train(
    recipe: Recipe,
    data: Dataset,
    folder: Path,
    device: torch.device,
    display: Display,
    pace: Pace | None,
    clinic: str = "watch",
) -> tuple[Recipe, loop.State]:
    """Run to the recipe's last step, from the checkpoint in `folder` if there is one; snapshots go there too.

    clinic: off, watch, or treat. Returns the recipe, which differs from the one given only where the budget
    bent the schedule or a treatment was kept, and the final state. Raises Interrupted on Ctrl-C, after the
    step is finished and saved, and ConvclinicError where the weights became no numbers before any validation.
    """
    check_mode(clinic)
    checkpoint, history = folder / CHECKPOINT, History(folder / HISTORY)
    treatment = Treatment(recipe, data, folder, display) if clinic == "treat" else None
    recipe, state = _taken_up(recipe, data, folder, device, treatment)
    history.rewind(state.step)
    snapshots.forget(folder, recipe.snapshots_by(state.step))
    reached = state.step
    majority = _majority(data)
    looked = state.step / recipe.total_steps
    meter = _Meter(pace.speed if pace else None)
    doctor = _Doctor(clinic, treatment, recipe, data, state, history, folder, display)
    with _stop_request() as stop, doctor:
        keeper = _Keeper(folder, stop)
        doctor.stop_by(keeper.interrupt)
        while True:
            scored = [record for record in history.records if record.val_accuracy is not None]
            changed: Recipe | None = None
            arm = doctor.begin(recipe, state)
            for record in loop.fit(recipe, data, state) if arm is None else ():
                history.append([record])
                meter.tick(recipe, record)
                if record.val_accuracy is not None:
                    scored.append(record)
                arm = doctor.seen(recipe, state, record)
                words = verdict([*scored, record], majority, data.profile.n_validation) + doctor.words
                display.update(
                    record.step,
                    recipe.total_steps,
                    f"loss {record.loss:.3f} | {words}",
                    meter.left(recipe, record.step),
                )
                if arm is not None or doctor.lost:
                    break
                if record.step != state.step:
                    continue
                # before the checkpoint: whoever goes on from there finds it
                reached = snapshots.keep(recipe, data, state, folder, reached)
                keeper.keep(state, recipe)
                if pace and record.step / recipe.total_steps > looked + ADJUST_EVERY:
                    looked = record.step / recipe.total_steps
                    changed = _bend(recipe, state.step, pace, meter)
                    if changed is not None:
                        break
            if arm is not None:
                changed, state = arm.recipe, arm.state
                begun = arm.records[0].step - 1
                history.rewind(begun)
                history.append(arm.records)
                snapshots.forget(folder, changed.snapshots_by(begun))
                reached = snapshots.keep(changed, data, state, folder, begun)
            if changed is None:
                break
            recipe = changed
            freeze(recipe, folder)
            saving.save(state, recipe, checkpoint)
            if arm is not None:
                doctor.follow(recipe, state)
            meter.last = time.monotonic()
    if doctor.lost:  # the last checkpoint is the better one
        _tell_loss(doctor.lost, state, folder, display, clinic)
        return recipe, state
    recipe, state = doctor.settled(recipe, state)
    saving.save(state, recipe, checkpoint)
    return recipe, state


def _taken_up(
    recipe: Recipe, data: Dataset, folder: Path, device: torch.device, treatment: Treatment | None
) -> tuple[Recipe, loop.State]:
    """Where the run stands: in the midst of a treatment, at its checkpoint, or at the start."""
    if treatment:
        recipe, state = treatment.resumed(device)
        if state is not None:
            return recipe, state
    saved = [folder / CHECKPOINT, *([treatment.good] if treatment else [])]
    states = [saving.restore(recipe, data, device, path) for path in saved if path.exists()]
    if states:
        return recipe, max(states, key=lambda state: state.step)
    return recipe, loop.start(recipe, data, device)


def broken_down(why: str, folder: Path, clinic: str) -> ConvclinicError:
    """What is raised where training ends without a net that gives numbers. clinic: the mode it had."""
    fix = "train again with a lower LR, --set optimise.lr=..."
    if clinic != "treat":
        fix += ", or let the clinic act: --clinic treat"
    return ConvclinicError(f"training broke down: {why}; {folder} holds its history", fix=fix)


def _tell_loss(why: str, state: loop.State, folder: Path, display: Display, clinic: str) -> None:
    """Raise ConvclinicError where no validation came before the weights became no numbers."""
    if state.best is None:
        raise broken_down(why, folder, clinic)
    display.say(f"  training broke down: {why}; the weights of step {state.best_step} are taken")


class _Keeper:
    """Saves the state every so often, and before a stop that was asked for."""

    def __init__(self, folder: Path, stop: threading.Event) -> None:
        self.folder, self.stop, self.saved = folder, stop, time.monotonic()

    def keep(self, state: loop.State, recipe: Recipe) -> None:
        """Raises Interrupted once all is saved, where a stop was asked for."""
        if self.stop.is_set() or time.monotonic() - self.saved > CHECKPOINT_SECONDS:
            saving.save(state, recipe, self.folder / CHECKPOINT)
            self.saved = time.monotonic()
        self.interrupt()

    def interrupt(self) -> None:
        """Raises Interrupted where a stop was asked for."""
        if self.stop.is_set():
            raise Interrupted("stopped", fix=f"go on with `convclinic resume {self.folder}`")


class _Doctor:
    """The clinic's part in a run: nothing when it is off, findings when it watches, and treatment.

    lost: why training cannot go on, once the weights are no numbers and no remedy is left.
    """

    def __init__(
        self,
        mode: str,
        treatment: Treatment | None,
        recipe: Recipe,
        data: Dataset,
        state: loop.State,
        history: History,
        folder: Path,
        display: Display,
    ) -> None:
        self.mode, self.treatment = mode, treatment
        self.data, self.folder, self.display = data, folder, display
        self.watcher: Watcher | None = None
        self.lost = ""
        if treatment:
            treatment.go_on(recipe, state, history.records)
        self.attach(recipe, state)

    def stop_by(self, check: Callable[[], None]) -> None:
        """Let `check` end trials too: it raises where the run is to stop."""
        if self.treatment:
            self.treatment.check = check

    def attach(self, recipe: Recipe, state: loop.State) -> None:
        """Watch this state from now on, and no other."""
        self.close()
        if self.mode != "off":
            self.watcher = Watcher(recipe, self.data, state, self.folder, self.display)

    def begin(self, recipe: Recipe, state: loop.State) -> Arm | None:
        """Before the first step: a treatment that a stop cut short, or one of what preflight found."""
        if self.treatment and self.treatment.pending is not None:
            return self.treatment.treat(recipe, state, self.treatment.pending)
        return self.treated(recipe, state) if state.step == 0 else None

    def follow(self, recipe: Recipe, state: loop.State) -> None:
        """Go on with a kept treatment: it is the new state to come back to."""
        if self.treatment:
            self.treatment.follow(recipe, state)
        self.attach(recipe, state)

    def seen(self, recipe: Recipe, state: loop.State, record: Record) -> Arm | None:
        """Take in a record; the state and recipe to go on with instead, where a treatment was kept."""
        if self.watcher is None or not self.watcher.observe(record):
            return None
        if self.treatment and record.val_loss is not None:
            self.treatment.remember(recipe, state, record.val_loss, well=not self.watcher.alarms)
        arm = self.treated(recipe, state, record.val_loss) if state.step < recipe.total_steps else None
        if arm is None and self.watcher.broken is not None and not finite(state):
            self.lost = (
                told(self.watcher.findings[0]) if self.watcher.findings else "the weights are no numbers"
            )
        return arm

    def treated(self, recipe: Recipe, state: loop.State, val_loss: float | None = None) -> Arm | None:
        """What the clinic's alarms lead to, or what is plain without them, where it may act."""
        if self.treatment is None or self.watcher is None:
            return None
        if not self.watcher.alarms and not self.treatment.unasked(recipe, state, val_loss):
            return None
        return self.treatment.treat(recipe, state, list(self.watcher.alarms))

    def settled(self, recipe: Recipe, state: loop.State) -> tuple[Recipe, loop.State]:
        """The end of the run: a kept remedy that has not led beyond what was left is taken back."""
        if self.treatment:
            recipe, settled = self.treatment.settled(recipe, state)
            if settled is not state:  # the snapshots are of what is taken back
                snapshots.forget(self.folder, 0)
            freeze(recipe, self.folder)
            return recipe, settled
        return recipe, state

    @property
    def words(self) -> str:
        """For the progress line: the most likely trouble, and the remedy in force."""
        trouble = self.watcher.words if self.watcher else ""
        return trouble + (self.treatment.words if self.treatment else "")

    def close(self) -> None:
        if self.watcher is not None:
            self.watcher.close()

    def __enter__(self) -> _Doctor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def freeze(recipe: Recipe, folder: Path, **facts: Any) -> None:
    """Write the recipe into the run's `recipe.json`, keeping what else stands there."""
    path = folder / RECIPE
    before = read_json(path) if path.exists() else {}
    write_json(path, {**before, **facts, "recipe": recipe.to_dict(), "hash": recipe.hash()})


class _Meter:
    """How fast steps really go, relative to what was measured for their image size."""

    def __init__(self, speed: Speed | None) -> None:
        self.expected = speed.step if speed else {}
        self.last, self.ratio, self.plain = time.monotonic(), 1.0, 0.0
        self.seen = 0

    def tick(self, recipe: Recipe, record: Record) -> None:
        now = time.monotonic()
        took, self.last = now - self.last, now
        if record.val_accuracy is not None:
            return  # evaluation is not part of a step
        self.plain = took if not self.plain else 0.95 * self.plain + 0.05 * took
        expected = self.expected.get(loop.size_at(recipe, recipe.progress(record.step - 1)))
        if expected:
            self.seen += 1
            # what was planned counts as a few steps, and a pause of the machine foretells no other one
            share = 1 / min(self.seen + PLANNED_COUNTS, REMEMBERED)
            self.ratio += share * (min(took / expected, UNUSUAL * self.ratio) - self.ratio)

    def left(self, recipe: Recipe, step: int) -> float:
        """Seconds that the remaining steps will take, evaluations left aside."""
        if not self.expected:
            return (recipe.total_steps - step) * self.plain
        return self.ratio * planned_seconds(recipe, step, self.expected)


def planned_seconds(recipe: Recipe, step: int, expected: dict[tuple[int, int], float]) -> float:
    """Expected seconds of the steps from `step` on, at the sizes they will have."""
    starts = [0.0, *(since for since, _, _ in recipe.run.sizes)]
    edges = sorted(
        {recipe.progress(step), *(since for since in starts if since > recipe.progress(step)), 1.0}
    )
    total, remaining, begin = 0.0, recipe.total_steps - step, recipe.progress(step)
    for low, high in itertools.pairwise(edges):
        share = (high - low) / max(1e-12, 1.0 - begin)
        total += share * remaining * expected.get(loop.size_at(recipe, (low + high) / 2), 0.0)
    return total


def _bend(recipe: Recipe, step: int, pace: Pace, meter: _Meter) -> Recipe | None:
    """The recipe with its end moved so that training ends when it should, or None where it does anyhow."""
    rest = recipe.total_steps - step
    need, have = meter.left(recipe, step), pace.ends - time.monotonic()
    if rest < 2 * LEAST_LEFT or abs(need - have) < ADJUST_FROM * pace.budget:
        return None
    total = step + max(LEAST_LEFT, int(rest * min(have / need, FARTHEST)))
    segment = (step, recipe.progress(step), total)
    run = dataclasses.replace(recipe.run, rescheduled=(*recipe.run.rescheduled, segment))
    return dataclasses.replace(recipe, run=run)


def _majority(data: Dataset) -> float:
    labels = data.labels[data.indices("validation")]
    counts = torch.bincount(torch.from_numpy(labels), minlength=len(data.classes))
    return float(counts.max() / counts.sum())


@contextmanager
def _stop_request() -> Generator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets; a second Ctrl-C stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def ask(number: int, frame: FrameType | None) -> None:
        del number, frame
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
