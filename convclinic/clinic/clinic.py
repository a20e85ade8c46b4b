"""The clinic at the side of anyone's PyTorch loop.

    clinic = Clinic(model, optimizer, classes=10)
    clinic.preflight(inputs, targets, loss_fn)      # one batch, before the first step
    ...                                             # the loop, unchanged; after each step:
    clinic.observe(loss=loss, inputs=inputs, targets=targets, logits=logits)
    clinic.observe_epoch(train_accuracy=..., val_loss=..., val_accuracy=...)
    clinic.findings()

It looks and never touches: weights, buffers, gradients and random state are bit for bit those of the same
loop without it.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from convclinic.clinic import data_probe, measure, preflight, probe, taking
from convclinic.clinic.columns import Columns
from convclinic.clinic.evaluations import MOST_MEASURED, MOST_TRAINING, pixels
from convclinic.clinic.judging import causes, judge
from convclinic.clinic.label_watch import LabelWatch
from convclinic.clinic.signals import (
    DataProbe,
    Epoch,
    First,
    Floats,
    NonFinite,
    Preflight,
    Probe,
    Setup,
    Signals,
)
from convclinic.clinic.watch import Watch, bare, measured
from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.kinds import Finding

FETCH_EVERY = 32  # steps between two transfers from an accelerator, and between two entries into the tables
LABELS_EVERY = 8  # steps between two looks at the labels, after the first 256
PROBE_VALUES = 2**22  # numbers in the probe batch at most


class Clinic:
    """Watches `model` while `optimizer` (one or several) trains it, and says what is wrong.

    classes is the number of classes, where known; loss_fn the loss, where the loop does not give it to
    `preflight`; muted maps causes that are not to be named to the reason why; step is how many updates are
    done already, in a run that goes on.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
        classes: int | None = None,
        *,
        loss_fn: Callable[..., Tensor] | None = None,
        muted: Mapping[str, str] | None = None,
        step: int = 0,
    ) -> None:
        optimizers = [optimizer] if isinstance(optimizer, torch.optim.Optimizer) else list(optimizer)
        self.model, self.optimizers, self.classes, self.loss_fn = model, optimizers, classes, loss_fn
        self.muted: dict[str, str] = {}
        for cause, reason in (muted or {}).items():
            self.mute(cause, reason)
        self._watch = Watch(model, optimizers, step + 1, self._fetch)
        self._columns, self._labels = Columns(), LabelWatch(classes)
        self._setup: Setup | None = measure.setup(model, optimizers)
        self._first = First()
        self._preflight: Preflight | None = None
        self._probes: list[Probe] = []
        self._probe_batch: tuple[Tensor, Tensor | None] | None = None
        self._thumbnails: list[tuple[Floats, Floats]] = []
        self._data_probe: DataProbe | None = None
        self._epochs: list[Epoch] = []
        self._losses: list[float] = []  # since the last epoch
        self._non_finite: NonFinite | None = None
        self._pending: list[taking.Taken] = []
        self._observed = self._validation = self._evaluated = self._offered = 0

    def preflight(
        self,
        inputs: Tensor,
        targets: Tensor,
        loss_fn: Callable[..., Tensor] | None = None,
        *,
        one_batch: bool = True,
    ) -> list[Finding]:
        """Examine one batch before the first step; returns what is found already.

        inputs (b, ...) as the model takes them, targets as the loss takes them; one_batch: also fit a copy
        of the model to a few of the images, which takes about as long as ten steps.
        """
        self.loss_fn = loss_fn or self.loss_fn
        with self._pause():
            self._setup, self._first, self._preflight = preflight.measure(
                self.model, self.optimizers, inputs, targets, self.loss_fn, self.classes, one_batch
            )
            self._keep_probe(inputs, targets)
            self._look(0)
        return self.findings()

    def observe(
        self,
        loss: Tensor | float,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        logits: Tensor | None = None,
    ) -> None:
        """One step that the loop has just finished. What is not given is not judged."""
        now, watch = time.perf_counter(), self._watch
        step = watch.step
        row = {"step": float(step)}
        if watch.began is not None:
            row["computing"] = now - watch.began
            if watch.ended is not None and not watch.evaluated:
                row["waiting"] = watch.began - watch.ended
        taken = taking.Taken(row)
        taken.add("loss", taking.scalar(loss))
        taken.add("training", watch.training)
        taken.add("stale", watch.stale)
        self._take(taken, step, inputs, targets, logits)
        if not self._observed:
            self._begin(loss, inputs, targets, logits)
        self._observed += 1
        self._pending.append(taken)
        if len(self._pending) >= FETCH_EVERY or not math.isfinite(row.get("loss", 0.0)):
            self._fetch(inputs, targets, logits)
        if probe.due(step):
            with self._pause():
                self._look(step)
        watch.next_step()

    def observe_epoch(
        self,
        train_accuracy: float | None = None,
        val_loss: float | None = None,
        val_accuracy: float | None = None,
        val_per_class_recall: Sequence[float] | None = None,
    ) -> None:
        """The end of an epoch, or of any interval between two validations. Accuracies in [0, 1]."""
        self._fetch()
        for name, share in (("train_accuracy", train_accuracy), ("val_accuracy", val_accuracy)):
            if share is not None and not -1e-6 <= float(share) <= 1 + 1e-6:
                raise ConvclinicError(f"{name} is {share}", fix="give a share between 0 and 1, not per cent")
        evaluated = self._watch.evaluations.images - self._watch.evaluations.own_images
        if evaluated > self._evaluated:
            self._validation, self._evaluated = evaluated - self._evaluated, evaluated
        recalls = None if val_per_class_recall is None else tuple(float(r) for r in val_per_class_recall)
        self._epochs.append(
            Epoch(
                len(self._epochs) + 1,
                self._observed,
                float(np.mean(self._losses)) if self._losses else None,
                None if train_accuracy is None else float(train_accuracy),
                None if val_loss is None else float(val_loss),
                None if val_accuracy is None else float(val_accuracy),
                recalls,
                self._lr(),
            )
        )
        self._losses = []
        self._setup = measure.wired_again(self._setup, self.model, self.optimizers)

    def findings(self) -> list[Finding]:
        """What is wrong, the most likely root first; empty when all is well. May be asked at any time."""
        return list(judge(self.signals(), self.muted))

    def signals(self) -> Signals:
        """Everything seen so far, as plain data."""
        self._fetch()
        validated = any(epoch.val_accuracy is not None for epoch in self._epochs)
        setup = self._setup and dataclasses.replace(self._setup, groups=measure.groups(self.optimizers))
        return Signals(
            classes=self.classes,
            setup=setup,
            first=self._first,
            preflight=self._preflight,
            steps=self._columns.steps(),
            by_layer=self._columns.by_layer(self._watch.names),
            labels=self._labels.signal(),
            probes=tuple(self._probes),
            data_probe=self._examine_data(),
            evaluations=self._watch.evaluations.signal(validated),
            epochs=tuple(self._epochs),
            non_finite=self._non_finite,
            observed=self._observed,
            updates=self._watch.updates,
            moved=self._watch.moved or not self._observed,
            validation=self._validation or None,
        )

    def mute(self, cause: str, reason: str) -> None:
        """Never name `cause` again. Raises ConvclinicError for an unknown one or an empty reason."""
        if cause not in causes():
            raise ConvclinicError(f"there is no cause '{cause}'", fix=nearest(cause, causes()))
        if not reason.strip():
            raise ConvclinicError(
                f"no reason to mute {cause}", fix="say why, for whoever reads the run later"
            )
        self.muted[cause] = reason

    def close(self) -> None:
        """Remove all hooks; `findings` still answers."""
        self._fetch()
        self._watch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pause(self) -> _Paused:
        return _Paused(self._watch)

    def _lr(self) -> float | None:
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        return float(groups[0]["lr"]) if groups else None

    def _take(
        self,
        taken: taking.Taken,
        step: int,
        inputs: Tensor | None,
        targets: Tensor | None,
        logits: Tensor | None,
    ) -> None:
        """Put into `taken` what this step is to show."""
        full, watch = measured(step), self._watch
        labels = taking.hard(targets)
        if labels is not None:
            taken.row["size"] = float(len(labels))
            if full or step <= 256 or step % LABELS_EVERY == 0:
                taken.add("labels", labels)
        if inputs is not None:
            taken.row["size"] = float(len(inputs))
            if not self._epochs and self._offered < data_probe.MOST and labels is not None:
                taken.add("thumbnails", taking.small(inputs))
                self._offered += len(inputs)
            new = not self._epochs and len(watch.evaluations.trained) < MOST_TRAINING
            if inputs.ndim >= 3 and (full or new):
                taken.add("pixels", pixels(inputs))
        if not full:
            return
        taken.add("lr", self._lr())
        for name in ("gradients", "weights", "changes"):
            taken.add(name, getattr(watch, name))
        if logits is not None and logits.ndim == 2:
            taken.add("logits", logits)
            taken.add("soft", targets if targets is not None and targets.ndim == 2 else None)
        if inputs is not None and inputs.is_floating_point():
            taken.row["input_mean"] = taken.row["input_std"] = math.nan  # from its pixels, on the host
            if inputs.ndim == 4 and watch.evaluations.train.batches < MOST_MEASURED:
                watch.evaluations.train.add(inputs)

    def _begin(self, loss: Any, inputs: Tensor | None, targets: Tensor | None, logits: Tensor | None) -> None:
        """The first step observed stands for what preflight would have measured."""
        if self._setup is None or not self._setup.layers:  # lazy layers have weights only now
            self._setup = measure.setup(self.model, self.optimizers)
        if self._preflight is None:
            width = logits.shape[-1] if logits is not None else self.classes
            ignore = int(getattr(self.loss_fn, "ignore_index", measure.IGNORED))
            reported = float(taking.scalar(loss))
            self._first = First(
                None if inputs is None else measure.inputs(inputs),
                None if targets is None else measure.targets(targets, width, ignore),
                None if logits is None else measure.outputs(logits),
                None
                if logits is None or targets is None
                else measure.losses(reported, logits.detach(), targets, self.loss_fn),
                step=1,
            )
        if self._probe_batch is None and inputs is not None:
            self._keep_probe(inputs, targets)

    def _keep_probe(self, inputs: Tensor, targets: Tensor | None) -> None:
        each = max(1, inputs[0].numel())
        n = max(2, min(probe.IMAGES, PROBE_VALUES // each))
        labels = taking.hard(targets)
        self._probe_batch = (inputs[:n].detach().clone(), None if labels is None else labels[:n].clone())

    def _look(self, step: int) -> None:
        if self._probe_batch is not None:
            self._probes.append(probe.look(self.model, *self._probe_batch, step))

    def _fetch(
        self, inputs: Tensor | None = None, targets: Tensor | None = None, logits: Tensor | None = None
    ) -> None:
        """Bring what is pending to the host and into the tables."""
        block, self._pending = self._pending, []
        taking.fetch(block)
        self._learn(block)
        for taken in block:
            self._file(taken.row, taken.arrays)
            if self._non_finite is None and not math.isfinite(taken.row["loss"]):
                with self._pause():
                    step = int(taken.row["step"])
                    self._non_finite = _name_non_finite(self.model, step, inputs, targets, logits)

    def _learn(self, block: list[taking.Taken]) -> None:
        """Note which images these steps trained on, and thumbnails of those that were not seen before."""
        shown = [taken for taken in block if "pixels" in taken.arrays]
        if not shown or self._epochs:
            return
        new = self._watch.evaluations.learn([taken.arrays["pixels"] for taken in shown])
        for taken, here in zip(shown, new, strict=True):
            small, labels = taken.arrays.get("thumbnails"), taken.arrays.get("labels")
            if small is not None and labels is not None:
                rows = zip(small[here].astype(np.float64), labels[here].astype(np.float64), strict=True)
                self._thumbnails += list(rows)

    def _file(self, row: dict[str, float], arrays: dict[str, taking.Array]) -> None:
        """One step's arrays into the tables."""
        row.update({name: float(value) for name, value in arrays.items() if value.ndim == 0})
        self._file_images(row, arrays)
        if "gradients" in arrays:
            watch, unknown = self._watch, np.full_like(arrays["weights"], math.nan)
            gradients, weights, changes = (
                watch.by_layer(arrays.get(name, unknown).astype(np.float64))
                for name in ("gradients", "weights", "changes")
            )
            row["grad_norm"], row["weight_norm"] = _norm(gradients), _norm(weights)
            row["ratio"] = _norm(changes) / max(row["weight_norm"], 1e-12)
            with np.errstate(invalid="ignore"):  # infinite weights after an infinite update
                ratios = changes / np.maximum(weights, 1e-12)
            self._columns.append_layers(int(row["step"]), gradients / np.sqrt(watch.sizes), ratios)
        self._losses.append(row["loss"])
        self._columns.append(row)

    def _file_images(self, row: dict[str, float], arrays: dict[str, taking.Array]) -> None:
        """What concerns the images of one step, their labels and what the net made of them."""
        labels, logits, rows = (arrays.get(name) for name in ("labels", "logits", "pixels"))
        numbers = None if labels is None else labels.astype(np.int64)
        if numbers is not None:
            row["prior"] = self._labels.see(numbers)
        if logits is not None:
            kept = taking.of_outputs(logits, labels, arrays.get("soft"))
            wrong = kept.pop("sure_wrong", math.nan)
            row.update(kept)
            if numbers is not None and len(numbers) == len(logits):
                self._labels.predicted(numbers, logits.argmax(1), wrong)
        if rows is not None and "input_mean" in row:
            row["input_mean"], row["input_std"] = float(rows.mean()), float(rows.std())

    def _examine_data(self) -> DataProbe | None:
        """The probe of the images seen so far, made again when they have doubled in number."""
        n = min(len(self._thumbnails), data_probe.MOST)
        if n >= max(data_probe.LEAST, 2 * self._data_probe.images if self._data_probe else 0) or (
            self._data_probe is not None and n == data_probe.MOST > self._data_probe.images
        ):
            rows, labels = (np.stack(part) for part in zip(*self._thumbnails[:n], strict=True))
            kinds = int(labels.max()) + 1
            if labels.min() >= 0:
                self._data_probe = data_probe.examine(rows, labels.astype(np.int64), kinds)
        return self._data_probe


class _Paused:
    """While it lasts, forward passes through the model are the clinic's own."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def __enter__(self) -> None:
        self.watch.paused = True

    def __exit__(self, *_: object) -> None:
        self.watch.paused = False


def _norm(values: Floats) -> float:
    there = values[~np.isnan(values)]
    return float(np.sqrt((there**2).sum())) if len(there) else math.nan


def _name_non_finite(
    model: nn.Module, step: int, inputs: Tensor | None, targets: Tensor | None, logits: Tensor | None
) -> NonFinite:
    """Where the first value that is no number stands: inputs, then targets, then the loss itself where the
    outputs are finite, then weights, then outputs in forward order."""
    for what, tensor in (("inputs", inputs), ("targets", targets)):
        if tensor is not None and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = ~torch.isfinite(tensor.detach().flatten(1) if tensor.ndim > 1 else tensor[:, None]).all(1)
            return NonFinite(step, what, what, examples=tuple(bad.nonzero()[:, 0].tolist()))
    if logits is not None and bool(torch.isfinite(logits.detach()).all()):
        return NonFinite(step, "loss", "loss", ("outputs",))  # so were the weights, before this update
    for name, parameter in bare(model).named_parameters():
        if not bool(torch.isfinite(parameter.detach()).all()):
            return NonFinite(step, "weight", name)
    found = probe.first_bad(model, inputs) if inputs is not None else None
    if found is not None:
        return NonFinite(step, "output", found[0], found[1])
    return NonFinite(step, "loss", "loss")
