"""What the clinic saw, as plain data without torch: every rule is a pure function of it.

A value that was not measured is NaN in a column and None elsewhere, and a rule that needs it stays silent.
Steps count finished updates: 1 is the first, 0 is before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def _none() -> Floats:
    return np.empty(0)


@dataclass(frozen=True)
class Layer:
    """One module with weights of its own, in the order of `model.modules()`.

    kind is conv, linear, norm or other. gain is rms(weight) * sqrt(fan-in): 1.41 after He, 0.58 after
    PyTorch's own initialisation, NaN for norms. alike is the share of its units whose weights equal another
    unit's. untouched says that its weights still look like a fresh draw. head: the last conv or linear.
    """

    name: str
    kind: str
    units: int
    parameters: int
    trainable: bool = True
    optimised: bool = True
    untouched: bool = True
    gain: float = math.nan
    alike: float = 0.0
    head: bool = False


@dataclass(frozen=True)
class Group:
    """One parameter group of an optimizer, as it stands now. parameters: number of scalars; momentum: SGD's,
    or beta1 of Adam and its kin."""

    optimizer: str
    lr: float
    weight_decay: float
    parameters: int
    momentum: float = 0.0
    maximize: bool = False
    adaptive: bool = False  # Adam and its kin: the size of the gradient cancels


@dataclass(frozen=True)
class Setup:
    """The model and the optimizers as they are wired.

    missing: names of trainable parameters that no optimizer holds; foreign: how many tensors the optimizers
    hold that the model has not; parameters and trainable: numbers of scalars. dropouts: (module name, p).
    first_norm: a norm stands before the first layer, or follows it before any non-linearity. modes: names of
    modules whose training flag differs from the root's. training: the root's flag.
    """

    layers: tuple[Layer, ...] = ()
    groups: tuple[Group, ...] = ()
    missing: tuple[str, ...] = ()
    foreign: int = 0
    parameters: int = 0
    trainable: int = 0
    dropouts: tuple[tuple[str, float], ...] = ()
    batch_norms: int = 0
    first_norm: bool = False
    training: bool = True
    modes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """A batch as the net receives it. distinct: share of images that are not copies of another in it;
    flat: share of images whose pixels are all equal. Means and stds are also kept per channel."""

    shape: tuple[int, ...]
    mean: float
    std: float
    low: float
    high: float
    finite: bool = True
    distinct: float = 1.0
    flat: float = 0.0
    channel_means: tuple[float, ...] = ()
    channel_stds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Targets:
    """kind is classes (integers), one-hot, soft (rows that sum to one), multi (several ones), or other."""

    kind: str
    low: float
    high: float
    ignored: int = 0  # targets equal to the loss's ignore_index


@dataclass(frozen=True)
class Outputs:
    """What the net gives for a batch: (b, k). sums_to_one: rows are probabilities already (non-negative and
    sum to 1); log_probabilities: their exponentials sum to 1; bounded: all in [0, 1] without summing to 1;
    clipped: share of exact zeros (a ReLU at the end); last: the operation that made them, where known."""

    width: int
    mean: float
    std: float
    low: float
    high: float
    spread: float  # mean over images of the std over classes
    between: float  # mean over classes of the std over images: 0 when every image gets the same answer
    sums_to_one: bool = False
    log_probabilities: bool = False
    bounded: bool = False
    clipped: float = 0.0
    last: str = ""


@dataclass(frozen=True)
class Losses:
    """The loss that the loop reports beside what it would be under known formulas, for the same batch.

    reported: the loop's; cross_entropy: of the outputs as logits (mean); negative_log: minus the output at
    the target (NLL); squared: mean squared error against one-hot targets; binary: sigmoid cross-entropy
    against one-hot; prior: entropy of the batch's own label histogram; name: class of loss_fn, where known.
    smoothing: label smoothing of loss_fn.
    """

    reported: float
    cross_entropy: float = math.nan
    negative_log: float = math.nan
    squared: float = math.nan
    squared_softmax: float = math.nan
    binary: float = math.nan
    prior: float = math.nan
    name: str = ""
    smoothing: float = 0.0
    weighted: bool = False


@dataclass(frozen=True)
class First:
    """The first batch: from preflight, or else from the first step observed (then `step` is 1)."""

    inputs: Inputs | None = None
    targets: Targets | None = None
    outputs: Outputs | None = None
    losses: Losses | None = None
    step: int = 0


@dataclass(frozen=True)
class Depth:
    """One layer's output on one batch, in forward order. output: rms; gradient: rms of the loss's gradient
    with respect to its weights; relative: gradient's norm over the weights' norm; alike: share of units whose
    weights, bias and gradient all equal another unit's (1: the units can never become different)."""

    name: str
    kind: str
    output: float
    gradient: float = math.nan
    relative: float = math.nan
    alike: float = 0.0


@dataclass(frozen=True)
class OneBatch:
    """A copy of the net, fitted to a few images (up to 16) for a few steps with dropout off. lr is what it
    took, tried from the user's own optimizer settings first; own: the same with the user's own settings
    alone. last_loss is infinite where it diverged."""

    images: int
    classes: int
    steps: int
    first_loss: float
    last_loss: float
    accuracy: float
    lr: float
    own_last_loss: float = math.nan
    own_accuracy: float = math.nan


@dataclass(frozen=True)
class Preflight:
    """What can be measured on one batch with the loss function at hand.

    doubled: loss of the batch twice over loss of the batch once (1 for a mean, 2 for a sum); stale: a
    gradient was there already; one_batch: None where it was not tried; error: what the loss raised.
    """

    doubled: float = math.nan
    stale: bool = False
    depth: tuple[Depth, ...] = ()
    one_batch: OneBatch | None = None
    error: str = ""


@dataclass(frozen=True)
class Steps:
    """Columns over the observed steps, equally long, bounded: the first 256 steps are all kept, later ones
    thinned evenly. Cheap columns are there for each, the others NaN where a step was not measured.

    stale: 1 where a gradient of before the last update was still there when backward began; training: the
    root module's flag in the forward pass; waiting, computing: seconds from the end of the last update to
    the forward pass, and from there to the end of this update. ratio: norm of the update over norm of the
    weights, all trainable parameters together. noise: see `Labels` for what concerns labels.
    top: share of the commonest prediction in the batch; prior: entropy of the batch's labels.
    """

    step: Floats = field(default_factory=_none)
    loss: Floats = field(default_factory=_none)
    size: Floats = field(default_factory=_none)
    stale: Floats = field(default_factory=_none)
    training: Floats = field(default_factory=_none)
    waiting: Floats = field(default_factory=_none)
    computing: Floats = field(default_factory=_none)
    lr: Floats = field(default_factory=_none)
    grad_norm: Floats = field(default_factory=_none)
    weight_norm: Floats = field(default_factory=_none)
    ratio: Floats = field(default_factory=_none)
    cross_entropy: Floats = field(default_factory=_none)
    accuracy: Floats = field(default_factory=_none)
    spread: Floats = field(default_factory=_none)
    between: Floats = field(default_factory=_none)
    top: Floats = field(default_factory=_none)
    prior: Floats = field(default_factory=_none)
    input_mean: Floats = field(default_factory=_none)
    input_std: Floats = field(default_factory=_none)

    def __len__(self) -> int:
        return len(self.step)

    def known(self, *names: str) -> tuple[Floats, ...]:
        """These columns, at the steps where all of them were measured."""
        columns = [getattr(self, name) for name in names]
        here = np.all([np.isfinite(column) for column in columns], axis=0) if len(self) else slice(0)
        return tuple(column[here] for column in columns)


@dataclass(frozen=True)
class ByLayer:
    """Per layer of `names` (a column each) at measured `steps` (a row each): rms of the gradient, and norm of
    the update over norm of the weights. A layer that got no gradient at all has NaN."""

    names: tuple[str, ...] = ()
    steps: Floats = field(default_factory=_none)
    gradient: Floats = field(default_factory=lambda: np.empty((0, 0)))
    ratio: Floats = field(default_factory=lambda: np.empty((0, 0)))


@dataclass(frozen=True)
class Labels:
    """The labels of the training batches so far. counts: by class; batches: how many; within: probability
    that two labels of one batch agree, overall: that two labels of different batches do (equal when
    shuffled); ordered: share of batches (with two classes at least) whose labels never fall; single: share
    of batches of one class alone; confusion: (k, k) labels by predictions over the latest steps measured."""

    counts: tuple[int, ...] = ()
    batches: int = 0
    within: float = math.nan
    overall: float = math.nan
    ordered: float = 0.0
    single: float = 0.0
    confusion: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), np.int64))
    sure_wrong: float = math.nan  # share of the latest images given another class with probability > 0.9


@dataclass(frozen=True)
class Activation:
    """One non-linearity on the probe batch, in forward order. operation: relu, sigmoid, tanh, gelu, ...;
    silent: share of its units that are exactly zero for every image and place; zeros: share of zero entries;
    saturated: share of entries within 1 % of the ends of sigmoid or tanh; output: rms."""

    name: str
    operation: str
    units: int
    silent: float
    zeros: float
    saturated: float
    output: float


@dataclass(frozen=True)
class Probe:
    """The fixed probe batch, in training mode, after `step` updates. evaluated: cross-entropy of the same
    batch in evaluation mode (running statistics, no dropout); between: see Outputs; depth has no
    gradients."""

    step: int
    activations: tuple[Activation, ...] = ()
    depth: tuple[Depth, ...] = ()
    cross_entropy: float = math.nan
    evaluated: float = math.nan
    accuracy: float = math.nan
    between: float = math.nan


@dataclass(frozen=True)
class DataProbe:
    """A linear probe on 8 x 8 thumbnails of `images` training images seen so far, cross-validated: what can
    be learnt from these inputs about these labels without any net. nearest: share of images whose nearest
    other thumbnail has the same label; chance: the commonest class's share; noise: two standard errors."""

    images: int
    accuracy: float
    nearest: float
    chance: float
    noise: float


@dataclass(frozen=True)
class Evaluations:
    """Batches that went through the model without gradients: the validation, as far as can be told.

    forwards: how many; training: share of them in training mode; images: seen in all; repeats: share of
    those compared whose pixels equal a training image's (compared: how many were); inputs: of the first such
    batches; train: Inputs of as many training images; since: step of the first.
    """

    forwards: int = 0
    training: float = 0.0
    images: int = 0
    compared: int = 0
    repeats: float = 0.0
    inputs: Inputs | None = None
    train: Inputs | None = None
    since: int = 0


@dataclass(frozen=True)
class Epoch:
    """What `observe_epoch` was told, and the mean training loss since the epoch before. All in [0, 1] but
    the losses; None where not told."""

    epoch: int
    step: int
    train_loss: float | None = None
    train_accuracy: float | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    recalls: tuple[float, ...] | None = None
    lr: float | None = None


@dataclass(frozen=True)
class NonFinite:
    """The first value that is no number. what: inputs, targets, weight, gradient, output or loss; name: of
    the tensor; order: names of modules before it that were still finite; examples: positions in the batch."""

    step: int
    what: str
    name: str
    order: tuple[str, ...] = ()
    examples: tuple[int, ...] = ()


@dataclass(frozen=True)
class Signals:
    """Everything at once. `classes` is None where nobody said; `validation` the number of validation images,
    None where unknown; `unseen` what this source of signals can never show (curves alone have no nets)."""

    classes: int | None = None
    setup: Setup | None = None
    first: First = field(default_factory=First)
    preflight: Preflight | None = None
    steps: Steps = field(default_factory=Steps)
    by_layer: ByLayer = field(default_factory=ByLayer)
    labels: Labels = field(default_factory=Labels)
    probes: tuple[Probe, ...] = ()
    data_probe: DataProbe | None = None
    evaluations: Evaluations = field(default_factory=Evaluations)
    epochs: tuple[Epoch, ...] = ()
    non_finite: NonFinite | None = None
    observed: int = 0  # steps observed so far
    updates: int = 0  # optimizer steps seen by its hook
    moved: bool = True  # whether the weights changed at all since the first step observed
    validation: int | None = None
    unseen: tuple[str, ...] = ()

    @property
    def floor(self) -> float:
        """Cross-entropy of always answering the labels' shares: what a net that learnt nothing reaches."""
        counts = np.asarray(self.labels.counts, float)
        if counts.sum() > 0:
            shares = counts[counts > 0] / counts.sum()
            return float(-(shares * np.log(shares)).sum())
        return math.log(self.classes) if self.classes else math.nan
