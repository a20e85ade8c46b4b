"""Treatment: a remedy is tried against doing nothing, from the same checkpoint, for equally many steps.

What is better on validation, by more than its paired standard error can explain, is kept; what is not is
reverted; nothing is tried twice. Every trial is written down with what it brought.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from convclinic import checkpoint as saving
from convclinic import loop
from convclinic.clinic.remedies import Remedy, candidates
from convclinic.clinic.signals import Floats
from convclinic.data.dataset import Dataset
from convclinic.ground.files import read_json, write_json
from convclinic.history import Record
from convclinic.job.display import Display
from convclinic.kinds import Finding
from convclinic.recipe import Recipe

TREATMENTS, GOOD = "treatments.json", "good.safetensors"
TRIAL_SHARE, TRIAL_STEPS = 0.05, (20, 200)  # of the run that a trial lasts
TRIALS_SHARE = 0.4  # of the run that all trials together may take: a repair costs 1.4 trainings at most
CERTAIN = 2.0  # standard errors by which a remedy must be better than nothing
WORSE = 1.1  # times the best validation loss up to which a state counts as good


@dataclass(frozen=True)
class Trial:
    """One remedy against doing nothing: validation losses after equally many steps from `since`."""

    cause: str
    edit: str
    since: int
    steps: int
    nothing: float | None
    remedy: float | None
    gain: float | None  # mean over validation images of the loss that the remedy saved
    error: float | None  # its standard error
    kept: bool


@dataclass
class Arm:
    """Where a trial ended. losses: of each validation image, infinite where the net gives no numbers."""

    recipe: Recipe
    state: loop.State
    records: list[Record]
    losses: Floats


class Treatment:
    """Keeps the last good checkpoint of a run, and tries remedies from it."""

    def __init__(self, recipe: Recipe, data: Dataset, folder: Path, display: Display) -> None:
        self.recipe, self.data, self.folder, self.display = recipe, data, folder, display
        path = folder / TREATMENTS
        self.trials = [Trial(**row) for row in read_json(path)] if path.exists() else []
        self.best = math.inf

    def remember(self, recipe: Recipe, state: loop.State, val_loss: float | None) -> None:
        """Keep `state` where its validation loss is about as good as the best so far; None: in any case."""
        if val_loss is None:
            self.best = math.inf
        elif val_loss < WORSE * self.best:
            self.best = min(self.best, val_loss)
        else:
            return
        saving.save(state, recipe, self.folder / GOOD)

    def treat(self, recipe: Recipe, state: loop.State, findings: list[Finding]) -> Arm | None:
        """The arm to go on with, or None where doing nothing was as good. At most one remedy is kept."""
        good = saving.restore(recipe, self.data, state.device, self.folder / GOOD)
        steps = min(max(int(TRIAL_SHARE * recipe.total_steps), TRIAL_STEPS[0]), TRIAL_STEPS[1])
        idle: dict[int, Arm] = {}
        for cause, remedy in self._untried(recipe, findings):
            since = 0 if remedy.afresh else good.step
            spent = sum(2 * trial.steps for trial in self.trials)
            if spent + 2 * steps > TRIALS_SHARE * recipe.total_steps:
                return None
            if since not in idle:
                idle[since] = self._advance(recipe, self._begin(recipe, recipe, since, state.device), steps)
            arm = self._advance(remedy.recipe, self._begin(recipe, remedy.recipe, since, state.device), steps)
            if self._kept(cause, remedy, since, steps, idle[since], arm):
                return arm
        return None

    def _untried(self, recipe: Recipe, findings: list[Finding]) -> Iterator[tuple[str, Remedy]]:
        for finding in findings:
            for remedy in candidates(finding, recipe):
                if not any(t.cause == finding.cause and t.edit == remedy.edit for t in self.trials):
                    yield finding.cause, remedy

    def _begin(self, recipe: Recipe, changed: Recipe, since: int, device: torch.device) -> loop.State:
        """A state after `since` steps: fresh, or the last good one, read as the changed recipe's."""
        if since == 0:
            return loop.start(changed, self.data, device)
        return saving.restore(changed, self.data, device, self.folder / GOOD, of=recipe)

    def _advance(self, recipe: Recipe, state: loop.State, steps: int) -> Arm:
        records: list[Record] = []
        end = state.step + steps
        for record in loop.fit(recipe, self.data, state):
            records.append(record)
            if not math.isfinite(record.loss) or (record.step == state.step and state.step >= end):
                break
        return Arm(recipe, state, records, _losses(recipe, self.data, state))

    def _kept(self, cause: str, remedy: Remedy, since: int, steps: int, idle: Arm, arm: Arm) -> bool:
        """Compare, write down and say."""
        gain, error = _gain(idle.losses, arm.losses)
        kept = bool(np.isfinite(arm.losses).all()) and gain > CERTAIN * error
        nothing, treated = float(idle.losses.mean()), float(arm.losses.mean())
        known = [value if math.isfinite(value) else None for value in (nothing, treated, gain, error)]
        self.trials.append(
            Trial(cause, remedy.edit, since, steps, known[0], known[1], known[2], known[3], kept)
        )
        rows: list[dict[str, Any]] = [dataclasses.asdict(trial) for trial in self.trials]
        write_json(self.folder / TREATMENTS, rows)
        self.display.say(
            f"  treated {cause}: {remedy.edit}, {steps} steps from step {since}: validation loss "
            f"{treated:.3f}, doing nothing {nothing:.3f}; {'kept' if kept else 'reverted'}"
        )
        return kept


def _losses(recipe: Recipe, data: Dataset, state: loop.State) -> Floats:
    """Cross-entropy of each validation image with the net itself: averaged weights lag behind a change."""
    logits, labels = loop.split_logits(recipe, data, "validation", state.net, state.fitted, state.device)
    losses = F.cross_entropy(logits, labels, reduction="none").numpy().astype(np.float64)
    return np.where(np.isfinite(losses), losses, np.inf)


def _gain(idle: Floats, treated: Floats) -> tuple[float, float]:
    """Mean loss saved by the treatment and its standard error, paired by image."""
    if not np.isfinite(treated).all():
        return -math.inf, 0.0
    if not np.isfinite(idle).all():
        return math.inf, 0.0
    saved = idle - treated
    return float(saved.mean()), float(saved.std(ddof=1) / math.sqrt(len(saved))) if len(
        saved
    ) > 1 else math.inf
