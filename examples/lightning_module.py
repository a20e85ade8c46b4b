"""Tricks in a LightningModule: augmentation on the device, cutmix, a schedule and max-norm, each in its hook.

    pip install lightning
    python examples/lightning_module.py

Lightning sets the module, and with it `Augment`, to training or to evaluation: one line serves both. The
number of batches that were drawn for is part of its checkpoint, so a resumed run goes on with new draws.
"""

from __future__ import annotations

from typing import Any

import lightning
import torch
from coloured_digits import CLASSES, SIDE, load, small_net
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from convclinic.augmenter import Augment
from convclinic.ground.rng import generator
from convclinic.tricks.augment.colour_jitter import ColourJitter
from convclinic.tricks.augment.shift import Shift
from convclinic.tricks.mix import cutmix
from convclinic.tricks.regularise.max_norm import MaxNorm
from convclinic.tricks.schedule.one_cycle import OneCycle

EPOCHS, BATCH, LR, SEED = 6, 64, 0.1, 0


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = small_net()
        self.augment = Augment([Shift(pixels=1), ColourJitter()], size=(SIDE, SIDE), seed=SEED)
        self.schedule, self.max_norm = OneCycle(), MaxNorm(c=4.0)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        images, labels = batch
        return self.augment(images), labels

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        drawn = cutmix.sample(generator(SEED, "cutmix", self.global_step), len(images), p=0.3, alpha=1.0)
        on_device = {name: value.to(self.device) for name, value in drawn.items()}
        images, targets = cutmix.apply(images, F.one_hot(labels, CLASSES).float(), **on_device)
        return F.cross_entropy(self.net(images), targets)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.max_norm.project(self.net, lr=self.optimizers().param_groups[0]["lr"])

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.log("accuracy", (self.net(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.SGD(self.parameters(), lr=LR, momentum=0.9, nesterov=True)
        steps = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.schedule.factor(min(1.0, step / steps))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main() -> float:
    lightning.seed_everything(SEED, verbose=False)
    data = load()
    train = DataLoader(
        TensorDataset(data.train_images, data.train_labels), BATCH, shuffle=True, drop_last=True
    )
    test = DataLoader(TensorDataset(data.test_images, data.test_labels), BATCH)
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Classifier()
    trainer.fit(model, train)
    (results,) = trainer.test(model, test, verbose=False)
    reached = float(results["accuracy"])
    print(f"accuracy {reached:.1%}")
    return reached


if __name__ == "__main__":
    main()
