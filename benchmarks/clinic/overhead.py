"""What the clinic costs at its default settings: pairs of a watched and an unwatched training, interleaved.

    python benchmarks/clinic/overhead.py [--pairs 11] [--steps 320] [--batch 32]

Both trainings of a pair start equal and take turns, ten steps each, the first one changing; a pair gives the
ratio of their processor times, over all steps and over those after step 128, when measuring has become
rare. Printed are medians and ranges, the seconds of one preflight, whether weights, buffers, optimizer and
random state are equal bit for bit at the end, and the peak memory of a process that trains either way.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from clinic.nets import Normed  # noqa: E402
from clinic.planting import set_dropout  # noqa: E402
from convclinic.clinic import Clinic  # noqa: E402

TURN = 10  # steps until the other one goes on
RARE = 128  # step after which measuring is rare
SIDE, CLASSES = 28, 10


class Training:
    """A loop that can be stopped and continued, with a random state of its own."""

    def __init__(self, model: nn.Module, batch: int, watched: bool) -> None:
        self.model, self.batch = model, batch
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        self.clinic = Clinic(model, self.optimizer, classes=CLASSES) if watched else None
        self.random = torch.Generator().manual_seed(1).get_state()
        self.step = 0
        self.seconds: list[float] = []
        self.preflight = 0.0

    def go_on(self, images: Tensor, labels: Tensor, steps: int) -> None:
        """`steps` more steps."""
        torch.set_rng_state(self.random)
        for _ in range(steps):
            rows = slice(self.step % 8 * self.batch, (self.step % 8 + 1) * self.batch)
            inputs, targets = images[rows], labels[rows]
            if self.clinic is not None and self.step == 0:
                begin = time.process_time()
                self.clinic.preflight(inputs, targets, F.cross_entropy)
                self.preflight = time.process_time() - begin
            begin = time.process_time()
            logits = self.model(inputs)
            loss = F.cross_entropy(logits, targets)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.clinic is not None:
                self.clinic.observe(loss=loss, inputs=inputs, targets=targets, logits=logits)
            self.seconds.append(time.process_time() - begin)
            self.step += 1
        self.random = torch.get_rng_state()


def start(batch: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A small net with batch norm and dropout, and eight batches."""
    torch.manual_seed(0)
    model = Normed(1, SIDE, CLASSES)
    set_dropout(model, 0.2)
    return model, torch.randn(8 * batch, 1, SIDE, SIDE), torch.randint(0, CLASSES, (8 * batch,))


def equal(one: Training, other: Training) -> bool:
    """Bit for bit: parameters and buffers, momentum, random state."""
    states = [training.model.state_dict() for training in (one, other)]
    same = all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    momenta = [
        [state["momentum_buffer"] for state in training.optimizer.state.values()] for training in (one, other)
    ]
    same &= all(map(torch.equal, *momenta))
    return same and torch.equal(one.random, other.random)


def pair(number: int, steps: int, batch: int) -> tuple[float, float, float, bool]:
    """Ratio over all steps, ratio over the late ones, seconds of preflight, equality."""
    model, images, labels = start(batch)
    bare, watched = Training(copy.deepcopy(model), batch, False), Training(model, batch, True)
    for turn in range(steps // TURN):
        order = (bare, watched) if (turn + number) % 2 else (watched, bare)
        for training in order:
            training.go_on(images, labels, TURN)
    whole = sum(watched.seconds) / sum(bare.seconds)
    late = sum(watched.seconds[RARE:]) / sum(bare.seconds[RARE:])
    return whole, late, watched.preflight, equal(bare, watched)


def peak_bytes() -> int:
    """Peak resident memory of this process (Linux); getrusage would count its parent's before it began."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def peak(watched: bool, steps: int, batch: int) -> int:
    """Peak memory of a fresh process that trains one way."""
    command = [sys.executable, __file__, "--one", "watched" if watched else "bare"]
    command += ["--steps", str(steps), "--batch", str(batch)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--steps", type=int, default=320)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--one", choices=("bare", "watched"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.one:
        model, images, labels = start(arguments.batch)
        Training(model, arguments.batch, arguments.one == "watched").go_on(images, labels, arguments.steps)
        print(peak_bytes())
        return
    rows = [pair(number, arguments.steps, arguments.batch) for number in range(arguments.pairs)]
    whole, late, preflights = ([row[k] for row in rows] for k in range(3))
    peaks = [peak(watched, arguments.steps, arguments.batch) for watched in (False, True)]
    figures = {
        "watched_over_bare": round(statistics.median(whole), 4),
        "range": [round(min(whole), 4), round(max(whole), 4)],
        "late": round(statistics.median(late), 4),
        "late_range": [round(min(late), 4), round(max(late), 4)],
        "preflight_seconds": round(statistics.median(preflights), 3),
        "identical": all(row[3] for row in rows),
        "peak_mib": [round(value / 2**20, 1) for value in peaks],
        "memory_ratio": round(peaks[1] / peaks[0], 4),
        "n": len(rows),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
