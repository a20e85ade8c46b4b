"""Plateau: the loss has stayed where it is for most of the run, and little has been learnt.

Looks at  loss over the second half of the run with its slope and error, share of the floor learnt
Why       it is a symptom: named where nothing else explains it. A loss that is flat because all is learnt,
          or because the rate has decayed, is the end of a good run
Confused  with hard data, on which some hundred steps bring little, and with the long flat start of sigmoid
          nets
Source    Goodfellow, Bengio, Courville, Deep Learning, 2016, chapter 8.2
"""

from __future__ import annotations

import math

from convclinic.clinic.causes._trend import course, rate
from convclinic.clinic.signals import Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS: tuple[str, ...] = ()

LEAST, LONG = 100, 500  # steps: worth knowing, and longer than healthy nets stay at the floor
GAIN = 0.02  # of the floor over as many steps again as have been seen
LITTLE = 0.25  # of the floor learnt
DECAYED = 0.3  # of the largest rate


def judge(signals: Signals) -> Finding | None:
    c, lr = course(signals), rate(signals)
    if c is None or c.seen < LEAST or not c.learnt < LITTLE or not math.isfinite(c.slope):
        return None
    decayed = bool(len(lr)) and lr[-1] < DECAYED * lr.max()
    gain = -(c.slope - 2 * c.error) * c.seen / c.floor
    if gain > GAIN or decayed:
        return None
    warn = c.stuck and c.seen >= LONG
    return Finding(
        "plateau",
        "warning" if warn else "info",
        0.5 if warn else 0.3,
        evidence=(
            Evidence(
                "share of the floor that as many steps would gain", round(gain, 4), f"above {GAIN}", c.seen
            ),
            Evidence("share of the floor learnt", round(c.learnt, 3), f"above {LITTLE}", c.seen),
        ),
        remedies=("fit one batch first", "optimise.lr times 3, then divided by 3", "initialise=he"),
        step=c.seen,
        reference="Goodfellow, Bengio, Courville, 2016, chapter 8.2",
        summary=f"the loss has stayed near {c.now:.3g} (chance: {c.floor:.3g}) for half of {c.seen} steps",
    )
