"""The measurements that the two-by-two table is decided from: probes on the stages of a pretrained net and on
those of the same net with random weights, within a given time, on training images alone."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convclinic.data.dataset import Dataset
from convclinic.features import Features, Part, Progress, extract, seen
from convclinic.ground import rng
from convclinic.heads import Scores, gain, validate
from convclinic.kinds import State
from convclinic.planning.transfer import Difference, Evidence, Probe
from convclinic.tricks.initialise._layers import drawn, fan_in

STAGES = 8  # that are probed, at most
STAGE_SECONDS = 3.0  # of the time at hand for each of them: a short measurement looks at fewer
MANY_CLASSES = 20  # from here on ridge probes, whose cost hardly grows with the classes
PASSES = 3.5  # over the images: pretrained, control, own statistics, and half a one to collect these
PASSES_SHARE = 0.5  # of the time goes to them, the rest to the probes
MOST_IMAGES, LEAST_IMAGES = 1000, 100
CALIBRATION_IMAGES = 128
BATCH = 32  # images, as in training, of which batch norm takes its own statistics


@dataclass(frozen=True)
class Looking:
    """What is looked at, and how: the net and its preprocessing, images (their labels and groups) and a
    device."""

    net: Any
    prepare: Sequence[Any]
    fitted: Sequence[State]
    images: Part
    labels: NDArray[np.int64]
    groups: NDArray[np.integer] | None
    n_classes: int
    device: torch.device
    size: tuple[int, int]
    seed: int
    cache: Path | None

    def features(self, net: Any, stages: Sequence[str], progress: Progress | None = None) -> Features:
        given = (self.prepare, self.fitted, self.images)
        return extract(net, *given, stages, self.device, self.size, cache=self.cache, progress=progress)

    def probe(self, features: NDArray[np.float32], kind: str | None = None) -> Scores:
        kind = kind or ("logistic" if self.n_classes < MANY_CLASSES else "linear")
        return validate(kind, features, self.labels, self.n_classes, groups=self.groups, seed=self.seed)[0]


def measure(
    net: Any,
    prepare: Sequence[Any],
    fitted: Sequence[State],
    data: Dataset,
    device: torch.device,
    size: tuple[int, int],
    *,
    seconds: float,
    seed: int,
    groups: NDArray[np.integer] | None = None,
    budget: float | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Evidence:
    """The evidence for `decide`, in about `seconds`.

    net: a Staged with its pretrained weights, left in evaluation mode; prepare and fitted: its preprocessing;
    size (h, w): of the images it is shown. groups (m,): of every image of `data`; images of one group are not
    parted by cross-validation. budget: seconds that training may take. Only the training split is looked at.
    """
    begin = time.perf_counter()
    train = data.indices("train")
    counts = np.bincount(data.labels[train], minlength=len(data.classes))
    rate = _seconds_an_image(net, prepare, fitted, Part(data.images, train), device, size)
    most = int(np.clip(PASSES_SHARE * seconds / (PASSES * rate), LEAST_IMAGES, MOST_IMAGES))
    chosen = train[balanced(data.labels[train], most, seed)]
    grouped = None if groups is None else groups[chosen]
    images, labels = Part(data.images, chosen), data.labels[chosen]
    look = Looking(net, prepare, fitted, images, labels, grouped, len(counts), device, size, seed, cache)
    stages = spread(net.stage_names, int(np.clip(seconds / STAGE_SECONDS, 3, STAGES)))
    evidence = _probed(look, stages, begin + seconds, progress)
    return Evidence(
        class_counts=tuple(counts.tolist()),
        n_probed=len(chosen),
        **evidence,
        epochs=None if budget is None else budget / (3 * rate * len(train)),
        seconds=time.perf_counter() - begin,
    )


def _probed(
    look: Looking, stages: tuple[str, ...], until: float, progress: Progress | None
) -> dict[str, Any]:
    """The probes and what they say of each other; what is not needed is left out when the time is over.

    The random net is probed in its lower half, where random features are best: deeper ones only cost time.
    """
    features = look.features(look.net, stages, progress)
    pretrained = {stage: look.probe(features[stage]) for stage in stages}
    random = look.features(randomised(look), stages[: (len(stages) + 1) // 2])
    control = {stage: look.probe(values) for stage, values in random.items()}
    last, best_control = pretrained[stages[-1]], max(control.values(), key=_score)
    earlier = max((pretrained[stage] for stage in stages[:-1]), key=_score, default=None)
    best = max(pretrained, key=lambda stage: (_score(pretrained[stage]), stages.index(stage)))
    found: dict[str, Any] = {
        "pretrained": _probes(pretrained),
        "control": _probes(control),
        "over_control": Difference(*gain(last, best_control)),
        "best_over_control": Difference(*gain(pretrained[best], best_control)),
        "over_earlier": None if earlier is None else Difference(*gain(last, earlier)),
    }
    if time.perf_counter() < until:
        found["svm"] = Difference(*gain(look.probe(features[best], "svm"), pretrained[best]))
    if time.perf_counter() < until and norms(look.net):
        own = look.features(with_own_statistics(look), stages[-1:])[stages[-1]]
        found["own_statistics"] = Difference(*gain(look.probe(own), last))
    return found


def _score(scores: Scores) -> float:
    return scores.balanced_accuracy


def _probes(scores: dict[str, Scores]) -> tuple[Probe, ...]:
    return tuple(Probe(stage, one.balanced_accuracy, one.standard_error) for stage, one in scores.items())


def spread(stages: Sequence[str], most: int = STAGES) -> tuple[str, ...]:
    """At most `most` of the stages, evenly spaced, the last among them.

    >>> spread([f"s{i}" for i in range(19)], 6)
    ('s3', 's6', 's9', 's12', 's15', 's18')
    """
    if len(stages) <= most:
        return tuple(stages)
    places = np.linspace(0, len(stages) - 1, most + 1).round().astype(int)[1:]
    return tuple(str(stages[place]) for place in places)


def balanced(labels: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Ascending positions of at most `most` images (but two of each class where there are), equally many of
    each class as far as they go."""
    draw = rng.generator(seed, "probe")
    shuffled = torch.randperm(len(labels), generator=draw).numpy()
    classes, counts = np.unique(labels, return_counts=True)
    cap, left = max(2, most // len(classes)), most
    for i, count in enumerate(np.sort(counts).tolist()):  # what a small class leaves goes to the larger ones
        cap = max(2, left // (len(classes) - i))
        left -= min(count, cap)
    parts = [shuffled[labels[shuffled] == k][:cap] for k in classes]  # cap is the largest class's by now
    return np.sort(np.concatenate(parts))


def _seconds_an_image(
    net: Any,
    prepare: Sequence[Any],
    fitted: Sequence[State],
    images: Part,
    device: torch.device,
    size: tuple[int, int],
) -> float:
    """Of a forward pass over the whole net, once a few images have warmed it up: the best of some, since one
    that was held up would decide how much is tried."""
    times: list[float] = []
    for n in (4, 16, 16, 16):
        few = Part(images.read, images.positions[:n])
        begin = time.perf_counter()
        extract(net, prepare, fitted, few, net.stage_names[-1:], device, size)
        times.append((time.perf_counter() - begin) / len(few))
    return min(times)


def forget_statistics(net: nn.Module) -> bool:
    """Let batch norm take its statistics anew, their plain mean over the batches to come, in a net that is
    otherwise in evaluation mode. Whether there is any."""
    net.eval()
    for layer in norms(net):
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    return bool(norms(net))


def norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norm layers that have statistics to use in testing."""
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None]


@torch.no_grad()
def randomised(look: Looking) -> Any:
    """A copy of the net with He's random weights, its batch norm at these images' statistics: without them
    the maps of a deep random net would vanish or grow, and a weak control proves nothing."""
    net = copy.deepcopy(look.net)
    draw = rng.generator(look.seed, "control")
    scales = {
        id(m.weight) for m in net.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm)
    }
    for parameter in net.parameters():
        if parameter.ndim > 1:
            shape = tuple(parameter.shape)
            parameter.copy_(drawn(shape, (2 / fan_in(shape)) ** 0.5, "normal", draw))
        else:
            parameter.fill_(1.0 if id(parameter) in scales else 0.0)
    _take_statistics(net, look, CALIBRATION_IMAGES)
    return net


@torch.no_grad()
def with_own_statistics(look: Looking) -> Any:
    """A copy of the net whose batch norm has the mean statistics of batches of these images (Li et al.,
    Revisiting batch normalization for practical domain adaptation, 2016, arXiv:1603.04779)."""
    net = copy.deepcopy(look.net)
    _take_statistics(net, look, len(look.images) // 2)
    return net


def _take_statistics(net: Any, look: Looking, n: int) -> None:
    if not forget_statistics(net):
        return
    order = torch.randperm(len(look.images), generator=rng.generator(look.seed, "statistics")).numpy()
    for begin in range(0, max(1, min(n, len(order)) - BATCH + 1), BATCH):
        part = Part(look.images.read, look.images.positions[order[begin : begin + BATCH]])
        net.stages(
            seen(look.prepare, look.fitted, part[:BATCH], look.size, look.device), net.stage_names[-1:]
        )
    net.eval()
