"""What the loop does with the tricks of a recipe's slot `transfer`. A helper: no trick lives here.

Each function does nothing, to the last bit, where the slot is empty. Which stages learn, and how fast,
follows from the progress alone, so a resume has nothing to remember.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from convclinic.ground import rng
from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import State
from convclinic.models._weights import Matched


def load(tricks: Sequence[Any], net: nn.Module) -> Matched | None:
    """Fill a fresh net with pretrained weights, and say what fitted; None where there are none."""
    matched = [trick.load(net) for trick in _of_kind(tricks, "load")]
    return matched[-1] if matched else None


@contextmanager
def kept(net: nn.Module, names: Collection[str]) -> Generator[None]:
    """Whatever initialisers do inside, these parameters stay, bit for bit.

    They are frozen meanwhile, which initialisers mind; patch_whitening alone sets a layer that is always
    frozen, so the values are put back as well.
    """
    held = [p for name, p in net.named_parameters() if name in names]
    before = [(p.detach().clone(), p.requires_grad) for p in held]
    for p in held:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p, (value, wanted) in zip(held, before, strict=True):
            p.detach().copy_(value)
            p.requires_grad_(wanted)


def solved_on(tricks: Sequence[Any], labels: Tensor, seed: int) -> Tensor:
    """Positions among the training images, with labels (n,), of those on which the head is solved for."""
    shuffled = torch.randperm(len(labels), generator=rng.generator(seed, "probed_head"))
    most = max((trick.images for trick in _of_kind(tricks, "head")), default=0)
    return shuffled[in_proportion(labels[shuffled], most)]


def solve_head(
    tricks: Sequence[Any], net: nn.Module, batches: Iterable[Tensor], labels: Tensor, seed: int
) -> None:
    """Set the head by its solution on batches ready for the net, where a trick wants it."""
    for trick in _of_kind(tricks, "head"):
        trick.solve(net, batches, labels, seed)


def in_proportion(labels: Tensor, most: int) -> Tensor:
    """Positions of the first images of each class, in proportion, two of each or more if there are."""
    share = min(1.0, most / max(1, len(labels)))
    counts = torch.bincount(labels)
    place = torch.empty_like(labels)
    for label in range(len(counts)):
        place[labels == label] = torch.arange(int(counts[label]))
    wanted = (share * counts).ceil().clamp(min=2 if most else 0)
    return (place < wanted[labels]).nonzero()[:, 0]


def reference(tricks: Sequence[Any], net: nn.Module, names: Collection[str]) -> State:
    """Copies of the weights that training is to stay near; empty where no trick wants it."""
    references = [trick.reference(net, names) for trick in _of_kind(tricks, "anchor")]
    return references[-1] if references else {}


def penalties(tricks: Sequence[Any], net: nn.Module, reference: State) -> list[Tensor]:
    """What is added to the loss for going away from there."""
    return [trick.penalty(net, reference) for trick in _of_kind(tricks, "anchor")]


def optimiser(optimise: Any, tricks: Sequence[Any], net: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser over the net; where stages have LRs of their own, so do their groups.

    Raises ConvclinicError where nothing is left to train, and for a net without stages that a trick needs.
    """
    for trick in _of_kind(tricks, "mode"):
        trick.install(net)
    built: torch.optim.Optimizer = optimise.build(net)
    if _rated(tricks):
        depths = _depths(tricks, net)
        # no step was taken, so nothing but the groups themselves knows how they were cut
        built.param_groups[:] = [part for group in built.param_groups for part in _by_depth(group, depths)]
        learn(tricks, net, built, 0.0)
    return built


def learn(tricks: Sequence[Any], net: nn.Module, optimizer: torch.optim.Optimizer, progress: float) -> None:
    """Let those stages have gradients that learn at `progress`, so that the others cost nothing."""
    for group in optimizer.param_groups if _rated(tricks) else ():
        learns = share(tricks, net, group, progress) > 0
        for parameter in group["params"]:
            parameter.requires_grad_(learns)


def share(tricks: Sequence[Any], net: nn.Module, group: dict[str, Any], progress: float) -> float:
    """What the LR of an optimiser's group is multiplied by."""
    return _rate(tricks, net, group["depth"], progress) if "depth" in group else 1.0


def head_share(tricks: Sequence[Any], net: nn.Module, progress: float) -> float:
    """What the LR of the head is multiplied by."""
    return _rate(tricks, net, len(_stages(net)), progress) if _rated(tricks) else 1.0


def hold(tricks: Sequence[Any], net: nn.Module) -> None:
    """Bring the modules of a net in training mode into the modes that the tricks want."""
    for trick in _of_kind(tricks, "mode"):
        trick.hold(net)


def _of_kind(tricks: Sequence[Any], kind: str) -> list[Any]:
    return [trick for trick in tricks if trick.kind == kind]


def _rated(tricks: Sequence[Any]) -> list[Any]:
    """The tricks that give stages LRs of their own and are not off."""
    return [
        trick
        for trick in _of_kind(tricks, "rate")
        if any(getattr(trick, option) != value for option, value in trick.OFF.items())
    ]


def _rate(tricks: Sequence[Any], net: nn.Module, depth: int, progress: float) -> float:
    return math.prod(trick.rate(depth, _stages(net), progress) for trick in _rated(tricks))


def _stages(net: nn.Module) -> tuple[str, ...]:
    names: Any = getattr(net, "stage_names", ())
    return names


def _depths(tricks: Sequence[Any], net: nn.Module) -> dict[int, int]:
    """The depth of each parameter, by its id."""
    depth_of: Any = getattr(net, "depth_of", None)
    if depth_of is None:
        name = type(_rated(tricks)[0]).__module__.rpartition(".")[2]
        raise ConvclinicError(f"{name} needs a net that is made of stages", fix="choose net=backbone")
    return {id(parameter): depth_of(name) for name, parameter in net.named_parameters()}


def _by_depth(group: dict[str, Any], depths: dict[int, int]) -> list[dict[str, Any]]:
    """The group in parts of one depth each, from the input to the head, with all its other options."""
    parts: dict[int, list[Tensor]] = {}
    for parameter in group["params"]:
        parts.setdefault(depths[id(parameter)], []).append(parameter)
    return [{**group, "params": parts[depth], "depth": depth} for depth in sorted(parts)]
