"""Each adapter inside the real library: a small net on digits, with and without a planted fault.

Every library runs the same trainings: healthy (nothing is said), softmax before cross-entropy, and a net left
in evaluation mode. Weights with the clinic are bit for bit those without it.
"""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.peers import mend_torchvision

BATCH, EPOCHS, TRAIN, SEED = 64, 3, 1280, 5
STEPS = EPOCHS * TRAIN // BATCH
FAULTS = {"softmax": "wrong_loss_pairing", "eval": "wrong_mode"}
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


def library(name: str) -> Any:
    """The library, or a skip; what it warns of while it is imported is its own affair."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mend_torchvision()
        return pytest.importorskip(name, exc_type=ImportError)


def adapter(name: str) -> Any:
    return importlib.import_module(f"convclinic.clinic.adapters.{name}")


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    pixels = torch.from_numpy(images[order].reshape(-1, 1, 8, 8).astype(np.float32) / 16)
    return pixels, torch.from_numpy(labels[order].astype(np.int64))


def split() -> tuple[TensorDataset, TensorDataset]:
    x, y = digits()
    return TensorDataset(x[:TRAIN], y[:TRAIN]), TensorDataset(x[TRAIN:], y[TRAIN:])


class Frozen(nn.Sequential):
    """A net whose author forgot that `eval` was called: no trainer can put it into training mode."""

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)


def net(fault: str | None, gives_probabilities: bool = False) -> nn.Sequential:
    torch.manual_seed(SEED)
    layers: list[nn.Module] = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()]
    layers += [nn.Dropout(0.2), nn.Linear(512, 10)]
    if fault == "softmax" or gives_probabilities:
        layers.append(nn.Softmax(1))
    return Frozen(*layers).train() if fault == "eval" else nn.Sequential(*layers)


Trained = tuple[dict[str, torch.Tensor], Any]  # the weights, and the callback


def with_lightning(fault: str | None, watched: bool, folder: Path) -> Trained:
    pl = library("lightning.pytorch")

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.loss = net(fault), nn.CrossEntropyLoss()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            logits = self.net(batch[0])
            self.log("train_acc", (logits.argmax(1) == batch[1]).float().mean(), on_epoch=True, on_step=False)
            return self.loss(logits, batch[1])

        def validation_step(self, batch: Any, index: int) -> None:
            logits = self.net(batch[0])
            self.log_dict({"val_loss": self.loss(logits, batch[1])})
            self.log_dict({"val_acc": (logits.argmax(1) == batch[1]).float().mean()})

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.05, momentum=0.9)

    callback = adapter("lightning").ClinicCallback(classes=10)
    train, held = split()
    module = Module()
    torch.manual_seed(SEED)
    trainer = pl.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False,
        default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[callback] if watched else [],
    )  # fmt: skip
    trainer.fit(module, DataLoader(train, BATCH, shuffle=True), DataLoader(held, BATCH))
    return module.net.state_dict(), callback


def with_transformers(fault: str | None, watched: bool, folder: Path) -> Trained:
    library("accelerate")
    hf = library("transformers")

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net(fault)

        def train(self, mode: bool = True) -> Model:
            return super().train(mode and fault != "eval")

        def forward(
            self, pixels: torch.Tensor, labels: torch.Tensor | None = None
        ) -> dict[str, torch.Tensor]:
            logits = self.net(pixels)
            loss = {} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)}
            return {**loss, "logits": logits}

    callback = adapter("transformers").ClinicCallback(classes=10)
    train, held = [[{"pixels": x, "labels": y} for x, y in part] for part in split()]
    model = Model()
    options = hf.TrainingArguments(
        str(folder), num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH, learning_rate=3e-3,
        use_cpu=True, eval_strategy="epoch", save_strategy="no", report_to=[], disable_tqdm=True, seed=SEED,
        per_device_eval_batch_size=BATCH, logging_strategy="no", lr_scheduler_type="constant",
    )  # fmt: skip

    def accuracy(predicted: Any) -> dict[str, float]:
        return {"accuracy": float((predicted.predictions.argmax(1) == predicted.label_ids).mean())}

    trainer = hf.Trainer(model, options, train_dataset=train, eval_dataset=held, compute_metrics=accuracy)
    if watched:
        trainer.add_callback(callback)
    trainer.train()
    return model.state_dict(), callback


def with_fastai(fault: str | None, watched: bool, folder: Path, torch_optimizer: bool = False) -> Trained:
    vision = library("fastai.learner")
    data = library("fastai.data.core")
    metrics = library("fastai.metrics")
    optimizer = library("fastai.optimizer")
    train, held = split()
    loaders = data.DataLoaders(DataLoader(train, BATCH, shuffle=True), DataLoader(held, BATCH))
    opt = optimizer.Adam
    if torch_optimizer:
        opt = lambda params, **settings: optimizer.OptimWrapper(params, torch.optim.Adam, **settings)  # noqa: E731
    learner = vision.Learner(
        loaders, net(fault), loss_func=nn.CrossEntropyLoss(), opt_func=opt, metrics=metrics.accuracy
    )
    callback = adapter("fastai").ClinicCallback(classes=10)
    torch.manual_seed(SEED)
    with learner.no_logging():
        learner.fit(EPOCHS, lr=3e-3, cbs=[callback] if watched else [])
    return learner.model.state_dict(), callback


def with_skorch(fault: str | None, watched: bool, folder: Path, probabilities: bool = False) -> Trained:
    skorch = library("skorch")
    callback = adapter("skorch").ClinicCallback(classes=10)
    x, y = digits()
    torch.manual_seed(SEED)
    trained = skorch.NeuralNetClassifier(
        net(fault, probabilities), criterion=nn.NLLLoss if probabilities else nn.CrossEntropyLoss, lr=0.05,
        optimizer=torch.optim.SGD, optimizer__momentum=0.9, batch_size=BATCH, max_epochs=EPOCHS, verbose=0,
        callbacks=[callback] if watched else [], iterator_train__shuffle=True, callbacks__print_log=None,
        classes=list(range(10)),
    )  # fmt: skip
    trained.fit(x.numpy(), y.numpy())
    return trained.module_.state_dict(), callback


def with_keras(fault: str | None, watched: bool, folder: Path, probabilities: bool = True) -> Trained:
    keras = library("keras")
    layers = keras.layers
    keras.utils.set_random_seed(SEED)
    parts = [keras.Input((8, 8, 1)), layers.Conv2D(8, 3, padding="same"), layers.BatchNormalization()]
    if fault == "dead":
        parts.append(layers.Rescaling(1.0, offset=-30.0))
    parts += [layers.ReLU(), layers.Flatten(), layers.Dropout(0.2)]
    ends_in_softmax = probabilities or fault == "softmax"
    model = keras.Sequential([*parts, layers.Dense(10, activation="softmax" if ends_in_softmax else None)])
    from_logits = fault == "softmax" or not probabilities
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, metrics=["accuracy"])
    callback = adapter("keras").ClinicCallback(classes=10)
    x, y = (part.numpy() for part in digits())
    x = x.transpose(0, 2, 3, 1)
    model.fit(
        x[:TRAIN], y[:TRAIN], batch_size=BATCH, epochs=EPOCHS, validation_data=(x[TRAIN:], y[TRAIN:]),
        verbose=0, callbacks=[callback] if watched else [],
    )  # fmt: skip
    return {name: torch.from_numpy(value) for name, value in enumerate(model.get_weights())}, callback  # type: ignore


Train = Callable[[str | None, bool, Path], Trained]
TRAINERS = {
    "lightning": with_lightning,
    "transformers": with_transformers,
    "fastai": with_fastai,
    "skorch": with_skorch,
    "keras": with_keras,
}
trainers = pytest.mark.parametrize("train", TRAINERS.values(), ids=TRAINERS)


def alarms(callback: Any) -> set[str]:
    return {finding.cause for finding in callback.findings() if finding.severity != "info"}


@trainers
def test_healthy_run_is_watched_in_silence_and_left_bit_identical(train: Train, tmp_path: Path) -> None:
    alone, _ = train(None, False, tmp_path)
    weights, callback = train(None, True, tmp_path)
    assert not alarms(callback)
    assert weights.keys() == alone.keys()
    assert all(torch.equal(weights[name], alone[name]) for name in weights)


@trainers
def test_every_step_and_epoch_is_fed(train: Train, tmp_path: Path) -> None:
    _, callback = train(None, True, tmp_path)
    clinic = (callback.attached if hasattr(callback, "attached") else callback.attached_).clinic
    signals = clinic.signals()
    loss, own, accuracy = signals.steps.known("loss", "cross_entropy", "accuracy")
    assert signals.observed == signals.updates == len(signals.steps)
    assert signals.observed in (STEPS, EPOCHS * 23)  # skorch splits the data by itself
    np.testing.assert_allclose(own, loss, rtol=1e-3)  # loss, logits and targets belong together
    assert accuracy[-1] > 0.8 > accuracy[0]
    assert np.isfinite(signals.steps.known("ratio")[0]).sum() > 10
    assert (signals.steps.known("grad_norm")[0] > 0).all()
    assert len(signals.epochs) == EPOCHS
    assert signals.epochs[-1].val_accuracy > 0.8
    assert signals.epochs[-1].val_loss < 1


@pytest.mark.parametrize("name", ["lightning", "transformers", "fastai", "skorch"])
def test_the_first_batch_is_examined_before_its_step(name: str, tmp_path: Path) -> None:
    _, callback = TRAINERS[name](None, True, tmp_path)
    clinic = (callback.attached if hasattr(callback, "attached") else callback.attached_).clinic
    signals = clinic.signals()
    assert signals.preflight is not None and signals.preflight.error == ""
    assert signals.first.step == 0
    assert signals.preflight.one_batch.accuracy > 0.9
    assert [layer.name.split(".")[-1] for layer in signals.preflight.depth] == ["0", "5"]


def test_a_loss_of_the_models_own_kind_is_not_taken_for_cross_entropy() -> None:
    library("transformers")
    agrees = adapter("transformers")._is_cross_entropy
    logits, labels = torch.randn(8, 10), torch.arange(8)
    loss = nn.functional.cross_entropy(logits, labels)
    assert agrees({"loss": loss, "logits": logits}, labels)
    assert not agrees({"loss": 2 * loss, "logits": logits}, labels)
    assert not agrees({"logits": logits}, labels)
    assert not agrees((loss, logits), labels)


@pytest.mark.parametrize(
    "train",
    [
        partial(with_skorch, probabilities=True),
        partial(with_keras, probabilities=False),
        partial(with_fastai, torch_optimizer=True),
    ],
    ids=["skorch: probabilities", "keras: logits", "fastai: optimizer of PyTorch"],
)
def test_other_custom_of_a_library_is_healthy_too(train: Train, tmp_path: Path) -> None:
    _, callback = train(None, True, tmp_path)
    clinic = (callback.attached if hasattr(callback, "attached") else callback.attached_).clinic
    signals = clinic.signals()
    loss, own = signals.steps.known("loss", "cross_entropy")
    assert signals.updates == signals.observed >= STEPS
    np.testing.assert_allclose(own, loss, rtol=1e-3)
    assert not alarms(callback)


def test_layers_of_keras_are_told_by_name_and_left_as_they_were(tmp_path: Path) -> None:
    _, callback = with_keras("dead", True, tmp_path)
    finding = next(finding for finding in callback.findings() if finding.cause == "dead_relu")
    assert finding.severity != "info" and finding.where.startswith("re_lu")
    names = callback.attached.clinic.signals().by_layer.names
    assert [name.split(".")[0].rstrip("_0123456789") for name in names] == [
        "conv2d",
        "batch_normalization",
        "dense",
    ]
    assert set(callback.model._modules) == {"_functional", "_torch_params"}
    assert not {"compute_loss"} & set(vars(callback.model))


@pytest.mark.parametrize("fault", FAULTS)
@trainers
def test_planted_fault_is_named(train: Train, fault: str, tmp_path: Path, caplog: Any) -> None:
    if train is with_keras and fault == "eval":
        pytest.skip("Keras has no such mode: `training` is an argument")
    with caplog.at_level(logging.WARNING, "convclinic.clinic"):
        _, callback = train(fault, True, tmp_path)
    assert callback.findings()[0].cause == FAULTS[fault]
    assert sum(FAULTS[fault] in record.getMessage() for record in caplog.records) == 1  # told once
