"""Over-regularised: dropout, decay or smoothing so strong that the net cannot fit its training data.

Looks at  rates of dropout, weight decay with its optimizer and learning rate, label smoothing, norm of the
          weights, loss of the probe batch with and without dropout, share of the floor learnt
Why       dropout up to 0.5, weight decay of 5e-4 in SGD and of 0.1 in AdamW are usual. What is far outside
          counts where little is learnt; decay acts as learning rate times decay, so it needs steps to show
Confused  with a net that is too small or a problem that is hard (their settings are usual), with a
          learning rate that is too high where weights that decay to nothing make the ratio large
Source    Srivastava et al., Dropout, 2014; Loshchilov and Hutter, Decoupled weight decay, 2019,
          arXiv:1711.05101
"""

from __future__ import annotations

from convclinic.clinic.causes._trend import Course, course, grown
from convclinic.clinic.signals import Group, Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = ("underfitting", "plateau", "predicts_one_class", "dead_relu", "vanishing_gradient", "lr_too_high")

LEAST = 10  # steps
DROPPED, MOST = 0.7, 0.8  # of the units: worth knowing, and worth a warning where little is learnt
SMOOTHED = 0.6  # of the label given away
COUPLED, DECOUPLED = 0.03, 1.0  # weight decay; usual are 5e-4 and 0.1 at most
SHRUNK = 0.2  # share of the weights taken away since the beginning, by decay alone
NORM = 0.7  # of its first value: the weights decay for all to see
ENOUGH, LITTLE = 0.7, 0.3  # of the floor learnt: no harm, and clear harm


def judge(signals: Signals) -> Finding | None:
    c = course(signals)
    if c is None or c.seen < LEAST or signals.setup is None:
        return None
    return _dropout(signals, c) or _decay(signals, c) or _smoothing(signals, c)


def _dropout(signals: Signals, c: Course) -> Finding | None:
    assert signals.setup is not None
    name, rate = max(signals.setup.dropouts, key=lambda item: item[1], default=("", 0.0))
    if rate < DROPPED:
        return None
    cost = (
        next((p.cross_entropy - p.evaluated for p in reversed(signals.probes) if p.step > 0), 0.0) / c.floor
    )
    warn = c.learnt < ENOUGH and (rate >= MOST or (cost > 0.15 and c.learnt < LITTLE))
    return _finding(
        c,
        warn,
        name,
        Evidence("share of units dropped", rate, "0.1 to 0.5"),
        ("regularise.dropout.p=0.3", f"a rate of 0.3 in '{name}'"),
        f"'{name}' drops {rate:.0%} of its units in every step",
        "Srivastava et al., 2014",
    )


def _decay(signals: Signals, c: Course) -> Finding | None:
    assert signals.setup is not None
    group = max(signals.setup.groups, key=lambda g: g.weight_decay, default=None)
    if group is None or group.weight_decay < (DECOUPLED if _decoupled(group) else COUPLED):
        return None
    pull = group.lr * group.weight_decay / max(1e-3, 1 - group.momentum)
    sinks = grown(signals) < NORM
    if not (sinks or pull * c.seen > SHRUNK) or (
        group.adaptive and not _decoupled(group) and not _bites(c, sinks)
    ):
        return None
    usual = "0.01 to 0.1" if _decoupled(group) else "1e-5 to 1e-3"
    return _finding(
        c,
        c.learnt < ENOUGH,
        "optimizer",
        Evidence("weight decay", group.weight_decay, usual),
        (f"optimise.weight_decay={0.05 if _decoupled(group) else 5e-4}",),
        f"weight decay of {group.weight_decay:g} at a learning rate of {group.lr:g} takes "
        f"{min(pull, 1):.1%} off the weights in each step",
        "Loshchilov and Hutter, 2019, arXiv:1711.05101",
    )


def _bites(c: Course, sinks: bool) -> bool:
    """An adaptive optimizer with decay in the gradient: its size cancels, so only the outcome tells."""
    return sinks or c.learnt < LITTLE


def _decoupled(group: Group) -> bool:
    """Whether decay stands beside the gradient, not in it, as in AdamW, Lion and Adafactor."""
    return group.adaptive and (
        group.optimizer.endswith("W") or group.optimizer in ("Lion", "Adafactor", "Muon")
    )


def _smoothing(signals: Signals, c: Course) -> Finding | None:
    losses = signals.first.losses
    if losses is None or losses.smoothing < SMOOTHED:
        return None
    return _finding(
        c,
        c.learnt < ENOUGH,
        "loss",
        Evidence("label smoothing", losses.smoothing, "0 to 0.2"),
        ("regularise.label_smoothing.smoothing=0.1",),
        f"the loss gives {losses.smoothing:.0%} of each label away to all classes",
        "Szegedy et al., 2016, arXiv:1512.00567",
    )


def _finding(
    c: Course, warn: bool, where: str, setting: Evidence, remedies: tuple[str, ...], what: str, reference: str
) -> Finding:
    return Finding(
        "over_regularised",
        "warning" if warn else "info",
        (0.85 if c.learnt < LITTLE else 0.65) if warn else 0.5,
        where=where,
        evidence=(
            setting,
            Evidence("share of the floor learnt", round(c.learnt, 3), f"above {ENOUGH}", c.seen),
        ),
        ruled_out=("underfitting: the settings are far from usual ones",),
        remedies=remedies,
        step=c.seen,
        reference=reference,
        summary=f"{what}; {max(c.learnt, 0):.0%} of the floor is learnt after {c.seen} steps",
    )
