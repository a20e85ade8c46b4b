"""The types every room shares: what a batch is, what a finding is, and one protocol per slot.

torch is imported for type checkers only, so the data check-up runs without it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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


class Policy(Protocol):
    """Augmentation that draws among several kinds, such as RandAugment; handed on in parts of one kind."""

    slot: ClassVar[str]  # "augment"
    kind: ClassVar[Literal["policy"]]

    def sample(self, rng: torch.Generator, batch: Batch) -> Params: ...

    def parts(self, params: Params) -> Sequence[tuple[Geometry | Colour | Pixels, Params]]:
        """What was drawn, as parts with parameters of their own, in the order of work."""
        ...


class Prepare(Protocol):
    """Preprocessing fitted on the training split alone and applied to everything after it."""

    slot: ClassVar[str]  # "prepare"

    def fit(self, chunks: Iterable[Tensor]) -> State:
        """From chunks (n, c, h, w) of training images, streamed: uint8 as stored when this trick is the
        first of its slot, else float as the tricks before it leave them."""
        ...

    def apply(self, images: Tensor, state: State) -> Tensor:
        """From float images in [0, 1] to what the net sees."""
        ...


class Initialise(Protocol):
    """Sets a fresh net's weights in place; `images` is one prepared training batch."""

    slot: ClassVar[str]  # "initialise"

    def apply(self, net: nn.Module, rng: torch.Generator, images: Tensor, gain: float) -> None: ...


class Load(Protocol):
    """Weights that a net starts from."""

    slot: ClassVar[str]  # "transfer"
    kind: ClassVar[Literal["load"]]

    def load(self, net: nn.Module) -> Any:
        """Fill a fresh net in place, and say what fitted: a `Matched`."""
        ...


class Rate(Protocol):
    """How fast each stage of a net learns. Several in a recipe are multiplied."""

    slot: ClassVar[str]  # "transfer"
    kind: ClassVar[Literal["rate"]]

    def rate(self, depth: int, stages: Sequence[str], progress: float) -> float:
        """What the LR of a stage is multiplied by at `progress` in [0, 1]; at 0 it has no gradient either.

        depth is its place in `stages`, from input to output; len(stages) is the head, which is never at 0."""
        ...


class Mode(Protocol):
    """How some modules of a net work in training."""

    slot: ClassVar[str]  # "transfer"
    kind: ClassVar[Literal["mode"]]

    def install(self, net: nn.Module) -> None:
        """Freeze in place what is never to learn, before the optimiser is built."""
        ...

    def hold(self, net: nn.Module) -> None:
        """Set modes in place, each time the net was put into training mode."""
        ...


class Anchor(Protocol):
    """Weights that training is to stay near."""

    slot: ClassVar[str]  # "transfer"
    kind: ClassVar[Literal["anchor"]]

    def reference(self, net: nn.Module, loaded: Collection[str]) -> State:
        """Copies of what is to be remembered of a net at the start; `loaded` names its pretrained tensors."""
        ...

    def penalty(self, net: nn.Module, reference: State) -> Tensor:
        """A scalar in float32, added to the loss, that gradients flow through."""
        ...


class Activate(Protocol):
    """A non-linearity. One that reads several maps for each it leaves (maxout) says how many in `pieces`."""

    slot: ClassVar[str]  # "activate"

    @property
    def gain(self) -> float: ...

    def build(self, channels: int) -> nn.Module:
        """A fresh module that leaves (b, channels, ...)."""
        ...


class Targets(Protocol):
    """Regularisation that softens the targets."""

    slot: ClassVar[str]  # "regularise"
    kind: ClassVar[Literal["targets"]]

    def targets(self, targets: Tensor) -> Tensor: ...


class Penalty(Protocol):
    """Regularisation by a term that is added to the loss."""

    slot: ClassVar[str]  # "regularise"
    kind: ClassVar[Literal["penalty"]]

    def penalty(self, net: nn.Module) -> Tensor:
        """A scalar in float32 that gradients flow through."""
        ...


class Projection(Protocol):
    """Regularisation that changes the weights in place, right after each update."""

    slot: ClassVar[str]  # "regularise"
    kind: ClassVar[Literal["projection"]]

    def project(self, net: nn.Module, lr: float) -> None: ...


class Noise(Protocol):
    """Regularisation inside the net, such as dropout: put into a fresh net before its weights are set."""

    slot: ClassVar[str]  # "regularise"
    kind: ClassVar[Literal["noise"]]

    def install(self, net: nn.Module) -> None:
        """Fill the net's places for it, in place. Raises ConvclinicError when the net has none."""
        ...


class Normalise(Protocol):
    slot: ClassVar[str]  # "normalise"

    def build(self, channels: int) -> nn.Module:
        """A layer over maps (b, channels, h, w), between a convolution and its activation."""
        ...


class Sampling(Protocol):
    """How rare classes get their share by what an epoch visits."""

    slot: ClassVar[str]  # "balance"
    kind: ClassVar[Literal["sampling"]]

    def visits(self, rng: torch.Generator, labels: Tensor, progress: float) -> Tensor:
        """(m,) int64 positions into `labels` (n,), shuffled; m is the same for every epoch of a run.

        `progress` in [0, 1] is that of the epoch's first step.
        """
        ...


class LossBalance(Protocol):
    """How rare classes get their share by what the loss counts."""

    slot: ClassVar[str]  # "balance"
    kind: ClassVar[Literal["loss"]]

    def weights(self, counts: Tensor) -> Tensor:
        """(k,) the loss's weight of each class, from the training images (k,) of each; ones for no weighting.

        Weighted by `counts`, their mean is one, so that the loss keeps its scale."""
        ...

    def offsets(self, counts: Tensor) -> Tensor:
        """(k,) what is added to the logits in training; zeros for nothing."""
        ...


class Optimise(Protocol):
    slot: ClassVar[str]  # "optimise"
    lr: float

    def build(self, net: nn.Module) -> torch.optim.Optimizer:
        """One optimiser over the net's trainable parameters; each group carries its `initial_lr`."""
        ...


class Schedule(Protocol):
    """A factor of the LR; several schedules in a recipe are multiplied."""

    slot: ClassVar[str]  # "schedule"

    def factor(self, progress: float) -> float:
        """What the LR is multiplied by at `progress` in [0, 1] of training."""
        ...


class Watch(NamedTuple):
    """What a schedule that reacts remembers between evaluations; part of the training state."""

    scale: float = 1.0
    best: float = float("-inf")
    waited: int = 0


class Reactive(Protocol):
    """A schedule that also listens to validation, such as reduce on plateau."""

    slot: ClassVar[str]  # "schedule"

    def factor(self, progress: float) -> float: ...

    def observe(self, watch: Watch, metric: float) -> Watch:
        """After an evaluation; higher `metric` is better. From then on `watch.scale` multiplies the LR."""
        ...


class Scaled(Protocol):
    """A schedule's factor that depends on the batch size alone."""

    slot: ClassVar[str]  # "schedule"

    def factor(self, progress: float) -> float: ...

    def scale(self, batch_size: int) -> float: ...


class Average(Protocol):
    slot: ClassVar[str]  # "average"

    def update(self, averaged: State, current: State, step: int) -> None:
        """Move `averaged` towards `current`, in place."""
        ...


class Views(Protocol):
    """Fixed views of an image at test time. `mean` says what is averaged over them."""

    slot: ClassVar[str]  # "combine"
    mean: str  # "logits" or "probabilities"

    def views(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """Weighted views of a batch (b, c, h, w), of any size; weights sum to one."""
        ...


def has_own_scale(layer: nn.Module) -> bool:
    """Whether the net divides what this layer gives by a number of its own, and has drawn weights that suit:
    initialisers and limits of length, made for layers as they usually are, leave it as it is."""
    return bool(getattr(layer, "own_scale", False))


@dataclass(frozen=True)
class Layers:
    """What a net is built from where the user has a choice.

    activation(channels) makes a fresh activation that leaves `channels` maps. It is given `pieces` times as
    many: 1 but for maxout, which keeps the largest of each `pieces` neighbouring maps. norm(channels) makes a
    normalisation layer; None leaves the net what its paper has.
    """

    activation: Callable[[int], nn.Module]
    norm: Callable[[int], nn.Module] | None = None
    pieces: int = 1


class Net(Protocol):
    slot: ClassVar[str]  # "net"

    def build(self, channels: int, n_classes: int, layers: Layers) -> nn.Module:
        """A plain module from (b, channels, h, w) to logits (b, n_classes)."""
        ...
