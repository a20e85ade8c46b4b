"""Dead ReLUs: units that give zero for every image, so that no gradient reaches them any more.

Looks at  units (not entries) that are zero for every image and place of the probe batch, after updates;
          loss
Why       50 to 90 % zero entries are healthy sparsity, and plain nets that learn well have up to half of
          their units silent in one layer on 64 images. Death counts where the loss stays near the floor; a
          layer that is silent as a whole lets nothing through at all
Confused  with a learning rate that killed the units (the loss shot up before: it names this as its
          symptom), and with sparse features of a net that learns (worth knowing at most)
Source    Lu et al., Dying ReLU and initialization, 2019, arXiv:1903.06733
"""

from __future__ import annotations

from convclinic.clinic.causes._trend import course
from convclinic.clinic.signals import Activation, Probe, Signals
from convclinic.kinds import Evidence, Finding, Severity

EXPLAINS = ("vanishing_gradient", "predicts_one_class", "plateau", "underfitting")

MANY = 0.6  # of a layer's units; healthy plain nets of the bench had up to 0.55
MOST = 0.8  # with a loss near the floor this is harm enough at step 25
WHOLE = 0.999
LEAST_UNITS = 4  # a layer of fewer units is silent by chance
LEAST = 10  # steps
LITTLE = 0.1  # of the floor learnt


def judge(signals: Signals) -> Finding | None:
    probe = next((p for p in reversed(signals.probes) if p.step > 0), None)
    if probe is None or signals.observed < LEAST:
        return None
    layer = _worst(probe)
    if layer is None or layer.silent < MANY:
        return None
    c = course(signals)
    if c is None:
        return None
    whole, little = layer.silent >= WHOLE, c.learnt < LITTLE
    severity: Severity = "info"
    if c.stuck and whole and _before(signals, layer.name) and c.seen >= 2 * LEAST:
        severity = "critical"
    elif (c.stuck and whole) or (little and layer.silent >= MOST and c.seen >= 2 * LEAST):
        severity = "warning"
    return _finding(layer, probe, severity, c.learnt)


def _worst(probe: Probe) -> Activation | None:
    relus = [a for a in probe.activations if a.operation == "relu" and a.units >= LEAST_UNITS]
    return max(relus, key=lambda a: a.silent, default=None)


def _before(signals: Signals, name: str) -> bool:
    """Whether the layer was silent as a whole at an earlier probe too."""
    return any(
        a.name == name and a.operation == "relu" and a.silent >= WHOLE
        for probe in signals.probes[:-1]
        for a in probe.activations
    )


def _finding(layer: Activation, probe: Probe, severity: Severity, learnt: float) -> Finding:
    what = "all" if layer.silent >= WHOLE else f"{layer.silent:.0%} of the"
    return Finding(
        "dead_relu",
        severity,
        {"critical": 0.9, "warning": 0.8, "info": 0.5}[severity],
        where=layer.name,
        evidence=(
            Evidence("silent units", round(layer.silent, 3), f"below {MANY}", probe.step),
            Evidence("share of the floor learnt", round(learnt, 3), f"above {LITTLE}", probe.step),
        ),
        remedies=(
            "activate=leaky_relu",
            "initialise=he, and biases at 0",
            "begin again from fresh weights at a third of the learning rate: dead units do not come back",
        ),
        step=probe.step,
        reference="Lu et al., 2019, arXiv:1903.06733",
        summary=f"{what} {layer.units} units of '{layer.name}' give zero for every image of the probe batch",
    )
