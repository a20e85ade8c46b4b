"""How a run goes, read from its columns: what the rules about dynamics share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from convclinic.clinic.signals import Activation, Floats, NonFinite, Signals

WINDOW = 5, 50  # measured steps that count as "now": a quarter of all, within these bounds
EARLY = 100  # steps in which a net that its learning rate kills is killed
AT_FLOOR = 0.05  # of the floor: less learnt than this is nothing learnt
SAME = 0.02  # share by which the reported loss may differ from cross-entropy and still count as it


@dataclass(frozen=True)
class Course:
    """The loss of the training batches, as cross-entropy of the logits where that was measured.

    start: the first; now: median of the latest window; best: least median of any window; peak: the largest
    of the first `EARLY` steps that is finite; noise: of single steps around the smoothed course; slope:
    change per step over the second half, with its standard error. accuracy: mean over the latest window,
    margin: three standard errors of it at chance. NaN where unknown.
    """

    seen: int
    floor: float
    start: float
    now: float
    best: float
    peak: float
    peak_step: int
    noise: float
    slope: float
    error: float
    accuracy: float
    chance: float
    margin: float

    @property
    def learnt(self) -> float:
        """Share of the floor that the net has done away with: 0 at the labels' shares, 1 at the end."""
        return 1 - self.now / self.floor if self.floor > 0 else math.nan

    @property
    def shot(self) -> float:
        """The peak relative to where the run began, or to the floor if that is higher."""
        return self.peak / max(self.start, self.floor)

    @property
    def stuck(self) -> bool:
        """Nothing is learnt, as far as loss and accuracy can tell."""
        right = math.isfinite(self.accuracy) and self.accuracy > self.chance + max(self.margin, 0.03)
        return self.learnt < AT_FLOOR and not right

    @property
    def steps_to_half(self) -> float:
        """Steps until half of the floor is done away with, if the loss falls as fast as it may at best."""
        fastest = -(self.slope - 2 * self.error)
        return (self.now - self.floor / 2) / fastest if fastest > 0 else math.inf


def course(signals: Signals) -> Course | None:
    """The course of the run, or None where loss, floor or steps are too few to say anything."""
    step, loss = losses(signals)
    floor = signals.floor
    finite = np.isfinite(loss)
    if finite.sum() < WINDOW[0] or not floor > 0:
        return None
    step, loss = step[finite], loss[finite]
    early = step <= EARLY
    top = int(np.argmax(np.where(early, loss, -np.inf)))
    slope, error = trend(step[len(step) // 2 :], loss[len(loss) // 2 :])
    accuracy, images = _accuracy(signals)
    chance = commonest(signals)
    return Course(
        seen=max(int(step[-1]), signals.observed),
        floor=floor,
        start=float(loss[0]),
        now=float(np.median(latest(loss))),
        best=float(np.min(smooth(loss))),
        peak=float(loss[top]),
        peak_step=int(step[top]),
        noise=scatter(loss),
        slope=slope,
        error=error,
        accuracy=accuracy,
        chance=chance,
        margin=3 * math.sqrt(chance * (1 - chance) / images) if images else math.nan,
    )


def losses(signals: Signals) -> tuple[Floats, Floats]:
    """(steps, cross-entropies): the reported loss, at every step, where it is one; else as measured.

    Without logits the reported loss counts as one if it begins near the floor.
    """
    steps = signals.steps
    if not len(steps):
        return steps.step, steps.loss
    at, reported, entropy = steps.known("step", "loss", "cross_entropy")
    if len(at):
        apart = np.abs(reported - entropy) / np.maximum(np.abs(entropy), 1e-6)
        return (steps.step, steps.loss) if np.median(apart) < SAME else (at, entropy)
    begins = steps.loss[0] / signals.floor if signals.floor > 0 else math.nan
    return (steps.step, steps.loss) if 0.5 < begins < 2 else (at, entropy)


def latest(values: Floats) -> Floats:
    """The last quarter, but at least and at most `WINDOW` of them."""
    return values[-min(max(len(values) // 4, WINDOW[0]), WINDOW[1]) :]


def smooth(values: Floats, width: int = WINDOW[0]) -> Floats:
    """Running median of `width` values."""
    if len(values) <= width:
        return np.array([np.median(values)]) if len(values) else values
    return np.median(np.lib.stride_tricks.sliding_window_view(values, width), axis=1)


def scatter(values: Floats) -> float:
    """Robust standard deviation of single values around their neighbours."""
    if len(values) < 3:
        return math.nan
    return float(1.4826 * np.median(np.abs(np.diff(values))) / math.sqrt(2))


def trend(x: Floats, y: Floats) -> tuple[float, float]:
    """Slope of y over x by least squares, and its standard error."""
    if len(x) < 4 or np.ptp(x) == 0:
        return math.nan, math.nan
    away = x - x.mean()
    slope = float((away * y).sum() / (away**2).sum())
    rest = y - y.mean() - slope * away
    return slope, float(np.sqrt((rest**2).sum() / (len(x) - 2) / (away**2).sum()))


def commonest(signals: Signals) -> float:
    """The accuracy of always answering the commonest class."""
    counts = np.asarray(signals.labels.counts, float)
    if counts.sum() > 0:
        return float(counts.max() / counts.sum())
    return 1 / signals.classes if signals.classes else math.nan


def _accuracy(signals: Signals) -> tuple[float, float]:
    """Mean accuracy over the latest window of measured batches, and how many images that is."""
    accuracy, size = signals.steps.known("accuracy", "size")
    if not len(accuracy):
        return math.nan, 0.0
    accuracy, size = latest(accuracy), latest(size)
    return float((accuracy * size).sum() / size.sum()), float(size.sum())


def ratios(signals: Signals, since: int = 0) -> Floats:
    """Update-to-weight ratios of measured steps from `since` on."""
    step, ratio = signals.steps.known("step", "ratio")
    return ratio[step >= since]


def grown(signals: Signals) -> float:
    """Norm of the weights now over what it was first; NaN where unknown."""
    (norm,) = signals.steps.known("weight_norm")
    return float(norm[-1] / norm[0]) if len(norm) > 1 and norm[0] > 0 else math.nan


def rate(signals: Signals) -> Floats:
    """The learning rate at measured steps."""
    return signals.steps.known("lr")[0]


def adaptive(signals: Signals) -> bool:
    """Whether the optimizer divides by the size of the gradient."""
    return signals.setup is not None and any(group.adaptive for group in signals.setup.groups)


def after_training(signals: Signals) -> tuple[Activation, ...]:
    """The activations at the latest probe after at least one update."""
    for probe in reversed(signals.probes):
        if probe.step > 0:
            return probe.activations
    return ()


def most_silent(signals: Signals) -> float:
    """Largest share of silent units in any ReLU after at least one update; NaN where none was probed."""
    shares = [a.silent for a in after_training(signals) if a.operation == "relu"]
    return max(shares, default=math.nan)


def drops(signals: Signals) -> bool:
    """Whether any dropout is at work: then the probe batch has noise of its own."""
    return signals.setup is not None and any(rate > 0 for _, rate in signals.setup.dropouts)


def given(bad: NonFinite | None) -> bool:
    """Whether what is no number came from the data, or from a loss that makes such of finite outputs: then
    neither the gradient nor the learning rate is to blame."""
    return bad is not None and (bad.what in ("inputs", "targets") or (bad.what == "loss" and bool(bad.order)))


def pull(signals: Signals) -> float:
    """Norm of the gradient over norm of the weights in the first step, before any update."""
    step, norm, weights = signals.steps.known("step", "grad_norm", "weight_norm")
    if not len(norm) or step[0] > 1 or not weights[0] > 1e-6:
        return math.nan
    return float(norm[0] / weights[0])
