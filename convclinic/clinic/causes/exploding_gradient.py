"""Exploding gradient: it grows far beyond what the run was used to, and the loss goes up with it.

Looks at  norm of the gradient relative to the running median of the run itself, loss relative to the same
Why       no fixed norm fits all nets. Single spikes happen in healthy runs, which come back: the loss must
          stay up. A gradient that begins at several times the weights' own norm is too large for any usual
          rate of SGD; optimizers that divide by its size do not mind
Confused  with a learning rate that is too high and with weights of too large a scale (which name this as
          their symptom); with one bad batch (the loss is back a few steps later: worth knowing)
Source    Pascanu, Mikolov, Bengio, On the difficulty of training recurrent neural networks, 2013,
          arXiv:1211.5063
"""

from __future__ import annotations

import numpy as np

from convclinic.clinic.causes._trend import adaptive, course, given, latest, losses, pull
from convclinic.clinic.signals import Floats, Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = (
    "non_finite",
    "dead_relu",
    "saturated_activation",
    "plateau",
    "predicts_one_class",
    "underfitting",
)

BEFORE = 8  # measured steps that make a median
SPIKE = 20.0  # times the running median; healthy runs reach 5
HIGH = 1.5  # times the loss of before the spike: has not come back
AFTER = 3  # measured steps that show whether it has
PULL = 3.0  # gradient over weights at the start; healthy runs have 0.01 to 0.2, of two images per batch 0.7
DIVERGED = 2.0  # times the first loss
LITTLE = 0.1  # of the floor learnt
SHARE = 0.25  # of the floor by which it must have risen: twice next to nothing is next to nothing


def judge(signals: Signals) -> Finding | None:
    return _from_the_start(signals) or _later(signals)


def _from_the_start(signals: Signals) -> Finding | None:
    """A gradient beyond the weights' own norm in the first steps, and a run that fails by it."""
    start, bad, c = pull(signals), signals.non_finite, course(signals)
    if not start > PULL or adaptive(signals) or given(bad):
        return None
    loss = signals.steps.loss[np.isfinite(signals.steps.loss)]
    if not len(loss) or loss.min() < 0:
        return None
    diverged = bad is not None or float(loss.max()) > DIVERGED * float(loss[0])
    failed = c is not None and c.seen >= 2 * BEFORE and c.learnt < LITTLE
    if not (failed or (bad is not None and diverged)):
        return None
    now = "the loss is no number any more" if bad is not None else "nothing is learnt"
    return Finding(
        "exploding_gradient",
        "critical" if bad is not None else "warning",
        0.85,
        evidence=(
            Evidence("gradient norm over norm of the weights at the start", start, f"below {PULL}", 1),
        ),
        ruled_out=("lr_too_high: the gradient itself is far larger than the weights",),
        remedies=(
            "clip the norm of the gradient to 1",
            "initialise=he",
            "normalise=batch_norm",
            "scale the inputs",
        ),
        step=1,
        reference="Pascanu et al., 2013, arXiv:1211.5063",
        summary=f"the gradient begins at {start:.3g} times the norm of the weights, and {now}",
    )


def _later(signals: Signals) -> Finding | None:
    """A spike far above the running median after which the loss stays up."""
    step, norm = signals.steps.known("step", "grad_norm")
    c = course(signals)
    if c is None or len(norm) <= BEFORE + AFTER:
        return None
    k = _spike(norm)
    if k is None or k + AFTER >= len(norm):
        return None
    usual = float(np.median(norm[:k]))
    at, loss = losses(signals)
    here = np.isfinite(loss)
    at, loss = at[here], loss[here]
    before = float(np.median(loss[at < step[k]][-10:])) if (at < step[k]).any() else c.start
    now = float(np.median(latest(loss)))
    stays = now > HIGH * before and now - before > SHARE * c.floor
    growth = float(norm[k] / usual)
    return Finding(
        "exploding_gradient",
        "warning" if stays else "info",
        0.75 if stays else 0.4,
        evidence=(
            Evidence("gradient norm over its running median", growth, f"below {SPIKE}", int(step[k])),
            Evidence("loss now over the loss before", now / max(before, 1e-9), f"below {HIGH}", c.seen),
        ),
        remedies=(
            "clip the norm of the gradient, at ten times its median",
            "optimise.lr divided by 3",
            "normalise=batch_norm",
        ),
        step=int(step[k]),
        reference="Pascanu et al., 2013, arXiv:1211.5063",
        summary=f"the gradient grew to {growth:.0f} times its median in step {int(step[k])}, and the loss "
        + (f"went from {before:.3g} to {now:.3g}" if stays else "has come back since"),
    )


def _spike(norm: Floats) -> int | None:
    """The first measured step whose gradient is far above the median of all before it."""
    for k in range(BEFORE, len(norm)):
        usual = float(np.median(norm[:k]))
        if usual > 0 and norm[k] > SPIKE * usual:
            return k
    return None
