"""What this machine is and how fast it multiplies, measured in a fraction of a second."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F

from convclinic.ground.errors import ConvclinicError

LOW_PRECISION_GAIN = 1.2  # bfloat16 must be this much faster to be worth its rounding
ENOUGH_SECONDS = 1.5  # of timing, once each type has had three tries
HOPELESS = 2.0  # a type that takes this many times as long as the other is given up


@dataclass(frozen=True)
class Hardware:
    """Rates are of one 3x3 convolution, forward and backward, in operations (2 per product) a second."""

    device: str
    name: str
    threads: int
    memory_bytes: int
    float32_rate: float
    bfloat16_rate: float

    @property
    def precision(self) -> str:
        return "bfloat16" if self.bfloat16_rate > LOW_PRECISION_GAIN * self.float32_rate else "float32"

    @property
    def rate(self) -> float:
        return (
            max(self.float32_rate, self.bfloat16_rate) if self.precision == "bfloat16" else self.float32_rate
        )


def choose_device(name: str | None) -> torch.device:
    """The device asked for, or the best there is. Raises ConvclinicError when it does not exist here."""
    if name in (None, "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(str(name))
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError(f"{device.type} is not supported")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConvclinicError(f"no device '{name}' here", fix="use --device cpu, cuda or auto") from error
    return device


def name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).name
    return f"{torch.get_num_threads()}-thread {device.type.upper()}"


def measure(device: torch.device) -> Hardware:
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    float32_rate, bfloat16_rate = _rates(device, torch.get_num_threads())
    return Hardware(
        device=str(device),
        name=name_of(device),
        threads=torch.get_num_threads(),
        memory_bytes=memory,
        float32_rate=float32_rate,
        bfloat16_rate=bfloat16_rate,
    )


@lru_cache
def _rates(device: torch.device, threads: int) -> tuple[float, float]:
    """Timed once a process: it takes up to two seconds, and many short trainings may follow one another."""
    return convolution_rates(device)


def convolution_rates(device: torch.device, repeats: int = 15) -> tuple[float, float]:
    """float32 and bfloat16 operations a second of a 3x3 convolution, 64 to 128 channels, 16 x 16, batch 64.

    The best of `repeats`, the two in turn: other work on a shared machine then slows both or neither. A type
    that is hopelessly behind is not timed again: a processor without bfloat16 takes a second for each.
    """
    work = 3 * 2 * 64 * 128 * 64 * 9 * 16 * 16
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    if device.type != "cpu":
        for dtype in best:
            _convolution_seconds(device, dtype)
    running, begin = list(best), time.perf_counter()
    for repeat in range(repeats + 1):
        for dtype in running:
            best[dtype] = min(best[dtype], _convolution_seconds(device, dtype))
        hopeless = HOPELESS * min(best.values()) * (2 if repeat == 0 else 1)  # the first builds its kernels
        running = [dtype for dtype in running if best[dtype] <= hopeless]
        if repeat >= 2 and time.perf_counter() - begin > ENOUGH_SECONDS:
            break
    return work / best[torch.float32], work / best[torch.bfloat16]


def _convolution_seconds(device: torch.device, dtype: torch.dtype) -> float:
    images, weight = (
        torch.ones(shape, device=device, dtype=dtype)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
        for shape in ((64, 64, 16, 16), (128, 64, 3, 3))
    )
    begin = time.perf_counter()
    out = F.conv2d(images, weight, padding=1)
    torch.autograd.grad(out, (images, weight), torch.ones_like(out))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin
