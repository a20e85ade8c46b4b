"""What is freed stays with the process where the allocator allows it; elsewhere nothing breaks."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from convclinic.ground import memory

# page faults of freeing and taking 64 MB again, ten times
FAULTS = """
import resource, torch
from convclinic.ground.memory import keep_freed
{first}
for round in range(11):
    if round == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = torch.ones(2**24)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(first: str) -> int:
    script = FAULTS.format(first=first)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_a_block_that_comes_back_needs_no_new_pages() -> None:
    assert faults("keep_freed()") < 0.1 * faults("pass")


def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    assert memory.keep_freed.__wrapped__() is False
