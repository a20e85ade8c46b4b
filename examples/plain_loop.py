"""Tricks in a plain PyTorch loop: augmentation, mixup, RReLU, max-norm and a schedule.

    python examples/plain_loop.py

Every trick is one file. Of most of them the pure functions are all that a loop needs, such as `sample` and
`apply` of mixup; the class beside them holds the options.
"""

from __future__ import annotations

import torch
from coloured_digits import CLASSES, SIDE, accuracy, load, small_net
from torch.nn import functional as F

from convclinic.augmenter import Augment
from convclinic.checks import check_net, check_optimizer
from convclinic.ground.rng import generator
from convclinic.tricks.activate.rrelu import RReLU
from convclinic.tricks.augment.colour_jitter import ColourJitter
from convclinic.tricks.augment.fancy_pca import FancyPCA
from convclinic.tricks.augment.shift import Shift
from convclinic.tricks.initialise.he import He
from convclinic.tricks.mix import mixup
from convclinic.tricks.regularise.max_norm import MaxNorm
from convclinic.tricks.schedule.one_cycle import OneCycle

EPOCHS, BATCH, LR, SEED = 6, 64, 0.1, 0


def main() -> float:
    torch.manual_seed(SEED)
    data = load()
    activation, schedule, max_norm = RReLU(), OneCycle(), MaxNorm(c=4.0)
    fancy_pca = FancyPCA().fit([data.train_images])  # its colours are those of the training split
    augment = Augment([Shift(pixels=1), fancy_pca, ColourJitter()], size=(SIDE, SIDE), seed=SEED)

    net = small_net(activation.build)
    He().apply(net, generator(SEED, "he"), data.train_images, activation.gain)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9, nesterov=True)
    for finding in [*check_net(net), *check_optimizer(net, optimizer)]:
        print(finding.severity, finding.summary)

    per_epoch = len(data.train_images) // BATCH
    for step in range(EPOCHS * per_epoch):
        if step % per_epoch == 0:
            order = torch.randperm(len(data.train_images))
        chosen = order[step % per_epoch * BATCH :][:BATCH]
        images = augment(data.train_images[chosen])
        targets = F.one_hot(data.train_labels[chosen], CLASSES).float()
        drawn = mixup.sample(generator(SEED, "mixup", step), len(images), alpha=0.2)
        images, targets = mixup.apply(images, targets, **drawn)

        net.train()
        loss = F.cross_entropy(net(images), targets)
        optimizer.zero_grad()
        loss.backward()
        lr = LR * schedule.factor(step / (EPOCHS * per_epoch))
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        max_norm.project(net, lr)

    augment.eval()  # nothing is drawn any more
    reached = accuracy(net, augment(data.test_images), data.test_labels)
    print(f"accuracy {reached:.1%}")
    return reached


if __name__ == "__main__":
    main()
