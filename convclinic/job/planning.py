"""Look at the data and the machine, then plan. Everything is measured here; the choices are the planner's."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from convclinic.data.dataset import Dataset, assemble
from convclinic.data.intake import Survey, survey
from convclinic.data.sources import open_source
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.units import duration
from convclinic.job.display import Display
from convclinic.kinds import Finding
from convclinic.models.compact import Compact
from convclinic.plan import hardware as machine
from convclinic.plan import planner
from convclinic.plan.hardware import Hardware
from convclinic.plan.orientation import mirror_test
from convclinic.plan.planner import Plan, Reason
from convclinic.plan.range_test import range_test
from convclinic.plan.speed import Speed, forward_operations
from convclinic.plan.speed import measure as measure_speed
from convclinic.recipe import Recipe
from convclinic.slots import Input

SPEED_SHARE = 0.02  # of the budget goes to timing real steps
RANGE_SHARE = 0.025  # and to the LR range test
RANGE_STEPS = (20, 60)  # fewer say nothing, more are not needed
DEFAULT_EPOCHS = 40  # without a budget
DEFAULT_SECONDS = (60.0, 1800.0)  # and never less or more than this
REPORT_SECONDS = 3.0  # writing the page, thumbnails and the model file


@dataclass(frozen=True)
class Wish:
    """What the user asked for. Seconds count from `started`, a time.monotonic() value."""

    data: Path
    budget: float | None
    seed: int
    recipe: Recipe | None
    settings: tuple[str, ...]
    device: torch.device
    started: float

    def left(self) -> float | None:
        """Seconds of the budget that remain, its margin taken off."""
        if self.budget is None:
            return None
        return self.budget * (1 - planner.MARGIN) - (time.monotonic() - self.started)


@dataclass(frozen=True)
class Planned:
    plan: Plan
    data: Dataset
    hardware: Hardware
    findings: tuple[Finding, ...]
    speed: Speed | None
    closing: float  # seconds that evaluation, baselines and the report should take


def make_plan(wish: Wish, folder: Path, display: Display) -> Planned:
    """Everything up to the frozen recipe; the store and the split are written into `folder`."""
    display.stage("look")
    source = open_source(wish.data)
    seen = survey(source, seed=wish.seed)
    hardware = machine.measure(wish.device)
    shape = _shape(wish, seen, hardware)
    display.update(1, 1, f"{len(source.names)} images, {len(source.classes)} classes, {hardware.name}")
    display.stage("check-up")

    def progress(done: int, total: int) -> None:
        display.update(done, total, f"{done} images")

    size = (shape.height, shape.width, shape.channels)
    data = assemble(source, seen, size, folder, seed=wish.seed, progress=progress)
    display.update(1, 1, _checked(data))
    for finding in data.findings:
        if finding.severity != "info":
            display.say(
                f"  {finding.severity}: {finding.summary}"
                + (f" ({finding.action})" if finding.action else "")
            )
    display.stage("plan")
    if wish.recipe is not None and wish.budget is None and not wish.settings:
        reason = Reason("recipe", wish.recipe.hash(), "given by the user; nothing was planned")
        plan = Plan(wish.recipe, (reason,), 0.0, epochs(wish.recipe, data))
        planned = Planned(plan, data, hardware, (*data.findings, *wish.recipe.check()), None, 0.0)
    else:
        planned = _plan(wish, data, shape, hardware, display)
    recipe = planned.plan.recipe
    display.update(
        1, 1, f"{planner_words(recipe)}, {recipe.run.steps} steps, {planned.plan.epochs:.1f} epochs"
    )
    return planned


def planner_words(recipe: Recipe) -> str:
    net = type(recipe.net).__name__.lower()
    return f"{net} net {recipe.net.widths} at {recipe.data.height} x {recipe.data.width}"


def epochs(recipe: Recipe, data: Dataset) -> float:
    n = len(data.indices("train"))
    return recipe.run.steps * min(recipe.run.batch_size, n) / n


def _shape(wish: Wish, seen: Survey, hardware: Hardware) -> Input:
    if wish.recipe is not None:
        return wish.recipe.override(wish.settings).data

    def cost(height: int, width: int) -> float:
        recipe = Recipe(net=Compact(), data=Input(height, width, 3))
        return forward_operations(recipe, 10, height, width)

    shape = planner.choose_input(seen, wish.left() or DEFAULT_SECONDS[1] / 2, cost, hardware.rate)
    about_data = [setting for setting in wish.settings if setting.startswith("data.")]
    return dataclasses.replace(Recipe(), data=shape).override(about_data).data


def operations(recipe: Recipe, n_classes: int) -> float:
    """Operations of one training image, averaged over the recipe's image sizes: three forward passes."""
    return 3 * sum(
        share * forward_operations(recipe, n_classes, *size) for size, share in planner.shares(recipe)
    )


def _plan(wish: Wish, data: Dataset, shape: Input, hardware: Hardware, display: Display) -> Planned:
    begin = time.monotonic()
    mirror = mirror_test(data, wish.seed)
    probe_seconds = time.monotonic() - begin
    if wish.recipe is None:
        recipe, reasons = planner.draft(data.profile, shape, hardware, mirror, wish.seed)
    else:
        recipe, reasons = (
            wish.recipe,
            (Reason("recipe", wish.recipe.hash(), "given; its steps fit the budget"),),
        )
    recipe = recipe.override(wish.settings)
    reasons += tuple(
        Reason(s.partition("=")[0], s.partition("=")[2], "set by the user") for s in wish.settings
    )
    budget = wish.budget or DEFAULT_SECONDS[1]
    share = SPEED_SHARE * budget
    if wish.recipe is None and not any(s.startswith("net") for s in wish.settings):
        recipe, reason = planner.choose_width(
            recipe, data.profile, hardware, wish.left() or budget, operations
        )
        reasons += (reason,)
    speed = measure_speed(recipe, data, wish.device, share)
    closing = _closing_seconds(data, speed, probe_seconds)
    recipe, lr_reason = _choose_lr(wish, recipe, data, speed, budget)
    seconds = wish.left()
    if seconds is None:
        step = planner.mean_step(recipe, speed)
        wanted = DEFAULT_EPOCHS * len(data.indices("train")) / recipe.run.batch_size * step
        seconds = min(max(wanted, DEFAULT_SECONDS[0]), DEFAULT_SECONDS[1]) + closing
        display.say(f"  no --budget given: about {duration(seconds)} from here on")
    fixed = any(setting.startswith("run.steps") for setting in wish.settings)
    try:
        plan = planner.finish(recipe, (*reasons, lr_reason), data.profile, speed, seconds - closing, fixed)
    except ConvclinicError as error:
        raise ConvclinicError(
            f"the budget of {duration(budget)} is too small: {error.message}", fix=error.fix
        ) from error
    return Planned(plan, data, hardware, (*data.findings, *plan.recipe.check()), speed, closing)


def _choose_lr(
    wish: Wish, recipe: Recipe, data: Dataset, speed: Speed, budget: float
) -> tuple[Recipe, Reason]:
    if any(s.startswith("optimise") for s in wish.settings) or wish.recipe is not None:
        return recipe, Reason("lr", f"{recipe.optimise.lr:.3g}", "given by the user")
    batch = min(recipe.run.batch_size, 128, data.profile.n_train)
    first = next(iter(speed.step.values())) * batch / min(recipe.run.batch_size, data.profile.n_train)
    steps = min(RANGE_STEPS[1], int(RANGE_SHARE * budget / first))
    if steps < RANGE_STEPS[0]:
        return planner.with_lr(recipe, None)
    return planner.with_lr(recipe, range_test(recipe, data, wish.device, steps, batch))


def _closing_seconds(data: Dataset, speed: Speed, probe_seconds: float) -> float:
    """Start of training, both splits in all views, baselines, report."""
    images = data.profile.n_validation + data.profile.n_test
    return speed.start + images * speed.views_image + 2 * probe_seconds + REPORT_SECONDS


def _checked(data: Dataset) -> str:
    profile = data.profile
    aside = f", {len(data.quarantine)} set aside" if data.quarantine else ""
    return f"{profile.n_train} train, {profile.n_validation} validation, {profile.n_test} test{aside}"
