"""Tricks in a fastai Learner: one callback for augmentation, mixup and max-norm, and a schedule of ours.

    pip install fastai
    python examples/fastai_learner.py

A schedule of convclinic is a function of the share of training that is done, which is what fastai's
ParamScheduler asks for.
"""

from __future__ import annotations

import torch
from coloured_digits import CLASSES, SIDE, load, small_net
from fastai.callback.core import Callback
from fastai.callback.schedule import ParamScheduler
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.metrics import accuracy
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from convclinic.augmenter import Augment
from convclinic.ground.rng import generator
from convclinic.tricks.augment.colour_jitter import ColourJitter
from convclinic.tricks.augment.shift import Shift
from convclinic.tricks.mix import mixup
from convclinic.tricks.regularise.max_norm import MaxNorm
from convclinic.tricks.schedule.one_cycle import OneCycle

EPOCHS, BATCH, LR, SEED = 6, 64, 3e-3, 0


class Tricks(Callback):
    """What convclinic does to each batch, and to the weights after each step."""

    def __init__(self) -> None:
        self.augment = Augment([Shift(pixels=1), ColourJitter()], size=(SIDE, SIDE), seed=SEED)
        self.max_norm = MaxNorm(c=4.0)

    def before_batch(self) -> None:
        (images,), (labels,) = self.learn.xb, self.learn.yb
        images = self.augment.train(self.training)(images)
        if self.training:
            targets = F.one_hot(labels, CLASSES).float()
            drawn = mixup.sample(generator(SEED, "mixup", self.train_iter), len(images), alpha=0.2)
            on_device = {name: value.to(images.device) for name, value in drawn.items()}
            images, targets = mixup.apply(images, targets, **on_device)
            self.learn.yb = (targets,)
        self.learn.xb = (images,)

    def after_step(self) -> None:
        self.max_norm.project(self.learn.model, lr=self.learn.opt.hypers[-1]["lr"])


def main() -> float:
    torch.manual_seed(SEED)
    data = load()
    train = DataLoader(
        TensorDataset(data.train_images, data.train_labels), bs=BATCH, shuffle=True, drop_last=True
    )
    test = DataLoader(TensorDataset(data.test_images, data.test_labels), bs=BATCH)
    learner = Learner(
        DataLoaders(train, test, device=torch.device("cpu")),
        small_net(),
        loss_func=F.cross_entropy,
        metrics=accuracy,
    )
    schedule = OneCycle()
    with learner.no_bar(), learner.no_logging():
        scheduler = ParamScheduler({"lr": lambda done: LR * schedule.factor(done)})
        learner.fit(EPOCHS, LR, cbs=[Tricks(), scheduler])
        _, reached = learner.validate(cbs=Tricks())
    print(f"accuracy {reached:.1%}")
    return float(reached)


if __name__ == "__main__":
    main()
