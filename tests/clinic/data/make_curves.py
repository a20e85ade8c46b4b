"""Writes lr_curves.json beside it: real curves of a small net on scikit-learn's digits at several LRs.

1,297 images of 8 x 8 pixels for training and 500 for validation; convolutions of 16 and 32 channels and a
linear layer; SGD with momentum 0.9, batches of 64 (and of 2), seed 0. The run called `memorised` trains on 60
images; `tiny` has one channel and passes all through one number, so that it can learn little. Run by hand:

    python tests/clinic/data/make_curves.py
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

RUNS = {  # name: LR, batch, images, epochs, channels
    "lr 3e-5": (3e-5, 64, 1297, 12, 16),
    "lr 1e-4": (1e-4, 64, 1297, 12, 16),
    "lr 3e-4": (3e-4, 64, 1297, 12, 16),
    "lr 0.03": (0.03, 64, 1297, 12, 16),
    "lr 0.1": (0.1, 64, 1297, 12, 16),
    "lr 0.3": (0.3, 64, 1297, 12, 16),
    "lr 0.5": (0.5, 64, 1297, 12, 16),
    "lr 1": (1.0, 64, 1297, 12, 16),
    "lr 30": (30.0, 64, 1297, 12, 16),
    "batch 2": (0.003, 2, 400, 4, 16),
    "memorised": (0.05, 20, 60, 60, 16),
    "tiny": (0.03, 64, 1297, 20, 1),
}


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return (images[order] - 0.3) / 0.38, torch.tensor(data.target)[order]


def train(lr: float, batch: int, n: int, epochs: int, channels: int) -> dict[str, list[list[float]]]:
    torch.manual_seed(0)
    images, labels = digits()
    (x, y), (vx, vy) = (images[:n], labels[:n]), (images[1297:], labels[1297:])
    net = nn.Sequential(
        *(nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.Flatten()),
        nn.Linear(2 * channels * 16, 10)
        if channels > 1
        else nn.Sequential(nn.Linear(32, 1), nn.Linear(1, 10)),
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    steps: list[list[float]] = []
    ends: list[list[float]] = []
    for _ in range(epochs):
        right = losses = 0.0
        for rows in torch.randperm(n).split(batch):
            logits = net(x[rows])
            loss = F.cross_entropy(logits, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps.append([len(steps) + 1, round(loss.item(), 4), len(rows)])
            right += (logits.argmax(1) == y[rows]).sum().item()
            losses += loss.item() * len(rows)
        with torch.no_grad():
            logits = net(vx)
        val = [F.cross_entropy(logits, vy).item(), (logits.argmax(1) == vy).float().mean().item()]
        ends.append([len(steps), *(round(value, 4) for value in (losses / n, right / n, *val))])
    return {"steps": steps, "epochs": ends}


if __name__ == "__main__":
    curves = {name: train(*run) for name, run in RUNS.items()}
    target = Path(__file__).parent / "lr_curves.json"
    target.write_text(json.dumps(curves, separators=(",", ":")) + "\n")
