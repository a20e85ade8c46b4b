"""Treatment: remedies are tried against doing nothing, from the same checkpoint, for equally many steps.

Where several of a finding's remedies are better on validation than nothing, by more than their paired
standard errors can explain, the best two go on for longer and the better one is kept; else all are reverted.
Nothing is tried twice. Every trial is written down with what it brought and what it cost. What is thrown
away, trials and steps gone back over, stays within half a training. A remedy that has not led above the
validation accuracy from which it was taken is taken back at the end.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from convclinic import checkpoint as saving
from convclinic import loop
from convclinic.clinic.remedies import Remedy, candidates, general, settings
from convclinic.clinic.signals import Floats
from convclinic.data.dataset import Dataset
from convclinic.ground.files import read_json, write_json
from convclinic.history import Record
from convclinic.job.checking import checked
from convclinic.job.display import Display
from convclinic.job.trials import (
    CERTAIN,
    LEARNT,
    Arm,
    Trial,
    advance,
    chance,
    compared,
    finite,
    gain,
    go_on,
    has_learnt,
    identity,
    losses,
    shortened,
)
from convclinic.kinds import Evidence, Finding
from convclinic.recipe import Recipe

TREATMENTS = "treatments.json"
OPEN, OPEN_STATE = "treating.json", "treating.safetensors"
TRIAL_SHARE, TRIAL_STEPS = 0.05, (10, 200)  # of the run that a trial lasts
PLAY_OFF = 2  # times as long the best two go on before one of them is chosen
COST = 0.5  # of a training that may be thrown away: a repair costs 1.5 trainings at most
MOST = 3  # remedies of a finding that compete, so that a cause that was misnamed leaves something for others
AT_LEAST = 3  # that are tried when the net gives no numbers, whatever they cost
SHORTEST = 0.5  # of the run's steps that a late start from fresh weights must still have
WORSE = 1.1  # times the best validation loss up to which a state counts as good
DOUBT = 0.1  # of the run, after which settings that the checks hold to be wrong are tried otherwise
PATIENCE = 0.35  # of the run, after which something is tried where nothing has been learnt
WHATEVER = "whatever it is"  # the cause of remedies that suit no finding in particular


class Treatment:
    """Keeps the last good checkpoint of a run, and tries remedies from it.

    While remedies are tried, `treating.json` and the state beside it hold how it began: a run that was killed
    meanwhile begins the trials again. pending: the findings of such a treatment, which may be none. check is
    called after every step of a trial, and raises where the run is to stop.
    """

    def __init__(self, recipe: Recipe, data: Dataset, folder: Path, display: Display) -> None:
        self.recipe, self.data, self.folder, self.display = recipe, data, folder, display
        path = folder / TREATMENTS
        self.trials = [Trial(**row) for row in read_json(path)] if path.exists() else []
        self.pending: list[Finding] | None = None
        self.best = math.inf
        self.check: Callable[[], None] = lambda: None

    @property
    def good(self) -> Path:
        """The last good checkpoint of the recipe in force: every kept remedy has one of its own."""
        return self.folder / f"good-{sum(trial.kept for trial in self.trials)}.safetensors"

    @property
    def words(self) -> str:
        """The latest remedy that was kept, for the progress line; empty where none was."""
        kept = [trial for trial in self.trials if trial.kept]
        return f" | treated: {kept[-1].edit}" if kept else ""

    def resumed(self, device: torch.device) -> tuple[Recipe, loop.State | None]:
        """The recipe in force, and where a treatment was cut short the state at which it began."""
        if not (self.folder / OPEN).exists():
            return self.recipe, None
        begun = read_json(self.folder / OPEN)
        self.recipe, self.trials = Recipe.from_dict(begun["recipe"]), self.trials[: begun["trials"]]
        self.pending = []
        for plain in begun["findings"]:
            evidence = tuple(Evidence(**one) for one in plain["evidence"])
            remedies = tuple(plain["remedies"])
            self.pending.append(
                Finding(plain["cause"], plain["severity"], evidence=evidence, remedies=remedies)
            )
        return self.recipe, saving.restore(self.recipe, self.data, device, self.folder / OPEN_STATE)

    def go_on(self, recipe: Recipe, state: loop.State, records: Sequence[Record]) -> None:
        """Take up a run at `state`, a new one or one that was stopped, from the records up to there."""
        begun = next((trial.until for trial in reversed(self.trials) if trial.kept), 0)
        known = [r.val_loss for r in records if r.step > begun and r.val_loss is not None]
        self.best = min(known, default=math.inf)
        if state.step == 0 or not self.good.exists():
            saving.save(state, recipe, self.good)

    def remember(self, recipe: Recipe, state: loop.State, val_loss: float, *, well: bool) -> None:
        """Keep `state` where all is well and its validation loss about as good as the best so far."""
        if well and val_loss < WORSE * self.best:
            saving.save(state, recipe, self.good)
        self.best = min(self.best, val_loss)

    def follow(self, recipe: Recipe, state: loop.State) -> None:
        """Go on with a kept remedy, once the run folder holds it: it is the new state to come back to."""
        self.best = math.inf
        saving.save(state, recipe, self.good)
        if (self.folder / OPEN).exists():  # what was left, in case it turns out to have been better
            number = sum(trial.kept for trial in self.trials)
            (self.folder / OPEN_STATE).replace(self.folder / f"left-{number}.safetensors")
            write_json(self.folder / f"left-{number}.json", read_json(self.folder / OPEN)["recipe"])
        self._close()

    def settled(self, recipe: Recipe, state: loop.State) -> tuple[Recipe, loop.State]:
        """The end of the run, or the best state that was left for a remedy which has not led beyond it."""
        for number in range(sum(trial.kept for trial in self.trials), 0, -1):
            path = self.folder / f"left-{number}.safetensors"
            if not path.exists():
                continue
            before = Recipe.from_dict(read_json(path.with_suffix(".json")))
            left = saving.restore(before, self.data, state.device, path)
            if left.best is not None and left.best_accuracy > state.best_accuracy:
                recipe, state = before, left
                self._take_back(number)
        return recipe, state

    def _take_back(self, number: int) -> None:
        """Write down that the kept remedy of this number, and those after it, were taken back."""
        kept = [place for place, trial in enumerate(self.trials) if trial.kept]
        for place in kept[number - 1 :]:
            self.trials[place] = dataclasses.replace(self.trials[place], kept=False)
            self.display.say(
                f"  taken back: {self.trials[place].edit}, for it has not led beyond what was left"
            )
        write_json(self.folder / TREATMENTS, [dataclasses.asdict(trial) for trial in self.trials])

    def unasked(self, recipe: Recipe, state: loop.State, val_loss: float | None) -> bool:
        """Whether to act though the clinic is silent: a while into the run, on settings that the checks hold
        to be wrong or where nothing has been learnt."""
        if val_loss is None:
            return False
        done = state.step / recipe.total_steps
        unlearnt = not val_loss < LEARNT * chance(self.data)
        return (done >= DOUBT and bool(suspects(recipe, self.data))) or (done >= PATIENCE and unlearnt)

    def treat(self, recipe: Recipe, state: loop.State, findings: Sequence[Finding]) -> Arm | None:
        """The arm to go on with, or None where doing nothing was as good. At most one remedy is kept.

        Where one is, `follow` is to be called once the run folder holds it.
        """
        doubtful = suspects(recipe, self.data)
        if not findings and state.step < PATIENCE * recipe.total_steps:  # of an LR the clinic knows more
            doubtful = [finding for finding in doubtful if finding.cause != "lr_too_high"]
        contests = [(doubtful[0].cause, list(settings(doubtful, recipe)))] if doubtful else []
        contests += [(finding.cause, list(candidates(finding, recipe))) for finding in findings]
        good = saving.restore(recipe, self.data, state.device, self.good)
        back = good.step if has_learnt(recipe, self.data, good) else 0
        if not (finite(state) and has_learnt(recipe, self.data, state)):
            contests.append((WHATEVER, list(general(recipe))))
        elif self._no_worse(recipe, state, good):
            contests = [(cause, [r for r in remedies if not r.calmer]) for cause, remedies in contests]
        if not any(self._untried(remedies, back) for _, remedies in contests):
            return None
        self._open(recipe, state, findings)
        for cause, remedies in contests:
            for since, entered in self._untried(remedies, back).items():
                most = MOST if finite(state) else None
                arm = self._contest(recipe, state, cause, entered[:most], since)
                if arm is not None:
                    return arm
        self._close()
        return None

    def _no_worse(self, recipe: Recipe, state: loop.State, good: loop.State) -> bool:
        """Whether the run has not unlearnt what its last good state knew."""
        now, before = (float(losses(recipe, self.data, at).mean()) for at in (state, good))
        return good.step == 0 or now < WORSE * before

    def _open(self, recipe: Recipe, state: loop.State, findings: Sequence[Finding]) -> None:
        saving.save(state, recipe, self.folder / OPEN_STATE)
        plain = {"recipe": recipe.to_dict(), "trials": len(self.trials)}
        write_json(self.folder / OPEN, {**plain, "findings": [finding.to_dict() for finding in findings]})

    def _close(self) -> None:
        self.pending = None
        for name in (OPEN, OPEN_STATE):
            (self.folder / name).unlink(missing_ok=True)
        for path in self.folder.glob("good-*.safetensors"):
            if path != self.good:
                path.unlink()

    def _untried(self, remedies: Sequence[Remedy], back: int) -> dict[int, list[Remedy]]:
        """Those that were not tried yet, by the step from which they are to be tried."""
        tried = {(trial.changed, trial.since == 0) for trial in self.trials}
        left: dict[int, list[Remedy]] = {}
        for remedy in remedies:
            since = 0 if remedy.afresh else back
            name = (identity(remedy.recipe), since == 0)
            if name not in tried:
                tried.add(name)
                left.setdefault(since, []).append(remedy)
        return left

    def _contest(
        self, recipe: Recipe, state: loop.State, cause: str, remedies: list[Remedy], since: int
    ) -> Arm | None:
        """The best of these remedies, all tried from `since`, where it is better than nothing."""
        total, gone, alive = recipe.total_steps, state.step - since, finite(state)
        steps = min(max(int(TRIAL_SHARE * total), TRIAL_STEPS[0]), TRIAL_STEPS[1])
        own = alive and steps / 2 <= gone <= 2 * steps  # what the run itself did is doing nothing
        each = (gone if own else steps) / total
        free = own or not alive
        count, length = self._affordable(len(remedies), each, gone / total, free, since == 0)
        if not alive and not count:
            count, length = AT_LEAST, SHORTEST if since == 0 else 1.0
        if not remedies[:count]:
            return None
        idle = self._idle(recipe, state, since, None if free else each)
        arms = [
            self._trained(recipe, shortened(remedy.recipe, length), since, each, state.device)
            for remedy in remedies[:count]
        ]
        tried = [
            compared(cause, remedy, state.step, since, idle, arm)
            for remedy, arm in zip(remedies, arms, strict=False)
        ]
        left = [place for place, trial in enumerate(tried) if trial.better]
        undecided = not left and alive and float(idle.mean()) >= LEARNT * chance(self.data)
        if undecided:  # a net may stand still for longer than a trial before it begins to learn
            left, idle = list(range(len(arms))), losses(recipe, self.data, state)
        if len(left) > 2:  # the most promising one, and the one that did best
            left = [left[0], min(left[1:], key=lambda place: float(arms[place].losses.mean()))]
        if len(left) == 2:
            for place in left:
                go_on(arms[place], self.data, PLAY_OFF * each, self.check)
                again = compared(cause, remedies[place], state.step, since, idle, arms[place])
                whole = (1 + PLAY_OFF) * each
                tried[place] = dataclasses.replace(
                    again if undecided else tried[place], until=again.until, cost=whole
                )
        if undecided:
            left = [place for place in left if tried[place].better]
        best = _chosen(left, arms)
        if best is not None:
            cost = gone / total - (1.0 - length)
            tried[best] = dataclasses.replace(tried[best], cost=cost, kept=True)
        if not free:
            tried[0] = dataclasses.replace(tried[0], cost=tried[0].cost + each)
        self._write(tried)
        return arms[best] if best is not None else None

    def _affordable(
        self, wanted: int, each: float, gone: float, free: bool, afresh: bool
    ) -> tuple[int, float]:
        """How many remedies may be tried, and for which share of its steps the run may begin again.

        Whether one is kept or none, what is thrown away stays within its bound: each trial takes `each` of a
        training, and going back loses `gone`. A late start from fresh weights is made shorter.
        """
        left = COST - sum(trial.cost for trial in self.trials) - (0.0 if free else each)
        for count in range(min(wanted, int(left / each + 1e-9)), 0, -1):
            play_off = PLAY_OFF * each if count > 1 else 0.0
            length = min(1.0, 1.0 + left - gone - (count - 1) * each - play_off)
            if length >= (SHORTEST if afresh else 1.0 - 1e-9):
                return count, length
        return 0, 1.0

    def _idle(self, recipe: Recipe, state: loop.State, since: int, share: float | None) -> Floats:
        """Validation losses of doing nothing for this share of the run; None: the run itself shows them."""
        if share is None:
            return losses(recipe, self.data, state)
        return self._trained(recipe, recipe, since, share, state.device).losses

    def _trained(
        self, recipe: Recipe, changed: Recipe, since: int, share: float, device: torch.device
    ) -> Arm:
        """The changed recipe after this share of a run, from fresh weights or from the last good ones."""
        if since == 0:
            state = loop.start(changed, self.data, device)
        else:
            state = saving.restore(changed, self.data, device, self.good, of=recipe)
        return advance(changed, self.data, state, share, self.check)

    def _write(self, tried: list[Trial]) -> None:
        """Write down and say what was tried."""
        self.trials += tried
        write_json(self.folder / TREATMENTS, [dataclasses.asdict(trial) for trial in self.trials])
        for trial in tried:
            self.display.say(f"  {trial.words}")


def suspects(recipe: Recipe, data: Dataset) -> list[Finding]:
    """Settings that the checks before training hold to be wrong."""
    return [finding for finding in checked(recipe, data) if finding.severity != "info"]


def _chosen(left: list[int], arms: list[Arm]) -> int | None:
    """The more promising of two remedies, unless the other one did better for sure."""
    if len(left) < 2:
        return left[0] if left else None
    saved, error = gain(arms[left[0]].losses, arms[left[1]].losses)
    return left[1] if saved > CERTAIN * error else left[0]
