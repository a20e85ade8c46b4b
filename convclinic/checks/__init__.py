"""Checks before training: clashes and misuse in a recipe, in a net, or in the optimiser of anyone's own loop.

    recipe.check(facts)                     # the same as check(recipe, facts)
    check_net(net)                          # any nn.Module that is to be trained with cross-entropy
    check_optimizer(net, optimizer)         # any torch.optim.Optimizer

Each rule is one small function. It keeps silent about what it does not know, and tells a habit (`info`) from
what costs accuracy (`warning`) and from what cannot succeed (`critical`).
"""

from __future__ import annotations

from typing import Any

from convclinic.checks import balance, clashes, images, nets, strengths, training, transfer
from convclinic.checks.facts import Facts, Rule
from convclinic.checks.nets import check_net
from convclinic.checks.optimizers import check_optimizer
from convclinic.kinds import Finding

__all__ = ["RULES", "Facts", "check", "check_net", "check_optimizer"]

RULES: tuple[Rule, ...] = (
    *training.RULES,
    *strengths.RULES,
    *nets.RULES,
    *clashes.RULES,
    *transfer.RULES,
    *balance.RULES,
    *images.RULES,
)
GRAVEST_FIRST = ("critical", "warning", "info")


def check(recipe: Any, facts: Facts | None = None) -> list[Finding]:
    """What the rules find in a recipe, the gravest first; without `facts`, from the recipe alone."""
    known = Facts() if facts is None else facts
    findings = [finding for rule in RULES for finding in rule(recipe, known)]
    return sorted(findings, key=lambda finding: GRAVEST_FIRST.index(finding.severity))
