"""The clinic on a net that two processes train together: nothing changes, and faults are found on rank 0."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

WORKER = Path(__file__).with_name("ddp_worker.py")
ROOT = Path(__file__).parents[2]
SECONDS = 120  # after which the two are taken to wait for each other in vain


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank wrote."""
    if not (dist.is_available() and dist.is_gloo_available()):
        pytest.skip("this build of PyTorch has no gloo")
    folder = tmp_path_factory.mktemp("ranks")
    here = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(rank), str(folder)],
            stderr=subprocess.PIPE, text=True, env=here,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        errors = [rank.communicate(timeout=SECONDS)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("who", ["every rank", "rank 0 alone"])
def test_weights_buffers_and_random_state_are_those_of_an_unwatched_run(told: list, who: str) -> None:
    assert [rank[f"equal, watched on {who}"] for rank in told] == [True, True]


def test_a_healthy_run_is_met_with_silence_on_every_rank(told: list) -> None:
    assert [rank["healthy, watched on every rank"] for rank in told] == [[], []]
    assert told[0]["healthy, watched on rank 0 alone"] == []
    assert [rank["updates"] for rank in told] == [40, 40]


@pytest.mark.parametrize(("fault", "cause"), [("no zero_grad", "missing_zero_grad"), ("eval", "wrong_mode")])
def test_a_planted_fault_is_found_on_rank_0(told: list, fault: str, cause: str) -> None:
    assert told[0][fault] == cause
