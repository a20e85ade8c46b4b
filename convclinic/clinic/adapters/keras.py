"""The clinic as a callback of Keras 3 on its torch backend.

    model.fit(x, y, callbacks=[ClinicCallback(classes=10)])

Keras shows its callbacks running means alone. While training lasts, two methods are therefore stood in for by
ones that call them and look: `model.compute_loss`, which has the batch, the outputs and the loss, and
`model.optimizer.apply`. Where the loss takes probabilities, as is Keras's custom, the clinic gets logits. The
layers, whose weights Keras keeps in one dictionary, are children of the model meanwhile, so that they have
names of their own.

Less is seen than of a PyTorch net: there is no preflight; kernels have another layout, so initial weights are
not judged; dropout and normalisation follow the argument `training`, so probes see them at rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import torch
from torch import Tensor

from convclinic.clinic.adapters.attached import Attachment, Mirror, as_logits, tensor
from convclinic.clinic.watch import first_tensor
from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Finding


class ClinicCallback(keras.callbacks.Callback):
    """Watches `Model.fit`; options are those of `Attachment`."""

    def __init__(self, classes: int | None = None, muted: Mapping[str, str] | None = None) -> None:
        super().__init__()
        if keras.backend.backend() != "torch":
            raise ConvclinicError(
                f"Keras runs on {keras.backend.backend()}",
                fix="set KERAS_BACKEND=torch before it is imported",
            )
        self.attached = Attachment(classes, muted=muted, preflight=False)
        self._mirror: Mirror | None = None
        self._stand_ins: list[tuple[Any, str]] = []
        self._children: dict[str, Any] | None = None
        self._batch: tuple[Any, Any, Any, Tensor] | None = None
        self._probabilities: bool | None = None

    def findings(self) -> list[Finding]:
        return self.attached.findings()

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._leave()  # a training that was broken off
        model: Any = self.model
        optimizer = model.optimizer
        self._probabilities = None
        self._children = dict(model._modules)
        _set_children(model, {layer.name: layer for layer in model.layers} | self._children)
        weights = [variable.value for variable in model.trainable_variables]
        group = {"params": weights, **_settings(optimizer)}
        self._mirror = Mirror.of(type(optimizer).__name__, [group])
        self.attached.open(model, [self._mirror])
        self._stand_in(model, "compute_loss", self._compute_loss)
        self._stand_in(optimizer, "apply", self._apply)

    def _stand_in(self, owner: Any, name: str, method: Callable[..., Any]) -> None:
        original = getattr(owner, name)
        object.__setattr__(owner, name, lambda *args, **kwargs: method(original, *args, **kwargs))
        self._stand_ins.append((owner, name))

    def _compute_loss(
        self,
        original: Callable[..., Tensor],
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        loss = original(x, y, y_pred, sample_weight, **kwargs)
        if torch.is_grad_enabled():
            self._batch = x, y, y_pred, loss
        return loss

    def _apply(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._mirror is None:
            return original(*args, **kwargs)
        model: Any = self.model
        self._mirror.before(**_settings(model.optimizer))
        result = original(*args, **kwargs)
        self._mirror.after()
        batch, self._batch = self._batch, None
        if batch is not None:
            x, y, outputs, loss = batch
            self.attached.observe(loss, first_tensor(x), _labels(y), self._logits(outputs))
        return result

    def _logits(self, outputs: Any) -> Tensor | None:
        """Logits of what the net gave. Outputs that are no probabilities are left: their loss is mistaken."""
        model: Any = self.model
        given = tensor(outputs)
        if given is None or _takes_logits(model.loss):
            return given
        if self._probabilities is None:
            self._probabilities = bool(((given >= 0) & (given <= 1 + 1e-6)).all())
        return as_logits(given) if self._probabilities else given

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.attached.epoch(logs or {})

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._leave()
        self.attached.close()

    def _leave(self) -> None:
        """The model is as it was before training."""
        while self._stand_ins:
            owner, name = self._stand_ins.pop()
            object.__delattr__(owner, name)
        children, self._children = self._children, None
        if children is not None:
            _set_children(self.model, children)


def _set_children(model: Any, children: Mapping[str, Any]) -> None:
    """PyTorch's table of child modules, in this order: weights belong to the first that has them."""
    model._modules.clear()
    model._modules.update(children)


def _settings(optimizer: Any) -> dict[str, float]:
    """The settings of a Keras optimizer under PyTorch's names."""
    momentum, decay = (getattr(optimizer, name, None) for name in ("momentum", "weight_decay"))
    return {
        "lr": float(optimizer.learning_rate),
        "momentum": float(momentum or 0.0),
        "weight_decay": float(decay or 0.0),
    }


def _takes_logits(loss: Any) -> bool:
    """Whether a loss given as object, function or name takes logits; in Keras they take probabilities unless
    told otherwise, and only the cross-entropies do either."""
    name = getattr(loss, "name", None) or getattr(loss, "__name__", None) or str(loss)
    if "crossentropy" not in name:
        return True
    return bool(getattr(loss, "from_logits", False))


def _labels(y: Any) -> Any:
    """Class numbers as (b,), where Keras has (b, 1)."""
    return y[:, 0] if isinstance(y, Tensor) and y.ndim == 2 and y.shape[1] == 1 else y
