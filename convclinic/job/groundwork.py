"""What many trainings have in common: the data taken in once, and the recipe that `fit` would plan for one of
them in its share of the time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from convclinic.data.dataset import Dataset, assemble
from convclinic.data.sources import Source
from convclinic.data.survey import survey
from convclinic.job.display import Display
from convclinic.job.planning import Wish, make_plan, operations
from convclinic.models.compact import Compact
from convclinic.planning import hardware, planner
from convclinic.planning.hardware import Hardware
from convclinic.planning.orientation import mirror_test
from convclinic.planning.other_net import around_net
from convclinic.planning.speed import forward_operations
from convclinic.recipe import Recipe
from convclinic.slots import Input, read_slot


class Facts(NamedTuple):
    """What a recipe is planned from; `seconds` are those of one net."""

    data: Dataset
    shape: Input
    machine: Hardware
    seconds: float


def taken_in(
    source: Source,
    folder: Path,
    device: torch.device,
    seconds: float,
    *,
    net: str | None,
    settings: Sequence[str],
    display: Display,
    seed: int = 0,
    shape: Input | None = None,
) -> Facts:
    """The data assembled in `folder`, at `shape` or what nets that are trained for `seconds` can bear."""
    display.stage("look")
    seen, machine = survey(source, seed=seed), hardware.measure(device)
    chosen = Compact() if net is None else read_slot("net", net)

    def cost(height: int, width: int) -> float:
        return forward_operations(Recipe(net=chosen, data=Input(height, width, 3)), 10, height, width)

    if shape is None:
        shape = planner.choose_input(seen, seconds, cost, machine.rate)
    about_data = [setting for setting in settings if setting.startswith("data.")]
    shape = dataclasses.replace(Recipe(), data=shape).override(about_data).data
    display.stage("check-up")

    def progress(done: int, total: int) -> None:
        display.update(done, total, f"{done} images")

    size = (shape.height, shape.width, shape.channels)
    data = assemble(source, seen, size, folder, seed=seed, progress=progress)
    return Facts(data, shape, machine, seconds)


def planned(
    facts: Facts, net: str | None, settings: Sequence[str], seed: int = 0, balanced: bool = False
) -> Recipe:
    """What `fit` would train in `facts.seconds`; balanced: with its policy for rare classes."""
    mirror, profile = mirror_test(facts.data, seed), facts.data.profile
    recipe, reasons = planner.draft(profile, facts.shape, facts.machine, mirror, seed, balanced=balanced)
    chosen = () if net is None else (f"net={net}",)
    settings = (*chosen, *settings)
    drafted, recipe = recipe, recipe.override(settings)
    recipe, _ = around_net(recipe, reasons, settings, drafted)
    if not any(setting.startswith("net") for setting in settings):
        recipe, _ = planner.choose_width(recipe, profile, facts.machine, facts.seconds, operations)
    return recipe if balanced else dataclasses.replace(recipe, balance=())


def fine_tuned(
    source: Source,
    folder: Path,
    device: torch.device,
    seconds: float,
    *,
    data: Path,
    settings: Sequence[str],
    weights: Path | None,
    backbone: str | None,
    display: Display,
    seed: int = 0,
) -> tuple[Recipe, Dataset]:
    """What `fit` would fine-tune in so many seconds, and the data."""
    wish = Wish(
        data=data,
        budget=seconds,
        seed=seed,
        recipe=None,
        settings=tuple(settings),
        device=device,
        started=time.monotonic(),
        weights=weights,
        backbone=backbone,
    )
    made = make_plan(wish, source, folder, display)
    return made.plan.recipe, made.data
