"""The clinic as a callback of skorch's nets.

    net = NeuralNetClassifier(Module, criterion=nn.CrossEntropyLoss, callbacks=[ClinicCallback(classes=10)])

skorch shows each step's batch, loss and outputs; a hook on the module adds the inputs as it got them. With
NLLLoss, its default, a module gives probabilities: the clinic gets their logits, and there is no preflight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from skorch.callbacks import Callback
from torch import Tensor, nn

from convclinic.clinic.adapters.attached import Attachment, Tap, as_logits, tensor
from convclinic.clinic.watch import first_tensor
from convclinic.kinds import Finding


class ClinicCallback(Callback):
    """Watches `net.fit`; options are those of `Attachment`. They can be cloned and set as skorch does."""

    def __init__(
        self,
        classes: int | None = None,
        loss_fn: Callable[..., Tensor] | None = None,
        muted: Mapping[str, str] | None = None,
        preflight: bool = True,
    ) -> None:
        self.classes, self.loss_fn, self.muted, self.preflight = classes, loss_fn, muted, preflight
        self.attached_ = Attachment(classes, loss_fn, muted, preflight)

    def initialize(self) -> ClinicCallback:
        self.attached_ = Attachment(self.classes, self.loss_fn, self.muted, self.preflight)
        return self

    def findings(self) -> list[Finding]:
        return self.attached_.findings()

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        self.tap_ = Tap(net.module_)
        self.probabilities_ = isinstance(net.criterion_, nn.NLLLoss)
        loss_fn = None if self.probabilities_ else net.criterion_
        self.attached_.open(net.module_, [net.optimizer_], loss_fn)

    def on_batch_begin(self, net: Any, batch: Any = None, training: Any = None, **kwargs: Any) -> None:
        if training and isinstance(batch, list | tuple):
            device = next(net.module_.parameters()).device
            self.attached_.begin(_on(batch[0], device), _on(batch[1], device))

    def on_batch_end(self, net: Any, batch: Any = None, training: Any = None, **kwargs: Any) -> None:
        seen = self.tap_.take()
        logits = tensor(kwargs.get("y_pred"))
        if not training or seen is None or logits is None:
            return
        args, named, _ = seen
        targets = _on(batch[1], logits.device) if isinstance(batch, list | tuple) else None
        logits = as_logits(logits) if self.probabilities_ else logits
        self.attached_.observe(kwargs.get("loss"), first_tensor((*args, *named.values())), targets, logits)

    def on_epoch_end(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        self.attached_.epoch(net.history[-1])

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        self.tap_.close()
        self.attached_.close()


def _on(value: Any, device: Any) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value
