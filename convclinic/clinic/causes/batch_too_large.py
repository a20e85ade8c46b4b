"""Batch too large: so few updates per epoch that the epochs pass before anything is learnt.

Looks at  updates per epoch, noise of the loss, its slope, share of the floor learnt
Why       a large batch is no fault where it brings the net forward: only where the loss still falls
          smoothly after several epochs, far from its end, would more and smaller updates of the same
          images help
Confused  with a learning rate that is too low (the updates are small: it names this as its symptom)
Source    Keskar et al., On large-batch training, 2017, arXiv:1609.04836; Smith et al., 2018,
          arXiv:1711.00489
"""

from __future__ import annotations

import numpy as np

from convclinic.clinic.causes._trend import course
from convclinic.clinic.signals import Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = ("underfitting", "plateau")

SIZE = 256  # images; smaller batches are few per epoch because the data is little
FEW, HANDFUL = 10, 5  # updates per epoch: worth knowing, and worth a warning
EPOCHS, AT_ONCE = 8, 4  # by then even a hard problem has moved; and of epochs that are one or two updates
WHOLE = 2  # updates per epoch: the batch is the data
SLOW = 0.4  # of the floor learnt
SMOOTH = 0.04  # of the floor: noise of the loss


def judge(signals: Signals) -> Finding | None:
    c, ends = course(signals), [epoch.step for epoch in signals.epochs]
    (size,) = signals.steps.known("size")
    if c is None or len(ends) < AT_ONCE or not len(size):
        return None
    images = float(np.median(size))
    updates = round(
        float(np.median(np.diff(ends)) * size.mean() / images)
    )  # a small last batch is no whole one
    if images < SIZE or not 0 < updates <= FEW or (updates > WHOLE and len(ends) < EPOCHS):
        return None
    falls = c.slope < -2 * c.error
    smooth = falls and c.noise < SMOOTH * c.floor
    warn = c.learnt < SLOW and (updates <= WHOLE or (smooth and updates <= HANDFUL)) and c.shot < 2
    return Finding(
        "batch_too_large",
        "warning" if warn else "info",
        0.6 if warn else 0.3,
        evidence=(
            Evidence("updates per epoch", updates, f"above {FEW}"),
            Evidence("images per batch", images, "64 to 256"),
            Evidence("share of the floor learnt", round(c.learnt, 3), f"above {SLOW}", c.seen),
        ),
        ruled_out=("lr_too_high: the loss falls smoothly",) if falls else (),
        remedies=(
            f"run.batch_size={max(32, int(images) // 16)}",
            "optimise.lr in proportion to the batch, with warm-up",
        ),
        step=c.seen,
        reference="Keskar et al., 2017, arXiv:1609.04836",
        summary=f"{updates:.0f} updates of {images:.0f} images make an epoch, and after {len(ends)} epochs "
        f"{c.learnt:.0%} of the floor is learnt",
    )
