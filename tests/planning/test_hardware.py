"""The machine's speed is measured in a fraction of a second, also where it has no bfloat16."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from convclinic.planning import hardware

CPU = torch.device("cpu")


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> dict:
    """Made times of a convolution by type, and how often each type was timed."""
    seconds = {torch.float32: 0.1, torch.bfloat16: 0.1}
    calls: Counter = Counter()

    def made(device: torch.device, dtype: torch.dtype) -> float:
        calls[dtype] += 1
        return seconds[dtype]

    monkeypatch.setattr(hardware, "_convolution_seconds", made)
    return {"seconds": seconds, "calls": calls}


@pytest.mark.parametrize(
    ("low", "times"),
    [(0.05, 16), (0.1, 16), (0.19, 16), (0.3, 2), (1.5, 1)],
    ids=["faster", "level", "a little behind", "behind", "not in hardware"],
)
def test_a_type_that_is_far_behind_is_not_timed_again(timed: dict, low: float, times: int) -> None:
    timed["seconds"][torch.bfloat16] = low
    float32_rate, bfloat16_rate = hardware.convolution_rates(CPU)
    assert timed["calls"] == {torch.float32: 16, torch.bfloat16: times}
    assert float32_rate / bfloat16_rate == pytest.approx(low / 0.1)


def test_the_faster_type_is_taken_when_it_is_clearly_faster() -> None:
    def machine(low: float) -> hardware.Hardware:
        return hardware.Hardware("cpu", "made", 1, 2**30, 1e11, low)

    assert [machine(rate).precision for rate in (1e10, 1e11, 1.1e11, 1.9e11)] == [
        "float32",
        "float32",
        "float32",
        "bfloat16",
    ]
    assert machine(1.1e11).rate == 1e11 and machine(1.9e11).rate == 1.9e11


def test_real_convolutions_have_a_rate() -> None:
    assert min(hardware.convolution_rates(CPU, repeats=1)) > 0


def test_a_process_times_its_machine_once(timed: dict) -> None:
    hardware._rates.cache_clear()
    try:
        first, calls = hardware.measure(CPU), timed["calls"].total()
        timed["seconds"][torch.float32] = 1.0
        assert hardware.measure(CPU) == first and timed["calls"].total() == calls > 0
    finally:
        hardware._rates.cache_clear()
