"""From a finding to recipes that may cure it, the most promising first: what `treat` tries.

A remedy that changes what the weights mean (the net, its activations and norms, its inputs or initialisation)
can only be tried from the start; all others are tried from the last good checkpoint.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Finding
from convclinic.recipe import Recipe, scaled

LR_FACTORS = {
    "lr_too_high": (0.1, 0.01, 0.3),
    "lr_too_low": (10.0, 100.0, 3.0),
    "non_finite": (0.1, 0.01, 0.001),
    "exploding_gradient": (0.1, 0.3),
    "dead_relu": (0.1,),
    "predicts_one_class": (0.1, 10.0),
    "plateau": (0.3, 3.0),
    "loss_reduction": (0.01,),
}
AFRESH = ("net", "normalise", "activate", "prepare", "initialise", "transfer")  # these need fresh weights
FIXED = ("data", "seed", "average", "combine")  # slots that no remedy may touch
EDIT = re.compile(r"([a-z_]+)(?:\.[a-z_.]+)?=\S+")
LESS = {"over_regularised": "regularise=()", "destructive_augmentation": "augment=()"}


@dataclass(frozen=True)
class Remedy:
    """A changed recipe. edit says in words what changed; afresh: it needs a start from fresh weights."""

    edit: str
    recipe: Recipe
    afresh: bool = False


def candidates(finding: Finding, recipe: Recipe) -> Iterator[Remedy]:
    """Remedies for `finding` that differ from `recipe`, the most promising first."""
    for factor in LR_FACTORS.get(finding.cause, ()):
        lower = dataclasses.replace(recipe, optimise=scaled(recipe.optimise, factor))
        yield Remedy(f"LR times {factor:g}", lower, afresh=finding.cause == "dead_relu")
    if finding.cause in LESS:
        slot = LESS[finding.cause].partition("=")[0]
        if getattr(recipe, slot):
            yield Remedy(f"no {slot}", dataclasses.replace(recipe, **{slot: ()}))
    if finding.cause == "over_regularised" and getattr(recipe.optimise, "weight_decay", 0.0):
        gentle = dataclasses.replace(recipe.optimise, weight_decay=recipe.optimise.weight_decay / 100)
        yield Remedy("weight decay divided by 100", dataclasses.replace(recipe, optimise=gentle))
    if finding.cause == "batch_too_small" and recipe.run.batch_size < 32:
        run = dataclasses.replace(recipe.run, batch_size=32)
        yield Remedy("batches of 32", dataclasses.replace(recipe, run=run))
    for text in finding.remedies:
        yield from _edited(text, recipe)


def _edited(text: str, recipe: Recipe) -> Iterator[Remedy]:
    """The recipe with `slot.option=value` applied, where that is what the text is and it changes anything."""
    found = EDIT.fullmatch(text)
    if found is None or found[1] in FIXED or text.startswith("optimise.lr="):
        return
    try:
        changed = recipe.override([text])
    except ConvclinicError:  # advice for another net or optimiser than this recipe's
        return
    if changed != recipe:
        yield Remedy(text, changed, found[1] in AFRESH)
