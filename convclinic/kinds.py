"""The types every room shares: what a batch is, what a finding is, and one protocol per slot.

torch is imported for type checkers only, so the data check-up runs without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Severity: TypeAlias = Literal["info", "warning", "critical"]
Params: TypeAlias = "Mapping[str, Tensor]"
State: TypeAlias = "dict[str, Tensor]"


class Evidence(NamedTuple):
    """One observation that speaks for a finding."""

    signal: str
    value: float | str
    expected: str
    step: int | None = None


@dataclass(frozen=True)
class Finding:
    """What is wrong, how we know and what to do: the same type for data, recipes and training.

    `severity` is `info` (worth knowing), `warning` (will cost accuracy or time) or `critical` (this run
    cannot succeed); `confidence` lies in [0, 1]; `action` says what was done about it already.
    """

    cause: str
    severity: Severity
    confidence: float = 1.0
    where: str = ""
    evidence: tuple[Evidence, ...] = ()
    ruled_out: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()
    step: int | None = None
    reference: str = ""
    summary: str = ""
    action: str = ""
    examples: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready data."""
        return {
            **vars(self),
            "evidence": [item._asdict() for item in self.evidence],
            "ruled_out": list(self.ruled_out),
            "remedies": list(self.remedies),
            "examples": list(self.examples),
        }


@dataclass(frozen=True)
class Batch:
    """A batch on its way from the store to the net.

    images (b, c, h, w): uint8 until the colour stage of augmentation, then float in [0, 1];
    targets (b, k): float rows that sum to one; indices (b,): position of each image in the store.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    epoch: int = 0
    step: int = 0


class Geometry(Protocol):
    """Augmentation that moves pixels. All of an image's geometry is composed into one resampling."""

    slot: ClassVar[str]  # "augment"
    kind: ClassVar[Literal["geometry"]]

    def sample(self, rng: torch.Generator, batch: Batch) -> Params: ...

    def matrix(self, params: Params, height: int, width: int) -> Tensor:
        """(b, 3, 3): homogeneous map from output to input coordinates, both in [-1, 1] (x, y, 1)."""
        ...


class Colour(Protocol):
    """Augmentation that is an affine map of each pixel's colour. All are composed into one pass."""

    slot: ClassVar[str]  # "augment"
    kind: ClassVar[Literal["colour"]]

    def sample(self, rng: torch.Generator, batch: Batch) -> Params: ...

    def matrix(self, params: Params, mean: Tensor) -> Tensor:
        """(b, c, c + 1): new = A rgb + b in [0, 1]; `mean` (b, c) is each image's mean colour before it."""
        ...


class Pixels(Protocol):
    """Augmentation of float images that is neither of the two, such as cutout."""

    slot: ClassVar[str]  # "augment"
    kind: ClassVar[Literal["pixels"]]

    def sample(self, rng: torch.Generator, batch: Batch) -> Params: ...

    def apply(self, images: Tensor, params: Params) -> Tensor: ...


class Prepare(Protocol):
    """Preprocessing fitted on the training split alone and applied to everything after it."""

    slot: ClassVar[str]  # "prepare"

    def fit(self, chunks: Iterable[Tensor]) -> State:
        """From chunks (n, c, h, w) of uint8 training images, streamed."""
        ...

    def apply(self, images: Tensor, state: State) -> Tensor:
        """From float images in [0, 1] to what the net sees."""
        ...


class Initialise(Protocol):
    """Sets a fresh net's weights in place; `images` is one prepared training batch."""

    slot: ClassVar[str]  # "initialise"

    def apply(self, net: nn.Module, rng: torch.Generator, images: Tensor, gain: float) -> None: ...


class Activate(Protocol):
    slot: ClassVar[str]  # "activate"

    @property
    def gain(self) -> float: ...

    def build(self, channels: int) -> nn.Module: ...


class Regularise(Protocol):
    """Softens targets, adds a penalty, or projects weights after the update; the rest is the identity."""

    slot: ClassVar[str]  # "regularise"

    def targets(self, targets: Tensor) -> Tensor: ...


class Optimise(Protocol):
    slot: ClassVar[str]  # "optimise"
    lr: float

    def build(self, net: nn.Module) -> torch.optim.Optimizer:
        """One optimiser over the net's trainable parameters; each group carries its `initial_lr`."""
        ...


class Schedule(Protocol):
    slot: ClassVar[str]  # "schedule"

    def factor(self, progress: float) -> float:
        """What the LR is multiplied by at `progress` in [0, 1] of training."""
        ...


class Average(Protocol):
    slot: ClassVar[str]  # "average"

    def update(self, averaged: State, current: State, step: int) -> None:
        """Move `averaged` towards `current`, in place."""
        ...


class Views(Protocol):
    slot: ClassVar[str]  # "combine"

    def views(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """Weighted views of a batch; weights sum to one."""
        ...


class Net(Protocol):
    slot: ClassVar[str]  # "net"

    def build(self, channels: int, n_classes: int, activation: Callable[[int], nn.Module]) -> nn.Module:
        """A plain module from (b, channels, h, w) to logits (b, n_classes).

        `activation(channels)` makes a fresh activation.
        """
        ...
