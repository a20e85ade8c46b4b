"""What all adapters share: a clinic that is opened, fed, listened to and closed.

Steps go to `observe` once each, gradient accumulation's smaller ones included. At the end of an epoch, and of
training, each new cause of a warning or worse is logged once, by the logger "convclinic.clinic".
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from convclinic.clinic.clinic import Clinic
from convclinic.kinds import Finding

LOG = logging.getLogger("convclinic.clinic")
_ACCURACY = r"(?:(?:sparse_|multiclass_|multi_class_)?(?:categorical_)?accuracy|acc)(?:_?(?:score|top_?1|1))?"
_TRAIN, _VALIDATION = r"(?:train(?:ing)?_)?", r"(?:val|valid|validation|eval)_"
_LEAST = 1e-7  # probability that a logarithm is taken of


class Attachment:
    """One clinic and what its adapter was told.

    classes is the number of classes, loss_fn the loss of (outputs, targets) where the trainer does not know
    it, muted maps causes that are not to be named to the reason; preflight: whether the first batch is
    examined before its step, where the trainer shows it and the loss is known.
    """

    def __init__(
        self,
        classes: int | None = None,
        loss_fn: Callable[..., Tensor] | None = None,
        muted: Mapping[str, str] | None = None,
        preflight: bool = True,
    ) -> None:
        self.classes, self.loss_fn, self.muted, self.wanted = classes, loss_fn, muted, preflight
        self.clinic: Clinic | None = None
        self._fresh = False
        self._told: set[str] = set()

    def open(self, model: nn.Module, optimizers: Sequence[Optimizer], loss_fn: Any = None) -> None:
        """Attach a new clinic; one that is still at work is closed. `loss_fn` is the trainer's own."""
        self.close()
        self.loss_fn = self.loss_fn or loss_fn
        self.clinic = Clinic(model, list(optimizers), self.classes, loss_fn=self.loss_fn, muted=self.muted)
        self._fresh, self._told = True, set()

    def begin(self, inputs: object, targets: object) -> None:
        """A batch that is about to be trained on: the first one is for the preflight."""
        fresh, self._fresh = self._fresh, False
        images, labels = tensor(inputs), tensor(targets)
        if (
            fresh
            and self.wanted
            and self.clinic
            and self.loss_fn
            and images is not None
            and labels is not None
        ):
            self.clinic.preflight(images, labels, self.loss_fn)

    def observe(self, loss: Any, inputs: object, targets: object, logits: object) -> None:
        """A step that is done. Without a loss there is nothing to say of it."""
        self._fresh = False
        if self.clinic is not None and loss is not None:
            loss = plain(loss) if isinstance(loss, Tensor) else loss
            self.clinic.observe(
                loss=loss, inputs=tensor(inputs), targets=tensor(targets), logits=tensor(logits)
            )

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """The end of an epoch, with what the trainer measured under whatever names are usual."""
        if self.clinic is not None:
            self.clinic.observe_epoch(
                train_accuracy=share(metrics, _TRAIN + _ACCURACY),
                val_loss=value(metrics, _VALIDATION + "loss"),
                val_accuracy=share(metrics, _VALIDATION + _ACCURACY),
            )
            self._tell()

    def findings(self) -> list[Finding]:
        return self.clinic.findings() if self.clinic is not None else []

    def close(self) -> None:
        """Training is over: the hooks go, the findings stay."""
        if self.clinic is not None:
            self._tell()
            self.clinic.close()

    def _tell(self) -> None:
        for finding in self.findings():
            if finding.severity != "info" and finding.cause not in self._told:
                self._told.add(finding.cause)
                LOG.warning("%s (%s): %s", finding.cause, finding.severity, finding.summary)


Seen = tuple[tuple[Any, ...], dict[str, Any], Any]


class Tap:
    """The latest inputs and outputs of `module` while gradients were on, as its own forward pass had them.

    `first` is called with those of the first pass, before any gradient is there.
    """

    def __init__(self, module: nn.Module, first: Callable[[Seen], None] | None = None) -> None:
        self._first = first
        self._handle = module.register_forward_hook(self._passed, with_kwargs=True)
        self._latest: Seen | None = None

    def _passed(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if torch.is_grad_enabled():
            first, self._first = self._first, None
            if first is not None:
                first((args, kwargs, output))  # it may run the module
            self._latest = args, kwargs, output

    def take(self) -> Seen | None:
        """Arguments, keyword arguments and output, once: nothing is held longer than the trainer holds it."""
        latest, self._latest = self._latest, None
        return latest

    def close(self) -> None:
        self._handle.remove()


class Mirror(Optimizer):
    """Stands in, for the clinic's hooks, for an optimizer that is not PyTorch's; it never changes a weight.

    `before` and `after` are called around the real update; `groups` are those of the real optimizer.
    """

    @classmethod
    def of(cls, name: str, groups: list[dict[str, Any]]) -> Mirror:
        """A mirror that bears the real optimizer's name, by which rules know its kind."""
        return type(name, (cls,), {})(groups, {})

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        raise NotImplementedError("the real optimizer steps")

    def before(self, **settings: float) -> None:
        """The real update begins; settings such as lr are what every group has now."""
        for group in self.param_groups:
            group.update(settings)
        for hook in tuple(self._optimizer_step_pre_hooks.values()):
            hook(self, (self,), {})

    def after(self) -> None:
        for hook in tuple(self._optimizer_step_post_hooks.values()):
            hook(self, (self,), {})


def plain(value: Tensor) -> Tensor:
    """Without its graph, and without a trainer's own kind of tensor, whose operations may act otherwise."""
    value = value.detach()
    return value if type(value) is Tensor else value.as_subclass(Tensor)


def tensor(value: object) -> Tensor | None:
    return plain(value) if isinstance(value, Tensor) else None


def as_logits(probabilities: Tensor) -> Tensor:
    """Logits whose softmax is `probabilities` (b, k), for trainers whose nets give those by custom.

    Of all such logits those that sum to zero, so that they cannot be taken for log-probabilities.
    """
    logits = probabilities.detach().clamp_min(_LEAST).log()
    return logits - logits.mean(-1, keepdim=True)


def value(metrics: Mapping[str, Any], pattern: str) -> float | None:
    """The first metric whose name is `pattern`, however its words are joined; None without a finite one.

    >>> value({"Valid/Loss": 0.5}, _VALIDATION + "loss")
    0.5
    """
    for name, number in metrics.items():
        if re.fullmatch(pattern + "(?:_epoch)?", re.sub(r"[^a-z0-9]+", "_", name.lower())):
            try:
                found = float(number)
            except (TypeError, ValueError):
                continue
            if math.isfinite(found):
                return found
    return None


def share(metrics: Mapping[str, Any], pattern: str) -> float | None:
    """The same in [0, 1]: what is above one is per cent."""
    found = value(metrics, pattern)
    return found / 100 if found is not None and found > 1 else found
