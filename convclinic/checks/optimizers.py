"""What LRs each optimiser bears, and what `check_optimizer` says of the optimiser of anyone's own loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from convclinic.checks.facts import listed
from convclinic.kinds import Evidence, Finding

BASE_BATCH = 256  # Goyal et al.: beyond it the LR of SGD may grow with the batch
NORMS = (
    nn.modules.batchnorm._NormBase,  # pyright: ignore[reportPrivateUsage] - of batch and instance norm
    nn.GroupNorm,
    nn.LayerNorm,
)


class Rates(NamedTuple):
    """Peak LRs of an optimiser, for gradients that are the mean over the batch: hardly any published recipe
    lies outside [low, high]."""

    low: float
    usual: float
    high: float
    source: str


ADAM = Rates(
    1e-6, 1e-3, 0.03, "Kingma and Ba, 2015, arXiv:1412.6980; Liu et al., 2022, arXiv:2201.03545, 0.004"
)
RATES = {
    "sgd": Rates(1e-4, 0.1, 1.0, "He et al., 2015, arXiv:1512.03385, 0.1 with batch norm; Bengio, 2012"),
    "adam": ADAM,
    "adamw": ADAM,
    "nadam": ADAM,
    "radam": ADAM,
    "adamax": ADAM._replace(usual=2e-3),
    "rmsprop": Rates(1e-6, 1e-3, 0.1, "Hinton, 2012; Szegedy et al., 2015, arXiv:1512.00567, 0.045"),
    "adagrad": Rates(1e-4, 1e-2, 1.0, "Duchi et al., 2011; Bengio, 2012, arXiv:1206.5533"),
    "adadelta": Rates(1e-2, 1.0, 10.0, "Zeiler, 2012, arXiv:1212.5701, which has none: 1"),
    "muon": Rates(1e-4, 0.24, 2.0, "Jordan et al., 2024, cifar10-airbench, 0.24; modded-nanogpt, 0.02"),
}


def judged_lr(
    optimiser: str, peak: float, where: str, batch_size: int = BASE_BATCH, factor: float = 1.0
) -> Iterator[Finding]:
    """A finding where the highest LR of training lies outside the optimiser's range.

    That LR is `factor` times what stands at `where`. An optimiser without a range is not judged, nor is an LR
    of 0, which is frozen on purpose.
    """
    rates = RATES.get(optimiser)
    if rates is None or peak == 0:
        return
    high = rates.high * (max(1.0, batch_size / BASE_BATCH) if optimiser == "sgd" else 1.0)
    if rates.low <= peak <= high:
        return
    low = peak < rates.low
    yield Finding(
        "lr_too_low" if low else "lr_too_high",
        "warning",
        confidence=0.8,
        where=where,
        summary=f"an LR of {peak:.3g} is far {'below' if low else 'above'} what {optimiser} is used with",
        evidence=(Evidence("peak LR", peak, f"{rates.low:g} to {high:g}, {rates.usual:g} is usual"),),
        remedies=(f"{where}={rates.usual / factor:g}", "measure it: convclinic plan runs an LR range test"),
        reference=rates.source,
    )


def check_optimizer(
    net: nn.Module, optimizer: torch.optim.Optimizer, batch_size: int = BASE_BATCH
) -> list[Finding]:
    """What is unusual about an optimiser that is to train `net`, for anyone's own loop. Nothing is changed.

    PReLU slopes under weight decay, norms and biases under it, and an LR out of the range that is usual for
    the optimiser's class; an LR that a scheduler has lowered for the start is judged by its peak.

    >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.PReLU(), nn.Flatten(), nn.Linear(8, 2))
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    >>> [finding.cause for finding in check_optimizer(net, optimizer)]
    ['slopes_decayed', 'norms_decayed']
    """
    decayed = {
        id(parameter)
        for group in optimizer.param_groups
        if group.get("weight_decay")
        for parameter in group["params"]
    }
    findings = list(_slopes(_owned(net, (nn.PReLU,), decayed)))
    findings += _flat(_owned(net, NORMS, decayed) + _biases(net, decayed))
    peaks = {_peak(group) for group in optimizer.param_groups}
    for peak in sorted(peaks):
        findings += judged_lr(type(optimizer).__name__.lower(), peak, "lr", batch_size)
    return findings


def _peak(group: dict[str, Any]) -> float:
    """The highest LR that torch's schedulers have written down; OneCycleLR starts far below its own."""
    return float(group.get("max_lr", group.get("initial_lr", group["lr"])))


def _owned(net: nn.Module, kinds: tuple[type[nn.Module], ...], among: set[int]) -> list[str]:
    """Names of the parameters of modules of these kinds that are among those given by id."""
    return [
        f"{path}.{name}" if path else name
        for path, module in net.named_modules()
        if isinstance(module, kinds)
        for name, parameter in module.named_parameters(recurse=False)
        if id(parameter) in among
    ]


def _biases(net: nn.Module, among: set[int]) -> list[str]:
    return [
        name
        for kind in (nn.modules.conv._ConvNd, nn.Linear)  # pyright: ignore[reportPrivateUsage]
        for name in _owned(net, (kind,), among)
        if name.rpartition(".")[2] == "bias"
    ]


def _slopes(names: Sequence[str]) -> Iterator[Finding]:
    if names:
        yield slopes_decayed("optimizer.param_groups", f"the weight decay of {_some(names)}", names)


def slopes_decayed(where: str, what: str, names: Sequence[str] = ()) -> Finding:
    """PReLU slopes are drawn towards zero by something, which makes a ReLU of each."""
    return Finding(
        "slopes_decayed",
        "warning",
        where=where,
        summary=f"{what} draws PReLU's slopes to zero, and makes it a ReLU",
        evidence=(Evidence("PReLU slopes under decay", len(names) or "all", "none"),),
        remedies=("put PReLU slopes into a group with weight_decay 0",) if names else (f"{where}=false",),
        reference="He et al., 2015, arXiv:1502.01852, section 2.1",
    )


def _flat(names: Sequence[str]) -> Iterator[Finding]:
    if names:
        yield Finding(
            "norms_decayed",
            "info",
            where="optimizer.param_groups",
            summary=f"norms and biases are under weight decay too, {_some(names)}: it gains nothing",
            evidence=(Evidence("parameters of norms, and biases, under decay", len(names), "none"),),
            remedies=("put what has fewer than two axes into a group with weight_decay 0",),
            reference="He et al., 2018, Bag of Tricks, arXiv:1812.01187, section 3.1",
        )


def _some(names: Sequence[str]) -> str:
    return listed(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
