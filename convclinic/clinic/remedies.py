"""From a finding to recipes that may cure it, the most promising first: what `treat` tries.

A remedy that changes what the weights mean (the net, its activations and norms, its inputs or initialisation)
can only be tried from the start; all others are tried from the last good checkpoint. A cause may be misnamed,
so the findings' own remedies are followed by `general` ones, for whatever is wrong.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Finding
from convclinic.recipe import Recipe, scaled

LOWER, HIGHER = (0.1, 0.01, 0.001, 1e-4, 1e-5), (10.0, 100.0, 1000.0)
LR_FACTORS = {
    "lr_too_high": LOWER,
    "lr_too_low": HIGHER,
    "non_finite": LOWER,
    "exploding_gradient": LOWER,
    "dead_relu": (0.1, 0.01),
    "predicts_one_class": (0.1, 10.0),
    "plateau": (0.1, 10.0),
    "loss_reduction": (0.01,),
}
AFRESH = ("net", "normalise", "activate", "prepare", "initialise", "transfer")  # these need fresh weights
FIXED = ("data", "seed", "average", "combine")  # slots that no remedy may touch
EDIT = re.compile(r"([a-z_]+)(?:\.[a-z_.]+)?=\S+")
LESS = {"over_regularised": ("regularise", "mix"), "destructive_augmentation": ("augment", "mix")}
BATCH = {"batch_too_small": (32,), "batch_too_large": (64,)}
PENALTIES = ("weight_decay", "strength", "c", "l1", "l2")  # options that pull at the weights themselves
USUAL_DECAY = 5e-4
# evidence from which a rate can be told: from how far off on, and the share of the weights that is usual
SHARES = {"largest update-to-weight ratio": (30.0, 0.03), "update-to-weight ratio": (5.0, 0.003)}


@dataclass(frozen=True)
class Remedy:
    """A changed recipe. edit says in words what changed; afresh: it needs a start from fresh weights; calmer:
    updates are smaller, so that the loss of a net that learns falls for a while whatever comes of it."""

    edit: str
    recipe: Recipe
    afresh: bool = False
    calmer: bool = False


def candidates(finding: Finding, recipe: Recipe) -> Iterator[Remedy]:
    """Remedies for `finding` that differ from `recipe`, the most promising first."""
    for slot in LESS.get(finding.cause, ()):
        yield from _without(slot, recipe)
    if finding.cause == "over_regularised":
        yield from _less_decay(recipe)
    for size in BATCH.get(finding.cause, ()):
        yield from _batches(size, recipe)
    factors = LR_FACTORS.get(finding.cause, ())
    measured = _measured(finding) if factors else None
    for factor in dict.fromkeys((measured, *factors) if measured else factors):
        yield _lr(factor, recipe)
    for text in finding.remedies:
        yield from _edited(text, recipe)


def settings(findings: Sequence[Finding], recipe: Recipe) -> Iterator[Remedy]:
    """Remedies for what the checks before training hold to be wrong: all of it at once, then each alone."""
    edits: list[Remedy] = []
    for finding in findings:
        before = edits[-1].recipe if edits else recipe
        edits += [edit for text in finding.remedies[:1] for edit in _edited(text, before, its_rate=True)]
    if len(edits) > 1:
        afresh = any(edit.afresh for edit in edits)
        yield Remedy(" ".join(edit.edit for edit in edits), edits[-1].recipe, afresh)
    for finding in findings:
        for text in finding.remedies:
            for remedy in _edited(text, recipe, its_rate=True):
                yield dataclasses.replace(remedy, calmer=finding.cause == "lr_too_high")
        if finding.cause in LESS:
            yield from candidates(finding, recipe)
        if finding.where.rpartition(".")[2] in PENALTIES:  # weights that have shrunk do not come back at once
            for text in finding.remedies[:1]:
                for remedy in _edited(text, recipe):
                    yield dataclasses.replace(remedy, edit=f"{text} from fresh weights", afresh=True)


def general(recipe: Recipe) -> Iterator[Remedy]:
    """What cures the commonest faults, whatever they look like. No higher LR: one that is too low shows."""
    yield from _without("regularise", recipe)
    yield from _edited("normalise=batch_norm", recipe)
    yield from _edited("initialise=he", recipe)
    yield _lr(0.1, recipe)
    yield from _less_decay(recipe)
    yield from _without("augment", recipe)
    yield from _edited("activate=relu", recipe)
    yield _lr(0.01, recipe)


def _measured(finding: Finding) -> float | None:
    """The power of ten that brings updates to a usual share of the weights, from the share in evidence."""
    for evidence in finding.evidence:
        if evidence.signal in SHARES and isinstance(evidence.value, float) and 0 < evidence.value < math.inf:
            far, usual = SHARES[evidence.signal]
            off = usual / min(evidence.value, 1e9)
            factor = min(max(10.0 ** round(math.log10(off)), LOWER[-1]), HIGHER[-1])
            return factor if max(off, 1 / off) > far else None
    return None


def _lr(factor: float, recipe: Recipe) -> Remedy:
    changed = dataclasses.replace(recipe, optimise=scaled(recipe.optimise, factor))
    return Remedy(f"LR times {factor:g}", changed, calmer=factor < 1.0)


def _without(slot: str, recipe: Recipe) -> Iterator[Remedy]:
    if getattr(recipe, slot):
        yield Remedy(f"no {slot}", dataclasses.replace(recipe, **{slot: ()}))


def _less_decay(recipe: Recipe) -> Iterator[Remedy]:
    if getattr(recipe.optimise, "weight_decay", 0.0) > USUAL_DECAY:
        usual = dataclasses.replace(recipe.optimise, weight_decay=USUAL_DECAY)
        yield Remedy(f"weight decay of {USUAL_DECAY:g}", dataclasses.replace(recipe, optimise=usual))


def _batches(size: int, recipe: Recipe) -> Iterator[Remedy]:
    """Other batches, for as many images in all: steps of another size would cost more or fewer of them."""
    run = recipe.run
    if size == run.batch_size or run.rescheduled:
        return
    share = run.batch_size / size
    steps, every = math.ceil(run.steps * share), max(1, round(run.evaluate_every * share))
    changed = dataclasses.replace(run, batch_size=size, steps=steps, evaluate_every=every)
    yield Remedy(f"batches of {size}", dataclasses.replace(recipe, run=changed), afresh=True)


def _edited(text: str, recipe: Recipe, *, its_rate: bool = False) -> Iterator[Remedy]:
    """The recipe with `slot.option=value` applied, where that is what the text is and it changes anything.

    An LR is advice for nets in general, and what the clinic measured says more; its_rate: it counts too.
    """
    found = EDIT.fullmatch(text)
    if found is None or found[1] in FIXED or (text.startswith("optimise.lr=") and not its_rate):
        return
    if text.startswith("run.batch_size="):
        yield from _batches(int(text.partition("=")[2]), recipe)
        return
    try:
        changed = recipe.override([text])
    except ConvclinicError:  # advice for another net or optimiser than this recipe's
        return
    if changed != recipe:
        yield Remedy(text, changed, found[1] in AFRESH)
