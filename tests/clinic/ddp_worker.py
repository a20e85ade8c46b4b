"""One of two processes that train a small net with DistributedDataParallel, for test_distributed.py.

python ddp_worker.py RANK FOLDER    writes FOLDER/RANK.json: what the clinic said in each training
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from convclinic.clinic import Clinic

RANKS, STEPS = 2, 40
pixels, digits = load_digits(return_X_y=True)
IMAGES = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
LABELS = torch.tensor(digits)


def train(rank: int, watched: bool, fault: str = "") -> tuple[dict[str, torch.Tensor], Clinic | None]:
    """The weights and buffers after a training on this rank's share of the digits."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.1), nn.MaxPool2d(2)]
    model = DistributedDataParallel(nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 9, 10)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    clinic = Clinic(model, optimizer, classes=10) if watched else None
    order = torch.randperm(1400)[rank::RANKS]
    torch.manual_seed(1 + rank)
    if clinic:
        clinic.preflight(IMAGES[order[:32]], LABELS[order[:32]], nn.CrossEntropyLoss())
    for step in range(STEPS):
        here = order[torch.arange(step * 32, step * 32 + 32) % len(order)]
        model.train(fault != "eval")
        logits = model(IMAGES[here])
        loss = F.cross_entropy(logits, LABELS[here])
        if fault != "no zero_grad":
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if clinic:
            clinic.observe(loss=loss, inputs=IMAGES[here], targets=LABELS[here], logits=logits)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return {**state, "random state": torch.get_rng_state()}, clinic


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    alone, _ = train(rank, watched=False)
    told: dict[str, object] = {}
    for who, watched in (("every rank", True), ("rank 0 alone", rank == 0)):
        state, clinic = train(rank, watched)
        told[f"equal, watched on {who}"] = all(torch.equal(alone[name], state[name]) for name in alone)
        if clinic:
            told[f"healthy, watched on {who}"] = [f.cause for f in clinic.findings() if f.severity != "info"]
            told["updates"] = clinic.signals().updates
    for fault in ("no zero_grad", "eval"):
        _, clinic = train(rank, watched=rank == 0, fault=fault)
        told[fault] = clinic.findings()[0].cause if clinic else None
    (folder / f"{rank}.json").write_text(json.dumps(told))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
