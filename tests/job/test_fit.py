"""The main job end to end on made images: what a run folder holds, and that it repeats."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import struct

import numpy as np
import pytest
import torch
from making import photos
from PIL import Image
from safetensors import safe_open
from tiny import RECIPE, machine
from tiny import recipe as tiny

from convclinic.data.dataset import reopen
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import read_csv, write_json
from convclinic.job import fitting, training
from convclinic.job.fitting import fit, plan, resume
from convclinic.job.run import Run
from convclinic.model_file import load
from convclinic.planning import hardware
from convclinic.predict import predict
from convclinic.recipe import Recipe

PROMISED = {
    "recipe.json",
    "splits.csv",
    "quarantine.csv",
    "history.jsonl",
    "metrics.json",
    "findings.json",
    "model.safetensors",
    "checkpoint.safetensors",
    "report.html",
}
QUICK = ("net.widths=[8, 8, 8]", "run.batch_size=16", "run.steps=30", "optimise=adamw", "optimise.lr=0.02")


@pytest.fixture(scope="module", autouse=True)
def quick_machine():
    """A machine whose speed is known, so that no time is spent on measuring it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "measure", machine)
        yield


@pytest.fixture(scope="module")
def planned(bars, tmp_path_factory):
    """A run that was planned within a budget."""
    out = tmp_path_factory.mktemp("planned") / "run"
    return fit(bars, budget="40s", out=out, device="cpu", settings=QUICK, quiet=True)


@pytest.fixture(scope="module")
def given(bars, tmp_path_factory):
    """A run of a given recipe."""
    return fit(bars, recipe=RECIPE, out=tmp_path_factory.mktemp("given") / "run", device="cpu", quiet=True)


def quick(data, out, recipe=RECIPE, **more):
    return fit(data, recipe=recipe, out=out, device="cpu", quiet=True, **more)


def fingerprint(folder):
    """Everything about a folder: names, contents, times of change, links."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (content, status.st_mtime_ns, status.st_mode, status.st_nlink)
    return found


# the run folder


@pytest.mark.parametrize("which", ["planned", "given"])
def test_the_run_folder_is_complete(request, which):
    run = request.getfixturevalue(which)
    assert {path.name for path in run.path.iterdir()} >= PROMISED
    assert not list(run.path.rglob("*.part"))
    for name in ("metrics.json", "findings.json", "recipe.json", "mistakes.json", "data.json"):
        json.loads((run.path / name).read_text(), parse_constant=pytest.fail)  # NaN is no JSON


def test_the_recipe_stands_there_with_a_reason_for_each_choice(planned):
    document = json.loads((planned.path / "recipe.json").read_text())
    recipe = Recipe.from_dict(document["recipe"])
    assert document["hash"] == recipe.hash()
    assert recipe == planned.recipe
    assert recipe.net.widths == (8, 8, 8)
    assert recipe.total_steps == 30
    assert all(reason["choice"] and reason["value"] and reason["reason"] for reason in document["reasons"])
    said = {reason["choice"] for reason in document["reasons"]}
    assert said >= {"data", "net", "augment", "optimise", "precision", "lr", "batch size", "steps"}
    assert {"convclinic", "torch", "python", "created", "data", "device", "hardware"} <= set(document)
    assert document["budget_seconds"] == 40


def test_a_given_recipe_is_followed_to_the_letter(given):
    document = json.loads((given.path / "recipe.json").read_text())
    assert Recipe.from_dict(document["recipe"]) == RECIPE
    assert "given by the user" in document["reasons"][0]["reason"]
    assert document["budget_seconds"] is None


def test_every_image_is_in_one_part_of_the_split(bars, given):
    rows = list(read_csv(given.path / "splits.csv"))
    assert {row["path"] for row in rows} == {str(path.relative_to(bars)) for path in bars.rglob("*.png")}
    assert all(row["path"].startswith(row["label"] + "/") for row in rows)
    for label in ("lying", "standing"):
        parts = [row["split"] for row in rows if row["label"] == label]
        assert {part: parts.count(part) for part in set(parts)} == {"train": 28, "validation": 6, "test": 6}
    assert list(read_csv(given.path / "quarantine.csv")) == []


def test_the_history_is_one_record_a_step(given):
    records = given.history
    assert [record.step for record in records] == list(range(1, 31))
    assert [record.step for record in records if record.val_accuracy is not None] == [10, 20, 30]
    assert all(np.isfinite([record.loss, record.lr, record.grad_norm]).all() for record in records)
    assert "time" not in (given.path / "history.jsonl").read_text()


@pytest.mark.parametrize("which", ["planned", "given"])
def test_the_metrics_hold_what_the_report_reads(request, which):
    metrics = request.getfixturevalue(which).metrics
    for split in ("test", "validation"):
        part = metrics[split]
        assert part["n"] == 12
        low, high = part["accuracy_interval"]
        assert 0 <= low <= part["accuracy"] <= high <= 1
        assert 0 <= part["balanced_accuracy"] <= 1
        assert part["balanced_accuracy_interval"][0] < part["balanced_accuracy_interval"][1]
        assert [row["class"] for row in part["per_class"]] == ["lying", "standing"]
        assert sum(map(sum, part["confusion"])) == 12
        assert part["calibration"]["points"]
        assert "top5_accuracy" not in part
    assert {"majority", "linear_probe"} == set(metrics["baselines"])
    assert metrics["baselines"]["majority"]["accuracy"] == 0.5
    assert {"threshold", "coverage", "accuracy", "wanted"} <= set(metrics["reject"])
    assert metrics["steps"] == 30
    assert metrics["peak_memory_bytes"] > 10**7
    assert {"plan", "train", "evaluate"} <= set(metrics["seconds"])
    assert 0 < sum(metrics["seconds"].values()) <= metrics["wall_seconds"] + 0.1
    assert metrics["verdict"]


def test_the_net_learns(planned, given):
    for run in (planned, given):
        assert run.metrics["test"]["accuracy"] > 0.75
        assert run.metrics["validation"]["accuracy"] > 0.75
        assert run.history[-1].loss < run.history[0].loss


def test_the_report_is_one_page_that_opens_offline(given):
    page = (given.path / "report.html").read_text()
    assert f"{given.metrics['test']['accuracy']:.1%}" in page
    markup = re.sub(r"<script.*?</script>", "<script></script>", page, flags=re.S)
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", markup)
    again = given.report()
    assert again == given.path / "report.html"
    assert again.read_text() == page


def test_the_test_split_is_read_only_after_training(bars, tmp_path, monkeypatch):
    """Validation chooses, test is read once: no step of planning or training asks for a test image."""
    asked = []
    original = training.train

    def train(recipe, data, *rest):
        test = set(data.rows[data.indices("test")].tolist())
        real = data.store.gather

        def gather(rows):
            asked.append(bool(test & set(np.asarray(rows).tolist())))
            return real(rows)

        data.store.gather = gather
        result = original(recipe, data, *rest)
        assert asked
        assert not any(asked)
        return result

    monkeypatch.setattr(fitting, "train", train)
    quick(bars, tmp_path / "run")
    assert any(asked)


# it repeats


def test_two_runs_of_one_recipe_are_equal_byte_for_byte(bars, given, tmp_path):
    write_json(tmp_path / "recipe.json", given.recipe.to_dict())
    again = quick(bars, tmp_path / "run", recipe=tmp_path / "recipe.json")
    for name in (
        "model.safetensors",
        "history.jsonl",
        "splits.csv",
        "checkpoint.safetensors",
        "mistakes.json",
    ):
        assert (again.path / name).read_bytes() == (given.path / name).read_bytes(), name
    for key in ("test", "validation", "baselines", "reject", "temperature"):
        assert again.metrics[key] == given.metrics[key]


def test_a_planned_run_repeats_from_its_own_recipe(bars, planned, tmp_path):
    again = quick(bars, tmp_path / "run", recipe=planned.path / "recipe.json")
    for name in ("model.safetensors", "history.jsonl", "splits.csv"):
        assert (again.path / name).read_bytes() == (planned.path / name).read_bytes(), name


def test_another_seed_is_another_run(bars, given, tmp_path):
    other = quick(bars, tmp_path / "run", recipe=dataclasses.replace(RECIPE, seed=1), seed=1)
    assert (other.path / "history.jsonl").read_bytes() != (given.path / "history.jsonl").read_bytes()
    assert (other.path / "splits.csv").read_bytes() != (given.path / "splits.csv").read_bytes()


def test_what_others_draw_changes_nothing(bars, given, tmp_path):
    """The global generators are neither read nor moved."""
    np.random.seed(5)  # noqa: NPY002 - the global one is meant
    torch.manual_seed(5)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    again = quick(bars, tmp_path / "run")
    assert (again.path / "model.safetensors").read_bytes() == (given.path / "model.safetensors").read_bytes()
    assert np.random.get_state()[1].tolist() == before[0]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


# nothing of the user's changes


def test_nothing_in_the_users_folder_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = photos(tmp_path / "my photos", 12)
    (data / "lying" / "broken.jpg").write_bytes(b"broken")
    (data / "standing" / "empty.png").write_bytes(b"")
    shutil.copy(data / "lying" / "001.png", data / "lying" / "copy.png")
    (data / "standing" / "linked.png").symlink_to(data / "standing" / "000.png")
    (data / "notes.txt").write_text("mine")
    for path in data.rglob("*"):
        os.utime(path, (10**9, 10**9), follow_symlinks=False)
    before = fingerprint(data)
    run = fit(data, recipe=RECIPE, device="cpu", quiet=True)
    run.predict(data)
    run.evaluate(data)
    run.report()
    assert fingerprint(data) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my photos", "runs"]
    assert run.path.name == "my-photos-1"
    aside = {row["path"]: row["reason"] for row in read_csv(run.path / "quarantine.csv")}
    assert aside == {"lying/broken.jpg": "not an image", "standing/empty.png": "empty file"}
    assert not aside.keys() & {row["path"] for row in read_csv(run.path / "splits.csv")}
    assert {finding["cause"] for finding in run.findings} >= {"exact_duplicates"}


# one file that predicts anywhere


def test_the_model_alone_predicts_the_same_elsewhere(bars, given, tmp_path):
    expected = given.predict(bars)
    moved = shutil.copy(given.path / "model.safetensors", tmp_path / "alone.safetensors")
    with safe_open(moved, framework="pt") as file:
        header = json.loads(file.metadata()["convclinic"])
    assert header["classes"] == ["lying", "standing"]
    assert header["facts"]["test_accuracy"] == given.metrics["test"]["accuracy"]
    assert header["facts"]["reject"] == given.metrics["reject"]
    assert list(predict(load(moved), [bars])) == expected
    assert sum(a.best == a.path.split("/")[-2] for a in expected) > 60


def test_what_was_measured_is_what_it_predicts(bars, given):
    """The test accuracy can be had again from the files, through decoding and all."""
    test = [row for row in read_csv(given.path / "splits.csv") if row["split"] == "test"]
    answers = given.predict([bars / row["path"] for row in test])
    right = [answer.best == row["label"] for answer, row in zip(answers, test, strict=True)]
    assert np.mean(right) == given.metrics["test"]["accuracy"]


def test_a_run_is_opened_again_from_its_folder(bars, given):
    again = Run(given.path)
    assert again.recipe == given.recipe
    assert again.metrics == given.metrics
    assert again.evaluate(bars) == given.evaluate(bars)
    assert again.predict(str(bars / "lying" / "000.png")) == given.predict([bars / "lying" / "000.png"])


# kinds of data


def test_16_bit_images_train_and_predict(tmp_path):
    """12-bit grey levels in 16-bit files. Cut off at 255 or turned white, the classes would look alike."""
    rng = np.random.default_rng(0)
    data = tmp_path / "deep"
    for label in ("lying", "standing"):
        (data / label).mkdir(parents=True)
        for number in range(30):
            image = rng.integers(300, 1200, (16, 16), dtype=np.uint16)
            at = int(rng.integers(2, 12))
            image[(slice(at, at + 3),) if label == "lying" else (slice(None), slice(at, at + 3))] = 3500
            Image.fromarray(image).save(data / label / f"{number}.png")
    recipe = RECIPE.override(["data.channels=1"])
    run = quick(data, tmp_path / "run", recipe=recipe)
    assert load(run.path).deep_max == 4095
    stored = reopen(run.path)
    pixels = stored.images(stored.indices("train"))
    assert pixels.max() == pytest.approx(3500 / 4095 * 255, abs=1)
    assert len(np.unique(pixels)) > 40
    assert run.metrics["test"]["accuracy"] > 0.75
    answers = run.predict(data)
    assert np.mean([answer.best == answer.path.split("/")[-2] for answer in answers]) > 0.75


def test_a_given_split_is_honoured(tmp_path):
    photos(tmp_path / "photos" / "train", 20)
    photos(tmp_path / "photos" / "Test", 7, seed=9)
    run = quick(tmp_path / "photos", tmp_path / "run")
    rows = list(read_csv(run.path / "splits.csv"))
    for row in rows:
        assert (row["split"] == "test") == row["path"].startswith("Test/")
    assert run.metrics["test"]["n"] == 14
    assert run.metrics["validation"]["n"] == 6
    assert [row["class"] for row in run.metrics["test"]["per_class"]] == ["lying", "standing"]


def test_an_archive_is_trained_on_without_unpacking(bars, given, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "bars"), "zip", bars)
    run = quick(archive, tmp_path / "run")
    assert (run.path / "model.safetensors").read_bytes() == (given.path / "model.safetensors").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"bars.zip", "run"}


def test_hostile_class_names_reach_neither_paths_nor_the_page(tmp_path):
    data = photos(tmp_path / "photos", 8)
    (data / "lying").rename(data / "<script>alert(1)<")
    (data / "standing").rename(data / "a,b\"'; ü")
    run = quick(data, tmp_path / "run")
    assert {row["label"] for row in read_csv(run.path / "splits.csv")} == {"<script>alert(1)<", "a,b\"'; ü"}
    assert "<script>alert(1)<" not in (run.path / "report.html").read_text()
    assert {answer.best for answer in run.predict(data)} <= {"<script>alert(1)<", "a,b\"'; ü"}


# stopping and going on


def test_the_plan_is_frozen_before_training_begins(bars, given, tmp_path, monkeypatch):
    """Stopped right after planning, the run goes on and ends like any other."""

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "train", stop)
        with pytest.raises(KeyboardInterrupt):
            quick(bars, tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"recipe.json", "splits.csv", "quarantine.csv", "findings.json", "data.json"}
    assert not names & {"metrics.json", "model.safetensors", "report.html", "history.jsonl"}
    done = resume(tmp_path / "run", quiet=True)
    for name in ("model.safetensors", "history.jsonl"):
        assert (done.path / name).read_bytes() == (given.path / name).read_bytes()
    assert done.metrics["test"] == given.metrics["test"]


@pytest.mark.parametrize("at", [4, 20])
def test_ctrl_c_then_resume_ends_like_the_uninterrupted_run(bars, given, tmp_path, monkeypatch, at):
    real = training.History.append

    def press(history, records):
        real(history, records)
        if len(history.records) == at:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(training.History, "append", press)
        with pytest.raises(training.Interrupted, match="convclinic resume"):
            quick(bars, tmp_path / "run")
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == at
    with pytest.raises(ConvclinicError, match="not finished"):
        resume(tmp_path / "run", extend="1s", quiet=True)
    done = resume(tmp_path / "run", quiet=True)
    for name in ("model.safetensors", "history.jsonl"):
        assert (done.path / name).read_bytes() == (given.path / name).read_bytes()
    with pytest.raises(ConvclinicError, match=r"is finished \(train it for longer with --extend 5m\)"):
        resume(tmp_path / "run", quiet=True)


@pytest.mark.parametrize("stage", ["judge", "write_report"])
def test_a_run_stopped_after_training_goes_on_where_it_was(bars, given, tmp_path, monkeypatch, stage):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting, stage, stop)
        with pytest.raises(KeyboardInterrupt):
            quick(bars, tmp_path / "run")
    done = resume(tmp_path / "run", quiet=True)
    assert (done.path / "report.html").is_file()
    assert done.metrics["test"] == given.metrics["test"]
    assert (done.path / "model.safetensors").read_bytes() == (given.path / "model.safetensors").read_bytes()


def test_a_second_run_never_writes_into_the_first(bars, given):
    before = fingerprint(given.path)
    with pytest.raises(ConvclinicError, match="nothing is ever overwritten"):
        quick(bars, given.path)
    assert fingerprint(given.path) == before


# planning alone


def test_plan_trains_nothing_and_writes_only_the_recipe(bars, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, path = plan(bars, budget="40s", out="my.json", settings=QUICK, device="cpu", quiet=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["my.json"]
    assert path is not None
    document = json.loads(path.read_text())
    assert Recipe.from_dict(document["recipe"]) == made.recipe
    assert [reason["choice"] for reason in document["reasons"]] == [r.choice for r in made.reasons]
    assert made.epochs == pytest.approx(30 / 3, rel=0.2)


def test_a_longer_budget_plans_more_steps(bars):
    wishes = {"device": "cpu", "quiet": True, "settings": (*QUICK[:2], *QUICK[3:])}
    short, _ = plan(bars, budget="12s", **wishes)
    long, _ = plan(bars, budget="60s", **wishes)
    assert long.recipe.total_steps > 2 * short.recipe.total_steps
    assert long.seconds > 2 * short.seconds
    assert short.seconds < 12


def test_a_recipe_and_a_budget_together_fit_the_steps_to_the_budget(bars):
    made, _ = plan(bars, recipe=tiny(steps=5), budget="30s", device="cpu", quiet=True)
    assert made.recipe.net == RECIPE.net
    assert made.recipe.optimise == RECIPE.optimise
    assert made.recipe.total_steps > 20


# the model file, byte by byte


def test_the_model_file_holds_no_path_and_no_time(bars, given):
    """Two machines that train the same recipe write the same file, and nothing private travels with it."""
    content = (given.path / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + length].decode()
    assert str(bars) not in header
    assert str(given.path) not in header
    assert not re.search(r"20\d\d-\d\d-\d\d", header)


def test_a_recipe_with_settings_and_no_budget_keeps_its_steps(bars, tmp_path):
    run = fit(bars, recipe=tiny(steps=7), settings=("optimise.lr=0.01",), out=tmp_path / "run", quiet=True)
    assert run.recipe.run.steps == 7
    assert run.recipe.optimise.lr == 0.01


def test_a_net_narrower_than_planned_learns(finished):
    assert finished.recipe.net.widths == (8, 8, 8)
    assert finished.metrics["validation"]["accuracy"] > 0.9  # without LRs for its width it is dead: 0.5
