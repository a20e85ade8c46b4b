"""The clinic as a callback of fastai's Learner.

    learn.fit(5, cbs=ClinicCallback(classes=10))

fastai's own optimizers are not PyTorch's: a mirror stands in for them. The finder of the learning rate is not
watched, since it is meant to diverge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastai.callback.core import Callback
from torch import Tensor
from torch.optim import Optimizer

from convclinic.clinic.adapters.attached import Attachment, Mirror
from convclinic.clinic.watch import first_tensor
from convclinic.kinds import Finding

KINDS = {
    "adam_step": "Adam",
    "radam_step": "RAdam",
    "qhadam_step": "QHAdam",
    "lamb_step": "Lamb",
    "rms_prop_step": "RMSprop",
}


class ClinicCallback(Callback):
    """Watches `Learner.fit`; options are those of `Attachment`."""

    order = 80  # after mixup and its like, which change the batch, and after mixed precision

    def __init__(
        self,
        classes: int | None = None,
        loss_fn: Callable[..., Tensor] | None = None,
        muted: Mapping[str, str] | None = None,
        preflight: bool = True,
    ) -> None:
        super().__init__()
        self.attached = Attachment(classes, loss_fn, muted, preflight)
        self.mirror: Mirror | None = None

    def findings(self) -> list[Finding]:
        return self.attached.findings()

    def before_fit(self) -> None:
        learn: Any = self.learn
        self.run = not hasattr(learn, "lr_finder") and not hasattr(learn, "gather_preds")
        if self.run:
            optimizer, self.mirror = _optimizer(learn.opt)
            self.attached.open(learn.model, [optimizer], learn.loss_func)

    def before_batch(self) -> None:
        learn: Any = self.learn
        if learn.training:
            self.attached.begin(first_tensor(learn.xb), next(iter(learn.yb), None))

    def before_step(self) -> None:
        learn: Any = self.learn
        if self.mirror is not None:
            for group, now in zip(self.mirror.param_groups, learn.opt.hypers, strict=True):
                group.update(_settings(now))
            self.mirror.before()

    def after_step(self) -> None:
        if self.mirror is not None:
            self.mirror.after()

    def after_batch(self) -> None:
        learn: Any = self.learn
        if learn.training and len(learn.yb):
            self.attached.observe(learn.loss, first_tensor(learn.xb), learn.yb[0], learn.pred)

    def after_epoch(self) -> None:
        recorder = getattr(self.learn, "recorder", None)
        names = [*getattr(recorder, "metric_names", ())][1:-1]  # without the epoch and the time
        measured = dict(zip(names, [*getattr(recorder, "log", ())][1:], strict=False))
        known = {name if "_" in name else f"valid_{name}": number for name, number in measured.items()}
        self.attached.epoch(known)

    def after_fit(self) -> None:
        self.attached.close()


def _settings(hypers: Mapping[str, Any]) -> dict[str, Any]:
    """A group's settings under PyTorch's names."""
    return {"lr": hypers["lr"], "weight_decay": hypers.get("wd", 0.0), "momentum": hypers.get("mom", 0.0)}


def _optimizer(opt: Any) -> tuple[Optimizer, Mirror | None]:
    """PyTorch's optimizer inside fastai's wrapper, or else a mirror of fastai's own."""
    inner = getattr(opt, "opt", None)
    if isinstance(inner, Optimizer):
        return inner, None
    steps = [getattr(callback, "__name__", "") for callback in opt.cbs]
    kind = next((KINDS[name] for name in steps if name in KINDS), "SGD")
    groups = [
        {"params": list(parameters), **_settings(hypers)}
        for parameters, hypers in zip(opt.param_lists, opt.hypers, strict=True)
    ]
    mirror = Mirror.of(kind, groups)
    return mirror, mirror
