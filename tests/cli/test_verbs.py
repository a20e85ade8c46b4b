"""Each verb at work: what it prints, as text, as JSON and as CSV, and what it writes."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from making import photos
from PIL import Image
from tiny import RECIPE

from convclinic.ground.files import write_json
from convclinic.job import fitting
from convclinic.recipe import Recipe


def kept(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_fit_as_json_prints_the_result_and_nothing_else(command, bars, recipe_file, here):
    answer = command("fit", bars, "--recipe", recipe_file, "--out", "run", "--json")
    assert answer.code == 0
    assert answer.err == ""
    result = json.loads(answer.out)
    assert result["run"] == "run"
    stored = json.loads((here / "run" / "metrics.json").read_text())
    assert result["test"] == stored["test"]
    assert 0 <= result["test"]["accuracy"] <= 1


def test_fit_talks_on_standard_error_stage_by_stage(command, bars, recipe_file, here):
    answer = command("fit", bars, "--recipe", recipe_file)
    assert answer.code == 0
    assert answer.out == ""
    stages = ["look", "check-up", "plan", "train", "evaluate", "report"]
    begun = [line.split()[0] for line in answer.err.splitlines() if line and line.split()[0] in stages]
    assert begun == stages
    assert "run folder runs/photos-1" in answer.err
    assert "majority class is 50.0%" in answer.err
    assert "on 12 images never used before" in answer.err
    assert (here / "runs" / "photos-1" / "report.html").is_file()


def test_quiet_fit_prints_only_where_the_run_is(command, bars, recipe_file, here):
    answer = command("fit", bars, "--recipe", recipe_file, "--quiet")
    assert (answer.code, answer.out, answer.err) == (0, "runs/photos-1\n", "")


def test_settings_do_what_they_say(command, bars, here):
    words = ["net.widths=[8, 8]", "run.batch_size=16", "run.steps=24", "augment=flip", "augment.flip.p=0.25"]
    settings = [part for word in words for part in ("--set", word)]
    answer = command("fit", bars, "--budget", "30s", "--seed", 5, "--out", "run", "--quiet", *settings)
    assert answer.code == 0
    document = json.loads((here / "run" / "recipe.json").read_text())
    recipe = Recipe.from_dict(document["recipe"])
    assert recipe.net.widths == (8, 8)
    assert (recipe.seed, recipe.run.batch_size, recipe.total_steps) == (5, 16, 24)
    assert [type(trick).__name__ for trick in recipe.augment] == ["Flip"]
    assert recipe.augment[0].p == 0.25
    assert document["budget_seconds"] == 30
    said = {reason["choice"]: reason["reason"] for reason in document["reasons"]}
    assert said["net.widths"] == said["run.steps"] == "set by the user"
    history = (here / "run" / "history.jsonl").read_text().splitlines()
    assert len(history) == 24


def test_plan_then_fit_follows_the_written_recipe(command, bars, here):
    tiny = ("--set", "net.widths=[8,8,8]", "--set", "run.batch_size=16", "--set", "run.steps=21")
    answer = command("plan", bars, "--budget", "30s", "--quiet", *tiny)
    assert answer.code == 0
    assert "written to photos-recipe.json" in answer.out
    assert f"convclinic fit {bars} --recipe photos-recipe.json" in answer.out
    document = json.loads((here / "photos-recipe.json").read_text())
    for reason in document["reasons"]:
        assert f"{reason['choice']}: {reason['value']}\n    {reason['reason']}" in answer.out
        assert reason["reason"]
    assert sorted(path.name for path in here.iterdir()) == ["photos-recipe.json"], "plan trains nothing"
    assert command("fit", bars, "--recipe", "photos-recipe.json", "--out", "run", "--quiet").code == 0
    followed = json.loads((here / "run" / "recipe.json").read_text())
    assert followed["recipe"] == document["recipe"]
    assert followed["hash"] == document["hash"]


def test_plan_as_json(command, bars, here):
    tiny = ("--set", "net.widths=[8,8,8]", "--set", "run.batch_size=16", "--set", "run.steps=21")
    answer = command("plan", bars, "--budget", "30s", "--json", "--out", "deep/my.json", *tiny)
    result = json.loads(answer.out)
    assert result["file"] == "deep/my.json"
    assert result["recipe"]["run"]["steps"] == 21
    assert {"choice", "value", "reason"} == set(result["reasons"][0])
    assert result["epochs"] == pytest.approx(21 * 16 / 56, rel=0.2)
    assert json.loads((here / "deep" / "my.json").read_text())["recipe"] == result["recipe"]


def test_a_recipe_brings_its_seed_to_the_split_too(command, bars, here):
    tiny = ("--set", "net.widths=[8,8,8]", "--set", "run.batch_size=16", "--set", "run.steps=20")
    command("fit", bars, "--budget", "30s", "--seed", 3, "--out", "a", *tiny)
    command("fit", bars, "--recipe", "a/recipe.json", "--out", "b")
    assert (here / "a" / "splits.csv").read_bytes() == (here / "b" / "splits.csv").read_bytes()


def test_steps_that_were_set_stay_as_they_are(command, bars, here):
    tiny = ("--set", "net.widths=[8,8,8]", "--set", "run.batch_size=16", "--set", "run.steps=60")
    command("fit", bars, "--budget", "6s", "--out", "run", *tiny)
    assert len((here / "run" / "history.jsonl").read_text().splitlines()) == 60


def test_few_steps_are_taken_as_they_were_set(command, bars, here):
    tiny = ("--set", "net.widths=[8,8,8]", "--set", "run.batch_size=16", "--set", "run.steps=5")
    answer = command("plan", bars, "--budget", "20s", "--out", "r.json", "--json", *tiny)
    assert answer.code == 0
    assert json.loads(answer.out)["recipe"]["run"]["steps"] == 5


def test_check_says_what_it_found(command, here):
    photos(here / "photos", 6)
    (here / "photos" / "lying" / "bad.jpg").write_bytes(b"no image at all")
    shutil.copy(here / "photos" / "lying" / "000.png", here / "photos" / "standing" / "zz.png")
    before = kept(here / "photos" / "lying") | kept(here / "photos" / "standing")
    answer = command("check", "photos", "--out", "check.json")
    assert answer.code == 0
    assert "14 images in 2 classes: lying, standing" in answer.out
    assert "lying/bad.jpg" in answer.out
    assert "standing/zz.png" in answer.out
    assert kept(here / "photos" / "lying") | kept(here / "photos" / "standing") == before
    assert sorted(path.name for path in here.iterdir()) == ["check.json", "photos"]
    written = json.loads((here / "check.json").read_text())
    printed = json.loads(command("check", "photos", "--json").out)
    assert printed == written
    assert printed["profile"]["n_set_aside"] == 3
    assert {"cause", "severity", "summary", "action", "examples"} <= set(printed["findings"][0])


def test_a_clean_data_set_is_called_clean(command, bars):
    answer = command("check", bars, "--quiet")
    assert answer.out == "80 images in 2 classes: lying, standing\nnothing found\n"
    assert answer.err == ""


def test_resume_finishes_a_run(command, done, here):
    shutil.copytree(done, here / "run")
    for name in ("metrics.json", "report.html", "model.safetensors"):
        (here / "run" / name).unlink()
    answer = command("resume", "run", "--quiet")
    assert (answer.code, answer.out, answer.err) == (0, "run\n", "")
    assert (here / "run" / "model.safetensors").read_bytes() == (done / "model.safetensors").read_bytes()


def test_resume_extends_a_run(command, done, here):
    shutil.copytree(done, here / "run")
    answer = command("resume", "run", "--extend", "0.01s", "--json")
    assert answer.code == 0
    result = json.loads(answer.out)
    assert result["run"] == "run"
    assert result["steps"] > 30


def test_evaluate_prints_a_table_and_the_files_it_could_not_read(command, done, here):
    photos(here / "more", 10, seed=8)
    (here / "more" / "lying" / "broken.png").write_bytes(b"x")
    answer = command("evaluate", done, "more", "--out", "scores.json")
    assert answer.code == 0
    first, head, *rows = answer.out.splitlines()
    assert first.startswith("20 images: accuracy ")
    assert head.split() == ["class", "precision", "recall", "images"]
    assert [row.split()[0] for row in rows] == ["lying", "standing"]
    assert [row.split()[-1] for row in rows] == ["10", "10"]
    assert "not read: lying/broken.png: not an image" in answer.err
    written = json.loads((here / "scores.json").read_text())
    assert f"accuracy {written['accuracy']:.1%}" in first
    printed = json.loads(command("evaluate", done, "more", "--json").out)
    assert printed == written
    assert printed["accuracy"] > 0.8
    assert printed["unread"] == [{"name": "lying/broken.png", "reason": "not an image"}]
    assert "top5_accuracy" not in printed
    assert command("evaluate", done, "more", "--quiet").out == first + "\n"


def test_predict_as_text_json_and_csv_agree(command, done, bars, here):
    (here / "broken.png").write_bytes(b"x")
    paths = [bars / "lying" / "000.png", "broken.png", bars / "standing"]
    text = command("predict", done, *paths)
    assert (text.code, text.err) == (0, "")
    rows = json.loads(command("predict", done, *paths, "--json").out)
    assert len(text.out.splitlines()) == len(rows) == 42
    table = list(csv.DictReader(io.StringIO(command("predict", done, *paths, "--csv").out)))
    assert list(table[0]) == ["path", "answer", "best", "probability", "error"]
    for line, row, cells in zip(text.out.splitlines(), rows, table, strict=True):
        assert line.startswith(f"{row['path']}: ")
        assert [cells[key] for key in ("path", "answer", "best", "error")] == [
            row[key] or "" for key in ("path", "answer", "best", "error")
        ]
        if row["error"] is None:
            assert line.endswith(f"{row['probability']:.1%}")
            assert float(cells["probability"]) == row["probability"]
            assert row["best"] in line
    assert text.out.splitlines()[1] == "broken.png: not read: not an image"
    assert rows[1]["answer"] is rows[1]["probability"] is None
    right = [row["best"] == Path(row["path"]).parent.name for row in rows if row["error"] is None]
    assert np.mean(right) > 0.8


def test_predict_writes_a_file_whose_name_says_how(command, done, bars, here):
    image = bars / "lying" / "000.png"
    answer = command("predict", done, image, "--out", "new/answers.csv")
    assert (answer.code, answer.out) == (0, "")
    assert "written to new/answers.csv" in answer.err
    assert (here / "new" / "answers.csv").read_text().startswith("path,answer,best,probability,error\n")
    assert command("predict", done, image, "--out", "a.json", "--json", "--quiet").err == ""
    assert json.loads((here / "a.json").read_text())[0]["path"] == str(image)
    command("predict", done, image, "--out", "a.txt")
    assert (here / "a.txt").read_text() == command("predict", done, image).out


def test_names_that_are_no_utf8_are_printed_and_written(command, done, bars, here):
    odd = os.fsencode(here) + b"/caf\xe9"
    os.mkdir(odd)  # noqa: PTH102 - a name in bytes
    shutil.copy(bars / "lying" / "000.png", odd + b"/\xff.png")
    name = os.fsdecode(b"caf\xe9/\xff.png")
    plain = command("predict", done, os.fsdecode(b"caf\xe9"))
    assert plain.code == 0
    assert plain.out.startswith("caf\\udce9/\\udcff.png: ")
    assert json.loads(command("predict", done, os.fsdecode(odd), "--json").out)[0]["path"].endswith(name)
    assert command("predict", done, os.fsdecode(b"caf\xe9"), "--out", "a.csv").code == 0
    assert b"caf\\udce9/\\udcff.png" in (here / "a.csv").read_bytes()


def test_report_is_written_again(command, done, here):
    shutil.copytree(done, here / "run")
    (here / "run" / "report.html").unlink()
    assert command("report", "run").out == "run/report.html\n"
    assert (here / "run" / "report.html").read_bytes().startswith(b"<!")
    answer = command("report", "run", "--out", "deep/page.html", "--json")
    assert json.loads(answer.out) == {"report": "deep/page.html"}
    assert (here / "deep" / "page.html").read_bytes() == (here / "run" / "report.html").read_bytes()
    assert command("report", "run", "--quiet").out == ""


def test_demo_fits_real_digits(command, done, here, monkeypatch):
    """The digits are written as files; the training itself is the one of `fit`."""
    asked = {}

    def fit(data, **options):
        asked.update(options, data=data)
        return fitting.Run(done)

    monkeypatch.setattr(fitting, "fit", fit)
    answer = command("demo", "--seed", 4, "--budget", "50s")
    assert answer.code == 0
    assert (asked["data"], asked["seed"], asked["budget"]) == (Path("runs/digits"), 4, "50s")
    assert f"convclinic predict {done}" in answer.out
    files = sorted(Path("runs/digits").rglob("*.png"))
    assert len(files) == 1797
    assert {path.parent.name for path in files} == set("0123456789")
    images = np.stack([np.asarray(Image.open(path)) for path in files[::50]])
    assert images.shape == (36, 8, 8)
    assert (images.min(), images.max()) == (0, 255)
    assert json.loads(command("demo", "--json").out)["run"] == str(done)


def test_an_unexpected_answer_of_the_system_is_no_traceback(command, done, bars, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(5, "Input/output error", "photos/a.jpg")

    monkeypatch.setattr("convclinic.evaluate.on_folder", fail)
    answer = command("evaluate", done, bars)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "error: [Errno 5] Input/output error: 'photos/a.jpg'\n"


# stopping


def test_ctrl_c_before_training_ends_with_130(command, bars, monkeypatch, here):
    def press(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not stopped")

    monkeypatch.setattr("convclinic.data.dataset.inspect", press)
    # a shell starts its background jobs deaf to Ctrl-C; these tests may be one
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        answer = command("check", bars, "--quiet")
    finally:
        signal.signal(signal.SIGINT, before)
    assert answer.code == 130
    assert answer.out == ""
    assert "Traceback" not in answer.err


def test_ctrl_c_while_training_saves_and_prints_how_to_go_on(bars, here):
    """A real process and a real signal: the step is finished, the state on disk is the history's."""
    recipe = RECIPE.override(["run.steps=1000000", "run.evaluate_every=1000000"])
    write_json(here / "long.json", recipe.to_dict())
    command = [sys.executable, "-m", "convclinic", "fit", str(bars), "--recipe", "long.json", "--out", "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    history = here / "run" / "history.jsonl"
    deadline = time.monotonic() + 100
    while process.poll() is None and time.monotonic() < deadline:
        if history.exists() and history.read_bytes().count(b"\n") > 5:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-2:] == ["stopped", "  go on with `convclinic resume run`"]
    assert "Traceback" not in err
    assert (here / "run" / "recipe.json").exists()
    assert (here / "run" / "checkpoint.safetensors").exists()
    assert not (here / "run" / "metrics.json").exists()
    steps = [json.loads(line)["step"] for line in history.read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))
    header = (here / "run" / "checkpoint.safetensors").read_bytes()[8:100000]
    assert f'\\"step\\": {len(steps)}'.encode() in header
