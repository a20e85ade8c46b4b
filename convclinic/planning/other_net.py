"""What a plan changes where settings chose another net than its own, or another width."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from convclinic.models.fast import Fast
from convclinic.planning.planner import Reason
from convclinic.recipe import Recipe
from convclinic.slots import name_of
from convclinic.tricks.initialise.he import He
from convclinic.tricks.optimise.adamw import AdamW
from convclinic.tricks.optimise.muon import Muon


def around_net(
    recipe: Recipe, reasons: tuple[Reason, ...], settings: Sequence[str], drafted: Recipe
) -> tuple[Recipe, tuple[Reason, ...]]:
    """Where `settings` chose another net than the drafted one, or another width: what only suits that one,
    replaced, unless the settings chose it too."""
    name = name_of(recipe.net)
    chosen = {setting.partition("=")[0].strip().partition(".")[0] for setting in settings}
    if name == name_of(drafted.net):
        return (recipe, reasons) if "optimise" in chosen else _to_width(recipe, reasons, drafted)
    sized = any(setting.strip().startswith("run.sizes") for setting in settings)
    choices = {"initialise": ((He(),), "he"), "optimise": (AdamW(), "adamw")}
    changes = {slot: choice for slot, (choice, _) in choices.items() if slot not in chosen}
    if not sized:
        recipe = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, sizes=()))
    kept = [reason for reason in reasons if reason.choice not in ("net", *changes)]
    why = f"what was measured for the {name_of(drafted.net)} net need not suit {name}; this is safe for any"
    more = [Reason(slot, choices[slot][1], why) for slot in changes]
    return dataclasses.replace(recipe, **changes), (*kept, *more)


def _to_width(
    recipe: Recipe, reasons: tuple[Reason, ...], drafted: Recipe
) -> tuple[Recipe, tuple[Reason, ...]]:
    """The net `fast` divides its logits by its last width, so a step of the head or of biases moves them the
    more, the narrower it is: at 8 maps, with the LRs for 256, it dies in two steps."""
    net, planned, muon = recipe.net, drafted.net, recipe.optimise
    if not (isinstance(net, Fast) and isinstance(planned, Fast) and isinstance(muon, Muon)):
        return recipe, reasons
    width, usual = net.widths[-1], planned.widths[-1]
    if width == usual:
        return recipe, reasons
    scaled = muon_for(width, muon, usual)
    why = f"LRs of the head and of biases times {width}/{usual}, as the logits are divided by the last width"
    return dataclasses.replace(recipe, optimise=scaled), (*reasons, Reason("optimise", "muon", why))


def muon_for(width: int, muon: Muon, usual: int) -> Muon:
    """Muon whose LRs of head and biases are for a net `fast` of the last width `usual`, for another one."""
    share = width / usual
    return dataclasses.replace(muon, head_lr=muon.head_lr * share, bias_lr=muon.bias_lr * share)
