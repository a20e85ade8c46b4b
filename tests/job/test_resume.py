"""A run that was killed goes on bit for bit, wherever it was killed."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from making import TINY, photos

from convclinic import checkpoint, loop
from convclinic.data.dataset import reopen
from convclinic.ground.errors import ConvclinicError
from convclinic.job.fitting import plan, resume
from convclinic.job.folder import CHECKPOINT, HISTORY, MODEL
from convclinic.recipe import Recipe, load

RICH = (
    *TINY,
    "run.steps=30",
    "run.evaluate_every=7",
    "augment=alternating_flip,shift,colour_jitter,cutout",
    "mix=mixup,cutmix",
    "average=ema",
    "run.sizes=[[0.0, 20, 20], [0.5, 28, 28]]",
)
CPU = torch.device("cpu")
SCRIPT = """
import sys
from convclinic.job import fitting, training
training.CHECKPOINT_SECONDS = 0.0
if sys.argv[1] == "fit":
    fitting.fit(sys.argv[2], recipe=sys.argv[3], out=sys.argv[4], quiet=True)
else:
    fitting.resume(sys.argv[4], quiet=True)
"""


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A photo set and the recipe file that every run here follows."""
    folder = tmp_path_factory.mktemp("resume")
    data = photos(folder / "photos")
    plan(data, budget="60s", out=folder / "recipe.json", settings=RICH, quiet=True)
    return data, folder / "recipe.json"


@pytest.fixture(scope="module")
def whole(planned: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run, in a process of its own as the others: threads and alignment are the same."""
    data, recipe = planned
    run = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(
        [sys.executable, "-c", SCRIPT, "fit", str(data), str(recipe), str(run)], check=True, timeout=120
    )
    return run


def same(a: Path, b: Path) -> None:
    assert (a / HISTORY).read_bytes() == (b / HISTORY).read_bytes()
    assert (a / MODEL).read_bytes() == (b / MODEL).read_bytes()


@pytest.mark.parametrize("optimise", ["sgd", "adamw", "muon"])
def test_every_step_restores_exactly(whole: Path, tmp_path: Path, optimise: str) -> None:
    """Saved and restored at many steps, with every optimiser, the rest of the history is the same."""
    data = reopen(whole)
    recipe = load(whole / "recipe.json").override([f"optimise={optimise}", "optimise.lr=0.01"])
    state = loop.start(recipe, data, CPU)
    records = []
    for record in loop.fit(recipe, data, state):
        records.append(record)
        checkpoint.save(state, recipe, tmp_path / f"{record.step}.safetensors")
    final = {name: value.clone() for name, value in state.judged.state_dict().items()}
    for step in random.Random(0).sample(range(1, 30), 6):
        again = checkpoint.restore(recipe, data, CPU, tmp_path / f"{step}.safetensors")
        assert list(loop.fit(recipe, data, again)) == records[step:]
        assert all(torch.equal(value, final[name]) for name, value in again.judged.state_dict().items())
        assert again.best is not None and state.best is not None
        assert all(torch.equal(value, state.best[name]) for name, value in again.best.items())


@pytest.mark.slow
@pytest.mark.parametrize("kill_after", [0, 3, 11, 22, 29])
def test_sigkill_and_resume_equal_the_uninterrupted_run(
    planned: tuple[Path, Path], whole: Path, tmp_path: Path, kill_after: int
) -> None:
    data, recipe = planned
    run = tmp_path / "run"
    command = [sys.executable, "-c", SCRIPT, "fit", str(data), str(recipe), str(run)]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        lines = (run / HISTORY).read_bytes().count(b"\n") if (run / HISTORY).exists() else 0
        if (run / "recipe.json").exists() and lines >= kill_after:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not (run / "report.html").exists():
        subprocess.run([*command[:3], "resume", str(data), str(recipe), str(run)], check=True, timeout=120)
    same(run, whole)


def test_cache_and_checkpoint_may_vanish(planned: tuple[Path, Path], whole: Path, tmp_path: Path) -> None:
    """Nothing but the plan, the split and the user's own images is needed to train again to the same bits."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for name in (HISTORY, MODEL, "metrics.json", "report.html", "timings.jsonl", CHECKPOINT):
        (run / name).unlink()
    shutil.rmtree(run / "cache", ignore_errors=True)
    resume(run, quiet=True)
    same(run, whole)


def test_a_finished_run_is_not_resumed_but_can_be_extended(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    with pytest.raises(ConvclinicError, match=r"finished.*--extend"):
        resume(run, quiet=True)
    before = Recipe.from_dict(load(run / "recipe.json").to_dict()).total_steps
    done = resume(run, extend="2s", quiet=True)
    assert done.recipe.total_steps > before
    assert done.history[-1].step == done.recipe.total_steps
    lrs = [record.lr for record in done.history]
    assert lrs[before] > lrs[before - 1], "the extension warms up again"
    assert done.metrics["validation"]["accuracy"] is not None


def test_a_run_that_stopped_early_stays_stopped(whole: Path, tmp_path: Path) -> None:
    data = reopen(whole)
    recipe = load(whole / "recipe.json").override(["run.patience=1", "run.evaluate_every=2", "optimise.lr=0"])
    state = loop.start(recipe, data, CPU)
    records = list(loop.fit(recipe, data, state))
    assert len(records) < recipe.total_steps
    checkpoint.save(state, recipe, tmp_path / "state.safetensors")
    again = checkpoint.restore(recipe, data, CPU, tmp_path / "state.safetensors")
    assert list(loop.fit(recipe, data, again)) == []


def test_damaged_checkpoint_is_named(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    (run / "report.html").unlink()
    blob = (run / CHECKPOINT).read_bytes()
    (run / CHECKPOINT).write_bytes(blob[: len(blob) // 2])
    with pytest.raises(ConvclinicError, match=r"checkpoint .* is damaged"):
        resume(run, quiet=True)
