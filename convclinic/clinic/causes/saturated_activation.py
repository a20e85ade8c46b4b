"""Saturated activations: sigmoid or tanh outputs at their ends, where no gradient passes.

Looks at  share of outputs within 1 % of the range from an end, on the probe batch after updates; loss
Why       judged on the outputs of real sigmoids and tanhs alone, never on pre-activations or thresholds
          for other kinds; nets that learn may saturate late and be fine, so the loss must not have fallen
Confused  with a learning rate that drove the units there (they were not saturated at first, and the loss
          shot up), with weights of too large a scale (which name this as their symptom)
Source    Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks,
          2010
"""

from __future__ import annotations

from convclinic.clinic.causes._trend import course
from convclinic.clinic.signals import Activation, Probe, Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = ("vanishing_gradient", "predicts_one_class", "plateau", "underfitting")

MANY, NEARLY_ALL = 0.5, 0.8  # of the outputs
LEAST, SETTLED = 20, 48  # steps
SLOW, HALF = 0.25, 0.5  # of the floor learnt: a net that learnt more gets along with it
OPERATIONS = ("sigmoid", "tanh")


def judge(signals: Signals) -> Finding | None:
    probe = next((p for p in reversed(signals.probes) if p.step > 0), None)
    c = course(signals)
    if probe is None or c is None or c.seen < LEAST:
        return None
    layer = _worst(probe, signals.classes)
    if layer is None or layer.saturated < MANY:
        return None
    harm = c.learnt < (SLOW if layer.saturated < NEARLY_ALL else HALF)
    if c.seen < SETTLED and c.slope < -2 * c.error and not c.stuck:
        harm = False  # young, and on its way all the same
    return Finding(
        "saturated_activation",
        "warning" if harm else "info",
        (0.8 if c.stuck else 0.7) if harm else 0.5,
        where=layer.name,
        evidence=(
            Evidence("saturated outputs", round(layer.saturated, 3), f"below {MANY}", probe.step),
            Evidence("share of the floor learnt", round(c.learnt, 3), f"above {SLOW}", c.seen),
        ),
        remedies=(
            "activate=relu",
            "normalise=batch_norm",
            "initialise=xavier: weights whose variance is 2 / (fan-in + fan-out)",
        ),
        step=probe.step,
        reference="Glorot and Bengio, 2010",
        summary=f"{layer.saturated:.0%} of the {layer.operation} outputs of '{layer.name}' lie at the ends, "
        "where no gradient passes",
    )


def _worst(probe: Probe, classes: int | None) -> Activation | None:
    """The most saturated activation. A last one with a unit per class is the net's answer."""
    there = [a for a in probe.activations if a.operation in OPERATIONS]
    if there and there[-1] is probe.activations[-1] and there[-1].units == classes:
        there.pop()
    return max(there, key=lambda a: a.saturated, default=None)
