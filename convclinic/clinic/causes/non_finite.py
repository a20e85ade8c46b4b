"""Not a number: a loss, weight, gradient, output or input became NaN or infinite.

Looks at  the first value that is not finite, in the order inputs, targets, weights, outputs, loss
Why       one NaN in a weight makes every later output NaN, so nothing is learnt from then on. A loss that is
          none of finite outputs has itself to blame (a logarithm of 0): cross-entropy of such is finite
Confused  with a learning rate that is too high, which ends in NaN after the loss has climbed; a bad image
          gives NaN at once, from a healthy loss
Source    Goodfellow, Bengio, Courville, Deep Learning, 2016, chapter 4.1; PyTorch's anomaly mode
"""

from __future__ import annotations

import numpy as np

from convclinic.clinic.signals import NonFinite, Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = ("plateau", "predicts_one_class", "underfitting")

RECOVERED = 5  # finite losses in a row after which a loop that skips bad steps counts as going on
DATA = ("inputs", "targets")


def judge(signals: Signals) -> Finding | None:
    bad = signals.non_finite
    if bad is None:
        return None
    skipped = _goes_on(signals, bad.step)
    from_data = bad.what in DATA
    before = f" after {bad.order[-1]}, which was still finite" if bad.order else ""
    images = f", images {', '.join(map(str, bad.examples[:8]))} of the batch" if bad.examples else ""
    last = _last_finite(signals, bad.step)
    return Finding(
        "non_finite",
        "warning" if skipped else "critical",
        0.95,
        where=bad.name,
        evidence=(Evidence(f"first non-finite value: {bad.what}", bad.name, "finite numbers", bad.step),),
        ruled_out=() if from_data else ("the data: inputs and targets of that step were finite",),
        remedies=_remedies(bad),
        step=bad.step,
        reference="handbook: look at inputs and labels first, then at the learning rate",
        summary=f"{bad.what} '{bad.name}' is no finite number in step {bad.step}{before}{images}{last}",
        examples=tuple(map(str, bad.examples)),
    )


def _goes_on(signals: Signals, step: int) -> bool:
    """Whether the losses since then are finite again."""
    later = signals.steps.loss[signals.steps.step > step]
    return len(later) >= RECOVERED and bool(np.isfinite(later[-RECOVERED:]).all())


def _last_finite(signals: Signals, step: int) -> str:
    before = signals.steps.loss[signals.steps.step < step]
    before = before[np.isfinite(before)]
    return f"; the loss before was {before[-1]:.3g}" if len(before) else ""


def _remedies(bad: NonFinite) -> tuple[str, ...]:
    if bad.what in DATA:
        return (
            f"repair or leave out the images whose {bad.what} are not finite",
            "check divisions by a standard deviation of 0, and files that decode to nothing",
        )
    return (
        "optimise.lr divided by 10",
        "clip the norm of the gradient to 1 before each update",
        "half precision: use bfloat16, or a GradScaler",
        "add an epsilon inside of every log, square root and division of your own",
    )
