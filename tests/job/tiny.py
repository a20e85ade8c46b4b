"""A recipe that learns the made photos in half a second, for tests that need a whole run."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from convclinic.models.fast import Fast
from convclinic.planning.hardware import Hardware
from convclinic.recipe import Input, Recipe, Run
from convclinic.tricks.augment.shift import Shift
from convclinic.tricks.initialise.dirac import Dirac
from convclinic.tricks.initialise.patch_whitening import PatchWhitening
from convclinic.tricks.optimise.adamw import AdamW

RECIPE = Recipe(
    data=Input(16, 16, 3),
    net=Fast(widths=(8, 8, 8)),
    initialise=(Dirac(), PatchWhitening()),
    augment=(Shift(pixels=1),),
    optimise=AdamW(lr=0.02),
    run=Run(steps=30, batch_size=16, evaluate_every=10),
)


def recipe(**run: Any) -> Recipe:
    """The tiny recipe with options of its `run` slot changed."""
    return dataclasses.replace(RECIPE, run=dataclasses.replace(RECIPE.run, **run))


def machine(device: torch.device) -> Hardware:
    """A machine of a known speed, in place of `hardware.measure`: no time is lost, and plans do not waver."""
    return Hardware(str(device), "made machine", torch.get_num_threads(), 8 * 2**30, 5e10, 5e10)
