"""Learning rate too high: updates overshoot, and the loss shoots up, stays at the floor or ends in NaN.

Looks at  loss relative to its start and its floor in the first steps and now, update-to-weight ratio,
          growth of the weights, the first non-finite value
Why       the ratio alone says little: healthy runs of SGD, and of Adam at its start, update weights by a
          tenth and more. It counts only where nothing is learnt. A loss that shot up and then stays at the
          floor is that of a net that its learning rate has killed; so is a layer of ReLUs that was alive
          before, or of tanhs that was not at its ends, after updates as large as that
Confused  with inputs that are not normalised, weights of a wrong scale and summed losses, which have the
          same effect at a usual rate and name it as their symptom; with dead units or a hard problem,
          which stay at the floor without the jump
Source    Goodfellow, Bengio, Courville, Deep Learning, 2016, chapter 11.4; Karpathy, A recipe for training
          neural networks, 2019
"""

from __future__ import annotations

import math

import numpy as np

from convclinic.clinic.causes._trend import (
    EARLY,
    Course,
    adaptive,
    after_training,
    course,
    given,
    grown,
    most_silent,
    pull,
    rate,
    ratios,
)
from convclinic.clinic.signals import Signals
from convclinic.kinds import Evidence, Finding, Severity

EXPLAINS = (
    "exploding_gradient",
    "vanishing_gradient",
    "non_finite",
    "dead_relu",
    "saturated_activation",
    "predicts_one_class",
    "plateau",
    "underfitting",
    "wrong_mode",
)

LEAST = 10  # steps; healthy runs too are thrown about in fewer
SETTLED = 20  # steps from which a loss that shot up should have come back
CALM = 40  # steps up to which one that is still on its way back gets the benefit of the doubt
SHOT = 2.0  # times its start or floor; healthy small nets reached 1.4 with every optimizer
FAR = 10.0  # the same, where one sight of it is enough
JUMP = 0.3  # of the weights in one step; healthy runs reached 0.2 (Adam at 0.01)
PERSISTS = 0.1  # median ratio later on; healthy ones stayed below 0.07
WILD = 0.3  # median ratio at which nothing can settle
GREW = 2.0  # times their first norm, while nothing was learnt: weights that were thrown, not trained
LITTLE, SOME = 0.1, 0.25  # of the floor: learnt so little after a jump, and after a far one
PULL = 3.0  # gradient over weights at the start: with it the gradient is at fault. Healthy runs: 0.01 to 0.2
DEAD = 0.95  # share of silent units from which a net cannot come back
WHOLE, ALIVE = 0.999, 0.5  # share of silent units of a dead layer, and of one that works
ENDS = 0.8  # share of outputs at their ends
HALF, MOST = 0.5, 0.95  # of the floor learnt in spite of it, at first and in the end
NEGATIVE = -1e-3  # a loss below is no cross-entropy: its sign is wrong, or its pairing


def judge(signals: Signals) -> Finding | None:
    steps = signals.steps
    if _maximised(signals) or given(signals.non_finite) or (not adaptive(signals) and pull(signals) > PULL):
        return None
    if signals.non_finite is not None:
        return _diverged(signals)
    c = course(signals)
    if c is None or c.seen < LEAST or np.nanmin(steps.loss) < NEGATIVE:
        return None
    found = _killed(signals, c) or _restless(signals, c)
    if found is None:
        return None
    why, certainty = found
    coming_back = c.seen < CALM and c.shot > SHOT and c.slope < -2 * c.error and not c.stuck
    early = c.seen < SETTLED or coming_back
    severity: Severity = "info" if early and not c.shot > FAR else "warning"
    if severity == "warning" and c.stuck and most_silent(signals) >= DEAD and c.shot > SHOT:
        severity = "critical"
    return _finding(signals, c, severity, certainty if severity != "info" else 0.45, why)


def _maximised(signals: Signals) -> bool:
    return signals.setup is not None and any(group.maximize for group in signals.setup.groups)


def _killed(signals: Signals, c: Course) -> tuple[str, float] | None:
    """Nothing learnt after the loss shot up, or after the weights were thrown far away."""
    ratio = ratios(signals)
    most = float(ratio.max()) if len(ratio) else math.nan
    if most > JUMP and c.learnt < (HALF if c.seen < EARLY else MOST) and _driven_to_the_ends(signals):
        return f"an update changed the weights by {most:.0%}, and drove the units to their ends", 0.75
    if c.learnt > (SOME if c.shot > FAR else LITTLE):
        return None
    if c.shot > SHOT and not most < PERSISTS:
        return (
            f"the loss shot from {c.start:.3g} to {c.peak:.3g} in step {c.peak_step}, and nothing came after",
            0.9 if c.shot > FAR else 0.8,
        )
    if c.stuck and most > JUMP and grown(signals) > GREW:
        return f"one update changed the weights by {most:.0%}, and nothing has been learnt since", 0.75
    if c.stuck and most > PERSISTS and _died(signals):
        return f"updates of up to {most:.0%} of the weights silenced a layer that was alive before", 0.75
    return None


def _died(signals: Signals) -> bool:
    """Whether a layer of ReLUs that had units alive at the first probe has none any more."""
    first = {a.name: a.silent for a in signals.probes[0].activations} if signals.probes else {}
    now = [a for a in after_training(signals) if a.operation == "relu" and a.silent >= WHOLE]
    return any(first.get(a.name, 1.0) < ALIVE for a in now)


def _driven_to_the_ends(signals: Signals) -> bool:
    """Whether sigmoids or tanhs are at their ends now, and were not before training, if that was seen."""
    before = [a for probe in signals.probes if probe.step == 0 for a in probe.activations]
    if max((a.saturated for a in before), default=0.0) > ALIVE:
        return False
    return max((a.saturated for a in after_training(signals)), default=0.0) > ENDS


def _restless(signals: Signals, c: Course) -> tuple[str, float] | None:
    """Large updates all the time, without progress."""
    later = ratios(signals, LEAST)
    if len(later) < 3:
        return None
    usual = float(np.median(later))
    falls = c.slope < -2 * c.error
    if usual > WILD and c.learnt < 0.5 and not falls:
        return f"updates change the weights by {usual:.0%} in every step, and the loss does not fall", 0.75
    if usual > PERSISTS and c.learnt < LITTLE and not falls:
        return f"updates change the weights by {usual:.0%} in every step, and nothing is learnt", 0.7
    return None


def _diverged(signals: Signals) -> Finding | None:
    """A loss that climbed until it was no number, without any help from the data."""
    bad = signals.non_finite
    assert bad is not None
    loss = signals.steps.loss[signals.steps.step < bad.step]
    loss = loss[np.isfinite(loss)]
    if not len(loss) or loss.min() < NEGATIVE:
        return None
    start = max(float(loss[0]), signals.floor) if signals.floor > 0 else float(loss[0])
    ratio = ratios(signals)
    thrown = bool(len(ratio)) and float(ratio[ratio > 0].max(initial=0.0)) > JUMP
    climbed = float(loss[-3:].max()) > SHOT * start
    if not (climbed or (thrown and len(loss) <= 3)):
        return None
    why = f"the loss climbed from {loss[0]:.3g} to {loss[-1]:.3g} and became no number in step {bad.step}"
    evidence = (Evidence("last finite loss", float(loss[-1]), f"below {start:.3g}", bad.step - 1),)
    return Finding(
        "lr_too_high",
        "critical",
        0.9,
        evidence=evidence,
        ruled_out=("the data: inputs and targets were finite",),
        remedies=_remedies(signals),
        step=bad.step,
        reference="Goodfellow, Bengio, Courville, 2016, chapter 11.4",
        summary=why,
    )


def _remedies(signals: Signals) -> tuple[str, ...]:
    lr = rate(signals)
    now = float(lr.max()) if len(lr) else math.nan
    first = f"optimise.lr={now / 10:.3g}" if now > 0 else "optimise.lr divided by 10"
    return (
        first,
        "begin again from fresh weights or from the last good checkpoint: killed units do not come back",
        "warm up over the first few hundred steps, and find the rate with a range test",
    )


def _finding(signals: Signals, c: Course, severity: Severity, certainty: float, why: str) -> Finding:
    ratio, lr = ratios(signals), rate(signals)
    evidence = [
        Evidence("peak of the loss over its start or floor", round(c.shot, 3), f"below {SHOT}", c.peak_step),
        Evidence("share of the floor learnt", round(c.learnt, 3), f"above {LITTLE}", c.seen),
    ]
    if len(ratio):
        evidence.append(Evidence("largest update-to-weight ratio", float(ratio.max()), f"below {JUMP}"))
    if len(lr):
        evidence.append(Evidence("learning rate", float(lr.max()), "lower"))
    return Finding(
        "lr_too_high",
        severity,
        certainty,
        evidence=tuple(evidence),
        ruled_out=("lr_too_low: the updates are large",) if len(ratio) else (),
        remedies=_remedies(signals),
        step=c.peak_step if c.shot > SHOT else c.seen,
        reference="Goodfellow, Bengio, Courville, 2016, chapter 11.4",
        summary=why,
    )
