"""The clinic inside a run: before the first step, at its side, and what it found in the run folder."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from convclinic import loop
from convclinic.clinic.clinic import Clinic
from convclinic.data.dataset import Dataset
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import write_json
from convclinic.history import Record
from convclinic.job.display import Display
from convclinic.kinds import Finding
from convclinic.recipe import Recipe
from convclinic.tricks.balance._policies import visits

CLINIC = "clinic.json"
MODES = ("off", "watch", "treat")
EARLY = (10, 25, 50, 100)  # steps at which the clinic is asked beside every validation
ALARMS = ("critical", "warning")
NON_FINITE = "non_finite"
SHOWN = 3  # images of a batch that are named on the screen; all stand in the run folder
PREFLIGHT_STEPS = 200  # a run of fewer has no time for a fit to one batch


def check_mode(mode: str) -> None:
    """Raise ConvclinicError for a mode that does not exist."""
    if mode not in MODES:
        raise ConvclinicError(f"no clinic mode '{mode}'", fix=f"use one of {', '.join(MODES)}")


class Watcher:
    """A clinic attached to one training state, fed by the run's records."""

    def __init__(
        self, recipe: Recipe, data: Dataset, state: loop.State, folder: Path, display: Display
    ) -> None:
        self.recipe, self.data, self.state, self.folder, self.display = recipe, data, state, folder, display
        self.clinic = Clinic(state.net, state.optimizer, classes=len(data.classes), step=state.step)
        self.findings: list[Finding] = []
        self.said: set[str] = set()
        self.broken: int | None = None  # the step of the first loss that is no number
        if state.step == 0:
            seen = loop.next_batch(recipe, data, state)
            state.net.train()
            with torch.random.fork_rng():
                self.clinic.preflight(
                    seen.images,
                    seen.targets,
                    nn.CrossEntropyLoss(),
                    one_batch=recipe.total_steps >= PREFLIGHT_STEPS,
                )
            self.ask()

    def observe(self, record: Record) -> bool:
        """Take in the step that `record` tells of; returns whether the clinic was asked for its findings."""
        state, seen = self.state, self.state.seen
        if record.step != state.step or seen is None:
            return False
        self.clinic.observe(loss=record.loss, inputs=seen.images, targets=seen.targets, logits=seen.logits)
        if record.val_accuracy is not None:
            self.clinic.observe_epoch(
                train_accuracy=record.train_accuracy,
                val_loss=record.val_loss,
                val_accuracy=record.val_accuracy,
            )
        if self.broken is None and not math.isfinite(record.loss):
            self.broken = record.step
        due = record.val_accuracy is not None or record.step in EARLY or not math.isfinite(record.loss)
        if due:
            self.ask()
        return due

    def ask(self) -> None:
        """Bring the findings up to date, in memory and in the run folder; say what is new and alarming."""
        self.findings = [self._with_images(finding) for finding in self.clinic.findings()]
        write_json(self.folder / CLINIC, [finding.to_dict() for finding in self.findings])
        for finding in self.alarms:
            if finding.cause not in self.said:
                self.said.add(finding.cause)
                advice = f" ({finding.remedies[0]})" if finding.remedies else ""
                self.display.say(f"  clinic, {finding.severity}: {told(finding)}{advice}")

    def _with_images(self, finding: Finding) -> Finding:
        """With the files of the batch where the first value that is no number was met, if it tells of one."""
        if self.broken is None or NON_FINITE not in (finding.cause, *(e.value for e in finding.evidence)):
            return finding
        names = batch_names(self.recipe, self.data, self.broken)
        places = [int(place) for place in finding.examples if place.isdigit()]
        return dataclasses.replace(finding, examples=tuple(names[k] for k in places) or names)

    @property
    def alarms(self) -> Sequence[Finding]:
        return [finding for finding in self.findings if finding.severity in ALARMS]

    @property
    def words(self) -> str:
        """The most likely trouble, for the progress line; empty when all is well."""
        return f" | {self.alarms[0].cause.replace('_', ' ')}" if self.alarms else ""

    def close(self) -> None:
        self.clinic.close()


def told(finding: Finding) -> str:
    """What is wrong, in words; of a value that is no number also the tensor, the step and the images."""
    first = next((e for e in finding.evidence if e.value == NON_FINITE), None)
    words = finding.summary + (f"; {first.expected}" if first else "")
    if finding.examples and (first or finding.cause == NON_FINITE):
        words += f"; images of that batch: {', '.join(finding.examples[:SHOWN])}"
        words += f" and {len(finding.examples) - SHOWN} more" if len(finding.examples) > SHOWN else ""
    return words


def batch_names(recipe: Recipe, data: Dataset, step: int) -> tuple[str, ...]:
    """The files of the images that update `step`, from 1, was given: an order is drawn by its name."""
    train = data.indices("train")
    labels = torch.from_numpy(data.labels[train])
    length = len(visits(recipe.balance, labels, recipe.seed, 0, 0.0))
    size = min(recipe.run.batch_size, length)
    epoch, position = divmod(step - 1, length // size)
    begun = recipe.progress(epoch * (length // size))
    order = train[visits(recipe.balance, labels, recipe.seed, epoch, begun).numpy()]
    return tuple(data.names[i] for i in order[position * size : (position + 1) * size].tolist())
