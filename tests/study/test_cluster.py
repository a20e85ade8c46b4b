"""The engine on a real Ray cluster of two nodes, started on this machine."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from convclinic.ground.errors import ConvclinicError
from convclinic.job.crossvalidating import crossval
from convclinic.job.searching import search
from convclinic.study.engine import Task, run
from tests.job.making import photos
from tests.job.tiny import recipe

ray: Any = pytest.importorskip("ray")
WORK = "tests.study.work"


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of a head with one core and a second node with one."""
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    utils: Any = importlib.import_module("ray.cluster_utils")
    made = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    root = str(Path(__file__).parents[2])
    ray.init(address=made.address, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": root}})
    yield made.address
    ray.shutdown()
    made.shutdown()


def tasks(n: int) -> list[Task]:
    return [Task(f"t{x}", {"x": x, "seconds": 1.0}) for x in range(n)]


def test_both_nodes_work_and_results_are_kept(cluster: str, tmp_path: Path) -> None:
    assert sum(node["Alive"] for node in ray.nodes()) == 2
    ends = list(run(tasks(4), f"{WORK}:slow", tmp_path, cluster=cluster))
    assert sorted((end.result or {})["square"] for end in ends) == [0, 1, 4, 9]
    assert len({(end.result or {})["process"] for end in ends}) >= 2
    again = list(run(tasks(4), f"{WORK}:slow", tmp_path, cluster=cluster))
    assert all(end.kept for end in again)


def test_the_same_numbers_as_here_bit_for_bit(cluster: str, tmp_path: Path) -> None:
    there = {e.task.name: e.result for e in run(tasks(3), f"{WORK}:noisy", tmp_path / "c", cluster=cluster)}
    here = {e.task.name: e.result for e in run(tasks(3), f"{WORK}:noisy", tmp_path / "l", workers=2)}
    assert there == here


def test_what_fails_there_is_told_and_a_lost_process_too(cluster: str, tmp_path: Path) -> None:
    ends = {e.task.name: e for e in run(tasks(3), f"{WORK}:picky", tmp_path / "a", cluster=cluster)}
    assert ends["t1"].error == "ones are not liked (give a two)" and "of all things" in ends["t2"].error
    ends = {e.task.name: e for e in run(tasks(2), f"{WORK}:deadly", tmp_path / "b", cluster=cluster)}
    assert "was lost" in ends["t1"].error and not ends["t0"].error


def test_no_cluster_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def init(**options: Any) -> None:
        raise ConnectionError(f"nobody at {options['address']}")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ConvclinicError, match=r"no Ray cluster at 10\.0\.0\.1:6379"):
        list(run(tasks(1), f"{WORK}:square", tmp_path, cluster="10.0.0.1:6379"))


def test_a_cross_validation_there_is_the_same_as_here_bit_for_bit(cluster: str, tmp_path: Path) -> None:
    photos(tmp_path / "bars")
    options: dict[str, Any] = {
        "n_folds": 3,
        "recipe": recipe(steps=12, evaluate_every=6),
        "workers": 2,  # here each with one thread, as there
        "device": "cpu",
        "quiet": True,
    }
    there = crossval(tmp_path / "bars", out=tmp_path / "there", cluster=cluster, **options)
    here = crossval(tmp_path / "bars", out=tmp_path / "here", **options)
    assert there.together.accuracies == here.together.accuracies
    for one, other in zip(there.runs, here.runs, strict=True):
        assert one.model.tensors().keys() == other.model.tensors().keys()
        assert all(
            torch.equal(value, other.model.tensors()[name]) for name, value in one.model.tensors().items()
        )


def test_a_search_there_tries_what_it_should(cluster: str, tmp_path: Path) -> None:
    photos(tmp_path / "bars")
    found = search(
        tmp_path / "bars",
        space={"mix": ["none", "mixup"], "optimise.lr": {"times": [0.5, 2], "points": 2}},
        sampler="grid",
        recipe=recipe(),
        settings=("run.steps=8",),
        budget="10m",
        out=tmp_path / "out",
        cluster=cluster,
        device="cpu",
        quiet=True,
    )
    assert len(found.trials) == 4 == len({one.words for one in found.trials})
    assert {one.state for one in found.trials} <= {"complete", "pruned"} and found.runs
