"""Every wrong input, through the real command line: its message, status 2, and no traceback."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from making import photos
from safetensors.torch import save
from tiny import RECIPE, recipe
from torch import zeros

from convclinic import history
from convclinic.ground import files
from convclinic.ground.files import write_json
from convclinic.job import fitting
from convclinic.job.planning import make_plan
from convclinic.model_file import FORMAT

NEWER = json.dumps({"format": FORMAT + 1})


@pytest.fixture
def said(refused, here):
    """`said(words of the message, command ...)`."""

    def check(parts, *words):
        err = refused(*words)
        for part in parts:
            assert part in err, err
        return err

    return check


# the data


@pytest.mark.parametrize("verb", ["fit", "check", "plan"])
def test_no_such_folder(said, here, verb):
    (here / "photos").mkdir()
    said(["no such folder or file: photo ", "did you mean 'photos'?"], verb, "photo ")


def test_no_such_folder_to_evaluate_or_predict(said, done):
    said(["no such folder or file: more"], "evaluate", done, "more")
    said(["no such folder or file: more/a.jpg"], "predict", done, "more/a.jpg")


@pytest.mark.parametrize("verb", ["fit", "check", "plan"])
def test_an_empty_folder(said, here, verb):
    (here / "photos").mkdir()
    said(["photos is empty", "photos/<class>/*.jpg"], verb, "photos")


@pytest.mark.parametrize("verb", ["fit", "check", "plan"])
def test_one_class_only(said, here, verb):
    photos(here / "photos", 4)
    shutil.rmtree(here / "photos" / "lying")
    said(["one class only, 'standing'", "photos/<class>/*.jpg"], verb, "photos")


@pytest.mark.parametrize("verb", ["fit", "check", "plan"])
def test_all_images_broken(said, here, verb):
    for number in range(8):
        path = here / "photos" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if number == 4 else b"my letter to aunt %d" % number)
    said(["none of the 8 files", "a/0.jpg: not an image", "a/4.jpg: empty file"], verb, "photos")


@pytest.mark.parametrize("verb", ["fit", "check", "plan"])
@pytest.mark.parametrize("kept", [1, 2])
def test_a_class_with_too_few_images(said, here, verb, kept):
    photos(here / "photos", 5)
    for path in sorted((here / "photos" / "lying").iterdir())[kept:]:
        path.unlink()
    noun = "image" if kept == 1 else "images"
    said([f"class 'lying' has {kept} usable {noun}", "at least 3"], verb, "photos")


def test_a_class_of_copies_only(said, here, recipe_file):
    photos(here / "photos", 1)
    for path in sorted((here / "photos").rglob("*.png")):
        for number in range(1, 5):
            shutil.copy(path, path.with_name(f"{number}.png"))
    said(["'lying'"], "fit", "photos", "--recipe", recipe_file)


def test_a_single_image_is_no_data_set(said, bars):
    said(["is a single image", "photos/<class>"], "fit", bars / "lying" / "000.png")


def test_a_refusal_leaves_nothing_of_the_users_changed_and_no_model(said, here):
    photos(here / "photos", 4)
    shutil.rmtree(here / "photos" / "lying")
    before = sorted(here.rglob("*"))
    said(["one class only"], "check", "photos", "--out", "findings.json")
    assert sorted(here.rglob("*")) == before


def test_a_refused_fit_may_be_tried_again_into_the_same_folder(command, bars, here):
    assert command("fit", "fotos", "--out", "run").code == 2
    assert not (here / "run").exists()
    assert not (here / "runs").exists()


# options


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("optimize.lr=0.1", ["no slot 'optimize'", "did you mean 'optimise'?"]),
        ("optimise=sdg", ["no optimise called 'sdg'", "did you mean 'sgd'?"]),
        ("augment=flop", ["no augment called 'flop'", "did you mean 'flip'?"]),
        ("optimise.lrr=0.1", ["no option 'lrr'", "did you mean 'lr'?"]),
        ("run.stepz=3", ["run has no option 'stepz'", "did you mean 'steps'?"]),
        ("run.steps=many", ["run.steps must be int, not 'many'"]),
        ("run.steps", ["--set run.steps: no '='", "--set optimise.lr=0.1"]),
        ("mix.mixup.alpha=-1", ["mixup.alpha is -1"]),
        ("seed=x", ["seed must be int, not 'x'"]),
        ("net.widths=[8,", ["net.widths"]),
        ("run.batch_size=0", ["batch_size"]),
        ("run.batch_size=-3", ["batch_size"]),
        ("run.steps=0", ["run.steps"]),
        ("run.precision=float17", ["precision"]),
        ("data.height=0", ["height"]),
        ("data.channels=2", ["channels"]),
        ("data.height=4", ["fast"]),
        ("net.widths=[]", ["widths"]),
    ],
)
def test_a_wrong_setting(said, bars, setting, words):
    """Settings that are fine come first, so that nothing takes long."""
    fine = ("--set", "net.widths=[8,8,8]", "--set", "run.batch_size=16", "--set", "run.steps=20")
    said(words, "fit", bars, "--budget", "20s", "--out", "run", *fine, "--set", setting)


@pytest.mark.parametrize("verb", ["fit", "plan"])
@pytest.mark.parametrize("budget", ["soon", "10", "m", "10x", "0s", "-5m", "1e3s"])
def test_a_wrong_duration(said, bars, verb, budget):
    err = said(["write it like 90s, 10m or 1h30m"], verb, bars, f"--budget={budget}", "--out", "out")
    assert budget in err


def test_a_wrong_duration_to_extend_a_run(said, done):
    said(["'more' is not a duration"], "resume", done, "--extend", "more")


def test_a_budget_too_small_says_what_would_do(said, bars):
    tiny = ("--set", "net.widths=[8,8,8]", "--set", "run.batch_size=16", "--set", "run.precision=float32")
    err = said(
        ["the budget of 1.0 s is too small", "try: give", "--set data.height="],
        "fit",
        bars,
        "--budget",
        "1s",
        "--out",
        "run",
        *tiny,
    )
    assert "-" not in err.split("try: give")[1].split("more")[0]


@pytest.mark.parametrize("verb", ["fit", "plan"])
def test_an_unknown_device(said, bars, verb):
    said(["no device 'tpu' here", "cpu, cuda or auto"], verb, bars, "--device", "tpu")


@pytest.mark.parametrize("words", [["evaluate"], ["predict"]])
def test_an_unknown_device_to_predict_on(said, bars, done, words):
    said(["no device 'gpu' here"], *words, done, bars, "--device", "gpu")


# recipe files


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"optimise: [sgd", ["neither JSON nor YAML"]),
        (b"\xff\xfe\x00\x01", ["neither JSON nor YAML"]),
        (b"a: \x00", ["neither JSON nor YAML"]),
        (b"", ["holds no recipe", "convclinic plan"]),
        (b"[1, 2]", ["holds no recipe"]),
        (b'{"format": 2}', ["format 2", "reads up to 1", "upgrade convclinic"]),
        (b'{"convclinic": "9", "recipe": {"format": 2}}', ["format 2", "upgrade convclinic"]),
        (b"optimize: sgd", ["no slot 'optimize'", "did you mean 'optimise'?"]),
        (b"net: {name: fast, width: [8]}", ["no option 'width'", "did you mean 'widths'?"]),
        (b"net: fats", ["no net called 'fats'", "did you mean 'fast'?"]),
        (b"run: {steps: 1.5}", ["run.steps must be int, not 1.5"]),
        (b"!!python/object/apply:os.system ['touch hacked']", ["neither JSON nor YAML"]),
    ],
)
def test_an_unreadable_recipe(said, bars, here, content, words):
    (here / "my.yaml").write_bytes(content)
    said(words, "fit", bars, "--recipe", "my.yaml")
    said(words, "plan", bars, "--recipe", "my.yaml", "--budget", "30s")
    assert sorted(path.name for path in here.iterdir()) == ["my.yaml"]


def test_no_such_recipe(said, bars, here):
    said(["no recipe file my.json"], "fit", bars, "--recipe", "my.json")
    (here / "folder").mkdir()
    said(["cannot read folder"], "fit", bars, "--recipe", "folder")


def test_a_recipe_document_of_a_newer_version(said, bars, here):
    write_json(here / "my.json", {"format": 99, "convclinic": "9.0", "recipe": RECIPE.to_dict()})
    said(["format 99", "upgrade convclinic"], "fit", bars, "--recipe", "my.json")


# run folders


def test_an_out_folder_that_is_not_empty(said, bars, here, done):
    (here / "mine").mkdir()
    (here / "mine" / "letter.txt").write_text("dear")
    said(["mine is not empty", "nothing is ever overwritten"], "fit", bars, "--out", "mine")
    said(["letter.txt is a file"], "fit", bars, "--out", "mine/letter.txt")
    said(["is not empty", f"convclinic resume {done}"], "fit", bars, "--out", done)
    assert (here / "mine" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("verb", ["resume", "report"])
def test_no_run_folder(said, here, verb):
    said(["no run folder", "photos-1"], verb, "runs/photos-1")
    (here / "file").write_text("")
    said(["file is a file, not a run folder"], verb, "file")
    (here / "empty").mkdir()
    said(["empty is not a run folder of convclinic", "convclinic fit"], verb, "empty")


@pytest.mark.parametrize("content", [{"lr": 0.1}, [1], {"recipe": {}}, {"convclinic": "1"}])
@pytest.mark.parametrize("verb", ["resume", "report"])
def test_a_run_folder_of_another_program(said, here, verb, content):
    write_json(here / "run" / "recipe.json", content)
    said(["recipe.json was not written by convclinic"], verb, "run")


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_a_folder_without_a_model(said, here, bars, verb):
    (here / "empty").mkdir()
    said(["empty is not a run folder of convclinic"], verb, "empty", bars)
    write_json(here / "run" / "recipe.json", {"convclinic": "0.1.0", "recipe": RECIPE.to_dict()})
    said(["run has no model yet", "convclinic resume run"], verb, "run", bars)
    said(["no model file nowhere"], verb, "nowhere", bars)


@pytest.fixture
def stopped(done, here):
    """A copy of the finished run that looks as if it had been killed before the end."""
    shutil.copytree(done, here / "run")
    for name in ("metrics.json", "report.html"):
        (here / "run" / name).unlink()
    return here / "run"


def change(path, **more):
    write_json(path, {**json.loads(path.read_text()), **more})


def test_a_run_without_its_results_has_no_report(said, stopped):
    said(["no metrics.json", "finished run"], "report", stopped)


def test_a_run_of_a_newer_recipe_format(said, stopped):
    change(stopped / "recipe.json", recipe={**RECIPE.to_dict(), "format": 2})
    said(["format 2", "upgrade convclinic"], "resume", stopped)


def test_a_run_of_a_newer_version(said, stopped):
    change(stopped / "recipe.json", format=99)
    said(["format 99", "upgrade convclinic"], "resume", stopped)


def test_a_run_document_that_lacks_a_part(said, stopped):
    document = json.loads((stopped / "recipe.json").read_text())
    del document["hardware"]
    write_json(stopped / "recipe.json", document)
    said(["recipe.json"], "resume", stopped)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("recipe.json", b'{"convclinic": ', ["recipe.json is not readable JSON"]),
        ("data.json", b"{}", ["data.json is of another version", "start a new run"]),
        ("data.json", b"\xff", ["data.json is not readable JSON"]),
        ("data.json", None, ["no file", "data.json"]),
        ("splits.csv", b"path,label,split,group\n", ["splits.csv was changed"]),
        ("checkpoint.safetensors", b"\x08" * 99, ["checkpoint", "is damaged", "delete it to start over"]),
        ("checkpoint.safetensors", b"", ["checkpoint", "is damaged"]),
        ("history.jsonl", b'{"step": 1\n{"step": 2}\n', ["history.jsonl"]),
    ],
)
def test_a_run_with_a_damaged_file(said, stopped, name, content, words):
    if content is None:
        (stopped / name).unlink()
    else:
        (stopped / name).write_bytes(content)
    said(words, "resume", stopped)


def test_a_checkpoint_of_another_recipe(said, stopped):
    change(stopped / "recipe.json", recipe=recipe(steps=29).to_dict())
    said(["belongs to another recipe", "delete it"], "resume", stopped)


def test_a_finished_run_is_not_resumed(said, done):
    said(["is finished", "--extend 5m"], "resume", done)


def test_an_unfinished_run_is_not_extended(said, stopped):
    said(["is not finished", "without --extend"], "resume", stopped, "--extend", "10s")


def test_a_run_whose_photos_are_gone(said, stopped, here):
    shutil.rmtree(stopped / "cache")
    change(stopped / "data.json", source=str(here / "gone"))
    said(["the image cache", "gone", "put them back"], "resume", stopped)


# model files


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is not a readable model file"]),
        (np.random.default_rng(0).bytes(3000), ["is not a readable model file"]),
        (b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x02os.", ["is not a readable model file"]),
        (save({"weight": zeros(3)}), ["safetensors file of another program"]),
        (save({"weight": zeros(3)}, {"convclinic": NEWER}), [f"format {FORMAT + 1}", "upgrade convclinic"]),
        (save({"weight": zeros(3)}, {"convclinic": '{"format": 1}'}), ["do not fit together"]),
        (None, ["is not a readable model file"]),
    ],
    ids=["empty", "random", "pickle", "foreign", "newer", "bare", "truncated"],
)
def test_a_hostile_or_truncated_model_file(said, done, bars, here, verb, content, words):
    if content is None:
        content = (done / "model.safetensors").read_bytes()[:-100]
    (here / "m.safetensors").write_bytes(content)
    said(words, verb, "m.safetensors", bars)


# evaluation and prediction


def test_a_class_that_the_model_does_not_know(said, done, here):
    photos(here / "more", 3)
    (here / "more" / "lying").rename(here / "more" / "laying")
    said(["a class 'laying' that the model does not know", "did you mean 'lying'?"], "evaluate", done, "more")


def test_nothing_to_evaluate_can_be_read(said, done, here):
    photos(here / "more", 2)
    for path in (here / "more").rglob("*.png"):
        path.write_bytes(b"broken")
    said(["none of the 4 images in more can be read"], "evaluate", done, "more")


def test_nothing_to_predict(said, done, here):
    (here / "empty").mkdir()
    said(["empty is empty"], "predict", done, "empty")
    (here / "empty" / "letter.txt").write_text("dear")
    said(["empty holds no images"], "predict", done, "empty")
    said(["letter.txt has no column of paths"], "predict", done, "empty/letter.txt")
    (here / "empty" / "notes.md").write_text("dear")
    said(["notes.md is not a data set"], "predict", done, "empty/notes.md")


# the disk


def refuse(code):
    def call(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "no space left"), (errno.EACCES, "no permission")]
)
def test_a_disk_that_is_full_or_closed(said, bars, done, recipe_file, monkeypatch, code, words):
    """With nowhere to make a new file, every verb that writes says so and names a way out."""
    monkeypatch.setattr(files.tempfile, "mkstemp", refuse(code))
    for words_given in (
        ("check", bars, "--out", "findings.json"),
        ("plan", bars, "--recipe", recipe_file, "--out", "plan.json"),
        ("fit", bars, "--recipe", recipe_file, "--out", "run"),
        ("evaluate", done, bars, "--out", "scores.json"),
        ("predict", done, bars, "--out", "answers.csv"),
        ("predict", done, bars, "--json", "--out", "answers.json"),
        ("report", done, "--out", "page.html"),
    ):
        said([words, "--out"], *words_given)


def test_no_permission_for_the_run_folder(said, bars, here, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", refuse(errno.EACCES))
    said(["no permission to write run", "--out"], "fit", bars, "--out", "run")


def test_no_permission_to_read_the_photos(said, here, monkeypatch):
    photos(here / "photos", 3)
    monkeypatch.setattr(os, "scandir", refuse(errno.EACCES))
    said(["cannot read photos", "permission"], "check", "photos")


def test_no_room_for_the_image_cache(said, bars, here, recipe_file, monkeypatch):
    real = shutil.disk_usage

    def nearly_full(path):
        return real(path)._replace(free=1000)

    monkeypatch.setattr(shutil, "disk_usage", nearly_full)
    said(
        ["the image cache needs", "1.0 kB are free", "--out"],
        "fit",
        bars,
        "--recipe",
        recipe_file,
        "--out",
        "run",
    )


def test_a_disk_that_fills_up_while_training(said, bars, here, recipe_file, monkeypatch):
    """Not even the stage's seconds can be written any more: still one message, and no traceback."""

    def planned(*args):
        made = make_plan(*args)
        for module in (history, fitting):
            monkeypatch.setattr(module, "open", refuse(errno.ENOSPC), raising=False)
        return made

    monkeypatch.setattr(fitting, "make_plan", planned)
    err = said([], "fit", bars, "--recipe", recipe_file, "--out", "run")
    assert "no space left" in err.lower()
