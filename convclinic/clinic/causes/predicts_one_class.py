"""Predicts one class: every image gets the same answer, though the labels differ.

Looks at  share of the commonest prediction over the latest measured batches, entropy of the labels, loss
Why       a net that has learnt nothing answers with the commonest class; many healthy nets do so for some
          tens of steps, hence the wait. It is how other faults look from outside: named last, where none
          explains it
Confused  with imbalanced labels, where one class is nearly always right
Source    Karpathy, A recipe for training neural networks, 2019
"""

from __future__ import annotations

import numpy as np

from convclinic.clinic.causes._trend import commonest, course, latest
from convclinic.clinic.signals import Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = ("plateau",)

TOP = 0.97  # of the predictions
MIXED = 0.6  # share of the commonest label above which one answer is nearly right
LEAST, LONG = 50, 400  # steps: worth knowing, and longer than healthy sigmoid nets stay at the floor
SIZE = 8  # images of a batch; fewer agree by chance


def judge(signals: Signals) -> Finding | None:
    c = course(signals)
    top, size = signals.steps.known("top", "size")
    if c is None or c.seen < LEAST or len(top) < 10 or float(np.median(size)) < SIZE:
        return None
    share = float(np.median(latest(top)))
    if share < TOP or not c.stuck or not commonest(signals) < MIXED:
        return None
    warn = c.seen >= LONG
    return Finding(
        "predicts_one_class",
        "warning" if warn else "info",
        0.55 if warn else 0.3,
        evidence=(
            Evidence("share of the commonest prediction", round(share, 3), f"below {TOP}", c.seen),
            Evidence("share of the commonest label", round(commonest(signals), 3), f"below {MIXED}"),
        ),
        remedies=(
            "fit one batch first: a net that cannot has a fault of its own",
            "optimise.lr times and by 10",
        ),
        step=c.seen,
        reference="Karpathy, 2019",
        summary=f"{share:.0%} of the images of a batch get the same answer after {c.seen} steps",
    )
