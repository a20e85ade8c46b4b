"""Data-starved: the loader, not the net, sets the pace.

Looks at  seconds between an update and the next forward pass, and seconds from there to the next update
Why       above one half the net waits for longer than it works; up to two thirds that is worth knowing,
          beyond, the same training would take a third of its time
Confused  with a slow first batch (workers start), validation and checkpoints: the first steps are left out
          and medians taken, so a pause every now and then does not count
Source    PyTorch performance tuning guide, 2020; Mohan et al., Data stalls in DNN training, 2021,
          arXiv:2007.06775
"""

from __future__ import annotations

import numpy as np

from convclinic.clinic.signals import Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS: tuple[str, ...] = ()

SKIPPED = 5  # first steps, in which workers start and kernels are chosen
LEAST = 20  # steps
SHARE, MUCH = 0.5, 0.65  # of the time spent waiting: worth knowing, and worth a warning
CONSISTENT = 0.25  # quantile of the share that must lie above one half too
SECONDS, LONG = 0.005, 0.01  # a wait per step that is noticed at all, and that a warning needs


def judge(signals: Signals) -> Finding | None:
    step, waiting, computing = signals.steps.known("step", "waiting", "computing")
    later = step > SKIPPED
    waiting, computing = waiting[later], computing[later]
    if len(waiting) < LEAST:
        return None
    shares = waiting / np.maximum(waiting + computing, 1e-9)
    share, seconds = float(np.median(shares)), float(np.median(waiting))
    if share <= SHARE or seconds <= SECONDS:
        return None
    steady = float(np.quantile(shares, CONSISTENT)) > SHARE
    warn = share > MUCH and seconds > LONG and steady
    return Finding(
        "data_starved",
        "warning" if warn else "info",
        0.6 if warn else 0.5,  # it costs time, never accuracy: anything else found comes first
        where="loader",
        evidence=(
            Evidence("share of the time spent waiting for a batch", round(share, 3), f"below {SHARE}"),
            Evidence("seconds of waiting per step", round(seconds, 4), f"below {SECONDS}"),
        ),
        remedies=(
            "DataLoader with num_workers of the number of cores, pin_memory and persistent_workers",
            "decode and resize once, keep uint8 in memory, and augment whole batches on the device",
        ),
        step=int(step[-1]),
        reference="Mohan et al., 2021, arXiv:2007.06775",
        summary=f"the net waits for data during {share:.0%} of each step ({1000 * seconds:.0f} ms)",
    )
