"""Learning rate too low: the loss falls smoothly and almost on a line, and would take far too long.

Looks at  update-to-weight ratio, learning rate and its course, loss and its slope with standard error
Why       an update of a ten-thousandth of the weights needs ten thousand steps to make new ones. The ratio
          alone also shrinks in every converged run and at the end of every schedule: the loss must still
          be high, and its fall, taken at its most favourable, must need many times the steps seen. SGD at a
          rate below 1e-3 (over 1 - momentum) needs no such forecast where fresh weights have learnt little. A
          gradient of the same norm in every step is clipped, which makes it small at any rate
Confused  with dead, saturated or vanishing nets (small updates at a usual rate: small gradients), with
          warm-up (the rate still rises), with the end of a decay (it was higher before) and with
          fine-tuning, which moves pretrained weights by little on purpose (the first loss is low already)
Source    Karpathy, CS231n notes on learning, 2015 (updates near a thousandth of the weights)
"""

from __future__ import annotations

import math

import numpy as np

from convclinic.clinic.causes._trend import (
    WINDOW,
    Course,
    adaptive,
    after_training,
    course,
    drops,
    latest,
    losses,
    rate,
    ratios,
)
from convclinic.clinic.signals import Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = ("plateau", "predicts_one_class", "vanishing_gradient", "underfitting", "batch_too_large")

LEAST = 20  # steps; before, momentum and the first noise hide the slope
SMALL, TINY = 1.5e-4, 2e-5  # of the weights per step: suspicious, and certain. Healthy slow runs: 5e-4
USUAL_SGD, USUAL_ADAPTIVE = 5e-3, 1e-4  # rates from which small updates come from small gradients
FAR_OFF, AT_LEAST = 20, 2000  # steps to half the floor: times those seen, and in all
SURELY = 0.25  # of both, where updates are tiny: noise hides the slope of short runs
DONE = 0.5  # of the floor: whoever has learnt this much is not too slow
BEGUN = 0.8  # of the floor: whoever begins below has been trained before, and is moved with care
RISING, FELL = 1.02, 0.3  # of the rate: still warming up, and decayed already
MOST = 0.6  # of the measured steps: a rate low for so long fell too early. Half a cosine is low for 0.37
SCRATCH, SLOWLY = 1e-3, 5e-4  # SGD's rate over 1 - momentum; updates: too little for weights not yet trained
CRAWL, CRAWLED = 100, 0.25  # steps, and share of the floor learnt by then
EQUAL = 1e-3  # share by which norms differ that clipping has made equal
DEAD = 0.8  # share of silent units or saturated entries that explains small updates


def judge(signals: Signals) -> Finding | None:
    c, ratio = course(signals), ratios(signals, 2)
    if c is None or c.seen < LEAST or len(ratio) < 5:
        return None
    usual = max(float(np.median(ratio)), float(np.median(latest(ratio))))  # after a warm-up it is the latter
    if usual > 0 and _crawls(signals, c, usual):
        return _finding(signals, c, usual, max(0.0, _steps_to_half(signals, c)), 0.65)
    if usual >= SMALL or c.learnt >= DONE or _scheduled(signals) or _usual_rate(signals):
        return None
    if c.start < BEGUN * c.floor:
        return None
    left = _steps_to_half(signals, c)
    enough = max(FAR_OFF * c.seen, AT_LEAST) * (SURELY if usual < TINY else 1)
    if _blocked(signals) or usual == 0 or left < enough:
        return None
    return _finding(signals, c, usual, left, 0.85 if usual < TINY else 0.7)


def _crawls(signals: Signals, c: Course, usual: float) -> bool:
    """Fresh weights under SGD at a rate that is a hundredth of a usual one, and little to show for it."""
    setup = signals.setup
    if setup is None or not setup.layers or not all(layer.untouched for layer in setup.layers):
        return False
    if adaptive(signals) or usual >= SLOWLY:
        return False
    effective = max((group.lr / max(1e-3, 1 - group.momentum) for group in setup.groups), default=1.0)
    late = c.seen >= CRAWL and c.learnt < CRAWLED
    return late and effective <= SCRATCH and not _scheduled(signals) and not _blocked(signals)


def _steps_to_half(signals: Signals, c: Course) -> float:
    """Steps until half of the floor is done away with: from the probe batch, whose loss has no noise of
    sampling, at twice the pace of its latest interval; else from the slope, taken at its most favourable."""
    seen = [
        (p.step, p.cross_entropy) for p in signals.probes if p.step > 0 and math.isfinite(p.cross_entropy)
    ]
    if len(seen) < 2 or drops(signals):
        return c.steps_to_half
    (before, high), (after, low) = seen[-2:]
    pace = 2 * (high - low) / (after - before)
    return (c.now - c.floor / 2) / pace if pace > 0 else math.inf


def _scheduled(signals: Signals) -> bool:
    """Whether the rate is on its way up, or has come down from where it was."""
    lr = rate(signals)
    if len(lr) < 5:
        return False
    low = lr < FELL * lr.max()
    return bool(lr[-1] > RISING * lr[-4] or (low[-1] and low.mean() < MOST))


def _usual_rate(signals: Signals) -> bool:
    lr = rate(signals)
    usual = bool(len(lr)) and float(lr[-1]) >= (USUAL_ADAPTIVE if adaptive(signals) else USUAL_SGD)
    return usual and not _clipped(signals)


def _clipped(signals: Signals) -> bool:
    """Whether the gradient has one and the same norm in each step: then clipping makes it small."""
    norms = signals.steps.known("grad_norm")[0][-WINDOW[1] :]
    return len(norms) >= LEAST and float(np.ptp(norms)) < EQUAL * float(np.median(norms))


def _blocked(signals: Signals) -> bool:
    """Units that pass no gradient on: updates are small whatever the rate."""
    return any(max(a.silent, a.saturated) > DEAD for a in after_training(signals))


def _finding(signals: Signals, c: Course, usual: float, left: float, confidence: float) -> Finding:
    lr = rate(signals)
    now = float(lr[-1]) if len(lr) else float("nan")
    factor = min(1000.0, 10.0 ** round(np.log10(1e-3 / usual)))
    steps = f"{left:,.0f}" if math.isfinite(left) else "no number of"
    at = losses(signals)[0]
    remedies = (f"optimise.lr={now * factor:.3g}" if now > 0 else f"optimise.lr times {factor:.0f}",)
    if _clipped(signals):
        remedies = (f"clip the gradient at {factor:.0f} times the norm, or not at all",)
    return Finding(
        "lr_too_low",
        "warning",
        confidence,
        evidence=(
            Evidence("update-to-weight ratio", usual, "near 1e-3", c.seen),
            Evidence("steps to half the floor, at best", left, f"below {FAR_OFF} times those seen"),
            Evidence("share of the floor learnt", round(c.learnt, 4), f"above {DONE}", c.seen),
            Evidence("learning rate", now, "higher"),
        ),
        ruled_out=(
            f"lr_too_high: updates are {usual:.1e} of the weights",
            "warm-up or decay: the rate neither rises nor has it fallen",
        ),
        remedies=remedies,
        step=int(at[-1]),
        reference="Karpathy, CS231n notes, 2015",
        summary=f"each update changes the weights by {usual:.1e} of their norm: at best {steps} steps to "
        f"half the loss of chance, after {c.seen} seen",
    )
