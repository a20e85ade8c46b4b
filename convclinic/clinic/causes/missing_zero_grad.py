"""Gradients are never cleared: each update also follows the gradients of all the batches before it.

Looks at  whether a gradient from before the last update was still there when backward began, step by step
Why       it is either there or not. Several backward passes before one update are accumulation and are not
          counted, as it is looked for only at the first one after an update; three in a row rule out an odd
          step
Confused  lr_too_high and exploding_gradient (the sum grows with the steps); a parameter that no optimizer
          holds is never cleared either: then the optimizer's membership is the fault
Source    PyTorch documentation of Optimizer.zero_grad; the test at run time is ours
"""

from __future__ import annotations

import numpy as np

from convclinic.clinic.causes._readings import percent, weighted_layers
from convclinic.clinic.signals import Floats, Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = (
    "lr_too_high",
    "exploding_gradient",
    "non_finite",
    "dead_relu",
    "saturated_activation",
    "predicts_one_class",
    "plateau",
    "underfitting",
    "overfitting",
    "batch_too_small",
    "label_noise",
    "wrong_mode",
)
IN_A_ROW = 3
MOST = 0.5  # of the updates


def judge(signals: Signals) -> Finding | None:
    step, stale = signals.steps.known("step", "stale")
    step, stale = step[step >= 2], stale[step >= 2]
    share = float(stale.mean()) if len(stale) else 0.0
    if share < MOST or _longest(stale) < IN_A_ROW or _never_held(signals):
        return None
    return Finding(
        cause="missing_zero_grad",
        severity="warning",
        confidence=0.97,
        where="training loop",
        evidence=(
            Evidence(
                "share of updates that began with old gradients", share, "0", int(step[np.argmax(stale > 0)])
            ),
        ),
        ruled_out=(
            "lr_too_high: updates grow because gradients add up",
            "gradient accumulation: the old gradients have been used in an update already",
        ),
        remedies=("call optimizer.zero_grad() once for each update, before backward",),
        step=int(step[np.argmax(stale > 0)]),
        reference="PyTorch documentation of Optimizer.zero_grad",
        summary=f"{percent(share)} of the updates began with old gradients: zero_grad is missing",
    )


def _longest(stale: Floats) -> int:
    longest = run = 0
    for value in stale:
        run = run + 1 if value > 0 else 0
        longest = max(longest, run)
    return longest


def _never_held(signals: Signals) -> bool:
    """Whether the parameter that is looked at, the last one, is one that no optimizer would clear."""
    setup = signals.setup
    if setup is None or not setup.missing:
        return False
    heads = [layer.name for layer in weighted_layers(signals) if layer.head]
    return any(name.startswith(f"{head}.") for name in setup.missing for head in heads) or not heads
