"""The clinic as a callback of Lightning's Trainer.

    trainer = Trainer(callbacks=[ClinicCallback(classes=10)])

The net is the module itself, or its only child with weights where it has no `forward` of its own; inputs and
logits come from a hook on it, the loss from what `training_step` returns, targets from the batch: the second
of a pair, or "labels", "label", "targets", "target" or "y" of a dict. A loss that is a child is found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss  # pyright: ignore[reportPrivateUsage] - the family of all losses

from convclinic.clinic.adapters.attached import Attachment, Tap
from convclinic.clinic.watch import first_tensor
from convclinic.kinds import Finding

LABELS = ("labels", "label", "targets", "target", "y")


class ClinicCallback(pl.Callback):
    """Watches `Trainer.fit`; options are those of `Attachment`, `net` the part of the module to watch."""

    def __init__(
        self,
        classes: int | None = None,
        loss_fn: Callable[..., Tensor] | None = None,
        muted: Mapping[str, str] | None = None,
        preflight: bool = True,
        net: nn.Module | None = None,
    ) -> None:
        self.attached = Attachment(classes, loss_fn, muted, preflight)
        self.net = net
        self._candidates: list[nn.Module] = []
        self._tap: Tap | None = None
        self._validated = False

    def findings(self) -> list[Finding]:
        return self.attached.findings()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._candidates = [self.net] if self.net is not None else _nets(pl_module)
        self._open(trainer, pl_module)

    def _open(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._tap is not None:
            self._tap.close()
        net = self._candidates.pop(0)
        losses = [child for child in pl_module.children() if isinstance(child, _Loss)]
        self._tap = Tap(net)
        self.attached.open(net, trainer.optimizers, losses[0] if len(losses) == 1 else None)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.attached.begin(*_pair(batch))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            loss = loss * trainer.accumulate_grad_batches  # Lightning has divided it
        seen = self._tap.take() if self._tap is not None else None
        inputs, targets = _pair(batch)
        if seen is None and self._candidates:  # this module is only a shell
            self._open(trainer, pl_module)
        elif seen is None:
            self.attached.observe(loss, inputs, targets, None)
        else:
            args, kwargs, output = seen
            self.attached.observe(
                loss, first_tensor((*args, *kwargs.values())), targets, first_tensor(output)
            )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {  # those of a validation stay there until the next one
            name: number
            for name, number in trainer.callback_metrics.items()
            if self._validated or not name.lower().startswith(("val", "eval"))
        }
        self.attached.epoch(metrics)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._tap is not None:
            self._tap.close()
        self.attached.close()


def _nets(module: pl.LightningModule) -> list[nn.Module]:
    """What may be the net, the likeliest first: the module, and a child that has all of its weights."""
    own = type(module).forward is not pl.LightningModule.forward
    all_weights = sum(1 for _ in module.parameters())
    whole = [child for child in module.children() if sum(1 for _ in child.parameters()) == all_weights]
    return [module, *whole[:1]] if own or not whole else whole[:1]


def _pair(batch: Any) -> tuple[Any, Any]:
    """Inputs and targets of a batch, None for what is not told apart."""
    if isinstance(batch, Mapping):
        targets = next((batch[name] for name in LABELS if name in batch), None)
        inputs = next((part for name, part in batch.items() if name not in LABELS), None)
        return inputs, targets
    if isinstance(batch, Sequence) and len(batch) >= 2:
        return batch[0], batch[1]
    return None, None
