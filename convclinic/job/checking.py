"""What the checks before training say of a recipe for these data."""

from __future__ import annotations

import torch

from convclinic.checks import Facts
from convclinic.data.dataset import Dataset
from convclinic.kinds import Finding
from convclinic.model import bare_net
from convclinic.recipe import Recipe


def checked(recipe: Recipe, data: Dataset) -> list[Finding]:
    """The findings, the gravest first."""
    profile = data.profile
    counts = tuple(profile.class_counts.get(name, 0) for name in data.classes)
    with torch.device("meta"):
        net = bare_net(recipe, len(data.classes))
    return recipe.check(Facts(data.classes, profile.gray, profile.n_train, counts, net))
