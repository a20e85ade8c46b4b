"""The clinic as a callback of Hugging Face's Trainer.

    trainer = Trainer(model, ..., callbacks=[ClinicCallback(classes=10)])

The trainer shows its callbacks no batch. A hook on the model sees the inputs, the `labels` beside them, and
the loss and logits that it gives. Steps whose loss the trainer itself computes (label smoothing,
`compute_loss_func`) are not observed, which is logged once. The preflight is made in the first forward pass,
where the model takes the images first and its loss is the cross-entropy of its logits.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from convclinic.clinic.adapters.attached import LOG, Attachment, Seen, Tap
from convclinic.clinic.watch import first_tensor
from convclinic.kinds import Finding


class ClinicCallback(TrainerCallback):
    """Watches `Trainer.train`; options are those of `Attachment`."""

    def __init__(
        self, classes: int | None = None, muted: Mapping[str, str] | None = None, preflight: bool = True
    ) -> None:
        self.attached = Attachment(classes, muted=muted, preflight=preflight)
        self._tap: Tap | None = None
        self._blind = False

    def findings(self) -> list[Finding]:
        return self.attached.findings()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._close()
        model: nn.Module = kwargs["model"]
        optimizer = getattr(kwargs["optimizer"], "optimizer", kwargs["optimizer"])  # out of Accelerate's
        self._tap = Tap(model, lambda seen: self._begin(model, seen))
        self.attached.open(model, [optimizer])

    def _begin(self, model: nn.Module, seen: Seen) -> None:
        """Preflight, where the first batch shows that the model can be called and judged like any other."""
        positional, named, output = seen
        images = (
            positional[0]
            if positional
            else named.get(next(iter(inspect.signature(model.forward).parameters)))
        )
        if isinstance(images, Tensor) and _is_cross_entropy(output, named.get("labels")):
            self.attached.loss_fn = nn.CrossEntropyLoss()
            self.attached.begin(images, named["labels"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        seen = self._tap.take() if self._tap is not None else None
        if seen is not None:
            positional, named, output = seen
            loss = output.get("loss") if isinstance(output, Mapping) else None
            labels = named.get("labels")
            inputs = first_tensor((*positional, *(part for name, part in named.items() if name != "labels")))
            if loss is None and not self._blind:
                LOG.warning("the model gives no loss, so the clinic sees nothing: let it compute its own")
                self._blind = True
            self.attached.observe(loss, inputs, labels, first_tensor(output))

    on_substep_end = on_step_end  # a part of an update, with gradient accumulation

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.attached.epoch(kwargs.get("metrics") or {})

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.eval_strategy == "no":
            self.attached.epoch({})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._tap is not None:
            self._tap.close()
        self.attached.close()


def _is_cross_entropy(output: Any, labels: Any) -> bool:
    """Whether the loss in a model's output is the cross-entropy of the logits in it."""
    if not isinstance(output, Mapping) or not isinstance(labels, Tensor) or labels.is_floating_point():
        return False
    loss, logits = output.get("loss"), output.get("logits")
    if not isinstance(loss, Tensor) or not isinstance(logits, Tensor) or logits.ndim != 2 or labels.ndim != 1:
        return False
    own = F.cross_entropy(logits.detach().float(), labels)
    return torch.allclose(loss.detach().float(), own, rtol=1e-3, atol=1e-4)
