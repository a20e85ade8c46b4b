"""Predictions for files, folders and archives: one answer an image, in order, whatever the files are like."""

import dataclasses
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from convclinic import evaluate
from convclinic import predict as predicting
from convclinic.evaluate import read_images
from convclinic.ground.errors import ConvclinicError
from convclinic.model import Model
from convclinic.predict import NOT_SURE, predict
from convclinic.recipe import Input, Recipe


class Brightness(nn.Module):
    """Three logits: ten times the mean of the red, green and blue channel."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        return self.weight * x.mean((2, 3))


CLASSES = ("red", "green", "blue")


def colourist(threshold=0.5, **more):
    """A model that names the strongest colour, so that the right answers are known without training."""
    facts = {"temperature": 1.0, "reject": {"threshold": threshold}}
    recipe = Recipe(data=Input(8, 12, 3), prepare=())
    return Model(recipe, CLASSES, Brightness(), (), facts=facts, **more)


def plain(path: Path, colour, size=(20, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """pictures/ with five images, of which two cannot be read, and a letter."""
    monkeypatch.chdir(tmp_path)
    root = Path("pictures")
    plain(root / "a.png", (200, 0, 0))
    plain(root / "deep" / "b.png", (0, 200, 0), size=(3, 7))
    plain(root / "ünï côde.png", (0, 0, 200))
    (root / "broken.jpg").write_bytes(b"not at all")
    (root / "empty.png").write_bytes(b"")
    (root / "letter.txt").write_text("dear")
    return root


def told(answers):
    return {answer.path: answer.answer for answer in answers}


def test_every_image_is_answered_with_its_class(folder):
    answers = list(predict(colourist(), [folder]))
    assert told(answers) == {
        "pictures/a.png": "red",
        "pictures/broken.jpg": None,
        "pictures/deep/b.png": "green",
        "pictures/empty.png": None,
        "pictures/ünï côde.png": "blue",
    }


def test_the_probability_is_the_softmax_of_the_answer(folder):
    (answer,) = predict(colourist(), [folder / "a.png"])
    e = np.exp(10 * 200 / 255)
    assert answer.path == "pictures/a.png"
    assert answer.probability == pytest.approx(e / (e + 2), abs=1e-6)
    assert answer.probabilities is not None
    assert list(answer.probabilities) == list(CLASSES)
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.probabilities["red"] == answer.probability
    assert answer.error is None


def test_a_broken_file_is_answered_and_not_fatal(folder):
    broken, empty, good = predict(
        colourist(), [folder / "broken.jpg", folder / "empty.png", folder / "a.png"]
    )
    assert (broken.answer, broken.best, broken.probability, broken.probabilities) == (None, None, None, None)
    assert broken.error == "not an image"
    assert empty.error == "empty file"
    assert good.answer == "red"


def test_nothing_but_broken_files(folder):
    (folder / "only").mkdir()
    shutil.copy(folder / "broken.jpg", folder / "only" / "x.jpg")
    assert [answer.error for answer in predict(colourist(), [folder / "only"])] == ["not an image"]


def test_below_the_threshold_the_answer_is_not_sure(tmp_path):
    path = plain(tmp_path / "a.png", (120, 110, 100))
    (sure,) = predict(colourist(threshold=0.0), [path])
    assert sure.answer == sure.best == "red"
    assert sure.probability is not None
    (edge,) = predict(colourist(threshold=sure.probability), [path])
    assert edge.answer == "red", "a probability equal to the threshold is answered"
    (unsure,) = predict(colourist(threshold=sure.probability + 1e-6), [path])
    assert (unsure.answer, unsure.best, unsure.probability) == (NOT_SURE, "red", sure.probability)


def test_without_a_threshold_everything_is_answered(tmp_path):
    path = plain(tmp_path / "a.png", (101, 100, 100))
    (answer,) = predict(dataclasses.replace(colourist(), facts={}), [path])
    assert answer.answer == "red"


def test_answers_come_in_the_order_asked(folder):
    paths = [folder / "ünï côde.png", folder / "deep", folder / "a.png", folder / "deep" / "b.png"]
    assert [answer.answer for answer in predict(colourist(), paths)] == ["blue", "green", "red", "green"]


@pytest.mark.parametrize("chunk", [1, 2, 3, 1000])
def test_chunks_change_nothing(folder, monkeypatch, chunk):
    whole = list(predict(colourist(), [folder]))
    monkeypatch.setattr(predicting, "CHUNK", chunk)
    assert list(predict(colourist(), [folder])) == whole


def test_an_archive_is_read_without_unpacking_and_its_members_are_named(folder):
    shutil.make_archive("z", "zip", "pictures")
    with tarfile.open("t.tar.gz", "w:gz") as archive:
        archive.add("pictures", arcname="p")
    before = sorted(Path().rglob("*"))
    expected = {
        name.removeprefix("pictures/"): answer
        for name, answer in told(predict(colourist(), [folder])).items()
    }
    assert told(predict(colourist(), [Path("z.zip")])) == {f"z.zip/{k}": v for k, v in expected.items()}
    assert told(predict(colourist(), [Path("t.tar.gz")])) == {
        f"t.tar.gz/p/{k}": v for k, v in expected.items()
    }
    assert sorted(Path().rglob("*")) == before


def test_a_table_of_paths(folder):
    Path("list.csv").write_text("path\npictures/a.png\npictures/deep/b.png\n")
    answers = told(predict(colourist(), [Path("list.csv")]))
    assert answers == {"pictures/a.png": "red", "pictures/deep/b.png": "green"}


def test_a_path_that_does_not_exist_is_told_when_its_turn_comes(folder):
    answers = predict(colourist(), [folder / "a.png", folder / "c.png"])
    assert next(answers).answer == "red"
    with pytest.raises(ConvclinicError, match=r"no such folder or file: pictures/c\.png"):
        next(answers)


@pytest.mark.parametrize("words", ["is empty", "holds no images"])
def test_a_folder_without_images(tmp_path, words):
    (tmp_path / "none").mkdir()
    if words != "is empty":
        (tmp_path / "none" / "letter.txt").write_text("dear")
    with pytest.raises(ConvclinicError, match=words):
        list(predict(colourist(), [tmp_path / "none"]))


def test_deep_images_keep_their_grey_levels(tmp_path):
    """12-bit grey in a 16-bit file: scaled by the depth that the model was trained with, and not cut off."""
    Image.fromarray(np.full((6, 6), 2000, np.uint16)).save(tmp_path / "deep.png")
    source = evaluate.open_source(tmp_path, labelled=False)
    for deep_max in (4095, 65535):
        images, _ = read_images(colourist(deep_max=deep_max), source, range(1), [])
        assert images.shape == (1, 8, 12, 3)
        np.testing.assert_allclose(images, 2000 / deep_max * 255, atol=1)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_images_of_every_mode_are_answered(tmp_path, mode):
    suffix = ".tiff" if mode == "CMYK" else ".png"
    Image.new(mode, (30, 20)).save(tmp_path / f"a{suffix}")
    (answer,) = predict(colourist(), [tmp_path / f"a{suffix}"])
    assert answer.error is None
    assert answer.best in CLASSES


def test_reading_tells_which_rows_it_could_read(folder):
    source = evaluate.open_source(folder, labelled=False)
    unread = []
    images, good = read_images(colourist(), source, range(5), unread)
    assert images.dtype == np.uint8
    assert images.shape == (3, 8, 12, 3)
    assert [source.names[row] for row in good] == ["a.png", "deep/b.png", "ünï côde.png"]
    assert unread == [
        {"name": "broken.jpg", "reason": "not an image"},
        {"name": "empty.png", "reason": "empty file"},
    ]
    none, good = read_images(colourist(), source, range(0), unread)
    assert (none.shape, good) == ((0, 8, 12, 3), [])
