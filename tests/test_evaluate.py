"""Metrics of a split and of other labelled data, beside baselines; numbers checked against scikit-learn."""

import base64
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics as oracle
from torch import nn

from convclinic import evaluate
from convclinic.evaluate import (
    balanced_interval,
    baselines,
    mistakes,
    on_folder,
    simple_features,
    split_logits,
    summarise,
    thumbnail,
)
from convclinic.ground.errors import ConvclinicError
from convclinic.model import Model
from convclinic.recipe import Input, Recipe


class Brightness(nn.Module):
    """Three logits: ten times the mean of the red, green and blue channel."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        return self.weight * x.mean((2, 3))


CLASSES = ("red", "green", "blue")
MODEL = Model(Recipe(data=Input(8, 8, 3), prepare=()), CLASSES, Brightness(), (), facts={"temperature": 2.0})
COLOURS = np.eye(3, dtype=np.uint8) * 200


def answers(n, k, seed=0):
    """Labels and probabilities of a classifier that is right more often than not."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k)) + 2 * np.eye(k)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, probabilities


@pytest.mark.parametrize(("n", "k"), [(200, 3), (500, 25), (40, 2)])
def test_the_numbers_of_a_split_agree_with_scikit_learn(n, k):
    labels, probabilities = answers(n, k)
    names = tuple(f"class {i}" for i in range(k))
    summary = summarise(names, labels, probabilities)
    said = probabilities.argmax(1)
    assert summary["n"] == n
    assert summary["accuracy"] == pytest.approx(oracle.accuracy_score(labels, said))
    assert summary["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(labels, said))
    assert summary["log_loss"] == pytest.approx(oracle.log_loss(labels, probabilities, labels=range(k)))
    np.testing.assert_array_equal(
        summary["confusion"], oracle.confusion_matrix(labels, said, labels=range(k))
    )
    precision, recall, f1, support = oracle.precision_recall_fscore_support(
        labels, said, labels=range(k), zero_division=0
    )
    for i, row in enumerate(summary["per_class"]):
        assert row["class"] == names[i]
        assert row["support"] == support[i]
        assert row["precision"] == pytest.approx(precision[i])
        assert row["recall"] == pytest.approx(recall[i])
        assert row["f1"] == pytest.approx(f1[i])
    low, high = summary["accuracy_interval"]
    assert low < summary["accuracy"] < high
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


@pytest.mark.parametrize(("k", "told"), [(5, False), (19, False), (20, True), (30, True)])
def test_top_five_is_told_only_where_it_says_something(k, told):
    labels, probabilities = answers(300, k)
    summary = summarise(tuple(map(str, range(k))), labels, probabilities)
    assert ("top5_accuracy" in summary) == told
    if told:
        expected = oracle.top_k_accuracy_score(labels, probabilities, k=5, labels=range(k))
        assert summary["top5_accuracy"] == pytest.approx(expected)


def test_a_split_without_images_has_no_numbers_and_the_widest_interval():
    summary = summarise(CLASSES, np.zeros(0, np.int64), np.zeros((0, 3)))
    assert (summary["n"], summary["accuracy"], summary["log_loss"]) == (0, None, None)
    assert summary["accuracy_interval"] == summary["balanced_accuracy_interval"] == [0.0, 1.0]


def test_a_certain_mistake_costs_much_but_not_infinitely():
    summary = summarise(CLASSES, np.array([0]), np.array([[0.0, 1.0, 0.0]]))
    assert summary["log_loss"] == pytest.approx(-np.log(1e-15))


def test_the_balanced_interval_holds_the_balanced_accuracy_and_narrows():
    few = np.array([[8, 2], [1, 4]])
    low, high = balanced_interval(few)
    assert 0 < low < 0.8 < high < 1
    narrow = balanced_interval(few * 50)
    assert narrow[1] - narrow[0] < (high - low) / 4
    assert balanced_interval(few) == [low, high], "the same counts, the same interval"


def test_the_balanced_interval_passes_over_classes_that_do_not_occur():
    assert balanced_interval(np.array([[8, 2, 0], [1, 4, 0], [0, 0, 0]])) == balanced_interval(
        np.array([[8, 2], [1, 4]])
    )


def test_perfect_answers_still_leave_room_below():
    low, high = balanced_interval(np.diag([10, 10]))
    assert 0.75 < low < 0.98
    assert high > 0.99


# simple features and baselines


@pytest.mark.parametrize("shape", [(5, 16, 24, 3), (2, 28, 28, 1), (1, 8, 8, 3), (3, 5, 6, 3)])
def test_simple_features_have_one_length_for_one_shape(shape):
    features = simple_features(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    assert features.shape == (shape[0], 64 * shape[3] + 128 + 2 * shape[3])
    assert np.isfinite(features).all()


def test_simple_features_of_a_plain_image_are_its_colour_and_no_edges():
    features = simple_features(np.full((1, 16, 16, 1), 51, np.uint8))[0]
    np.testing.assert_allclose(features[:64], 0.2, atol=1e-6)
    np.testing.assert_allclose(features[64:192], 0, atol=1e-6)
    np.testing.assert_allclose(features[192:], [0.2, 0], atol=1e-6)


def test_edges_are_told_by_their_direction():
    image = np.zeros((1, 16, 16, 1), np.uint8)
    image[:, :, 8:] = 255
    features = simple_features(image)[0]
    assert features[64:128].sum() > 0
    np.testing.assert_allclose(features[128:192], 0, atol=1e-6)
    turned = simple_features(np.ascontiguousarray(image.transpose(0, 2, 1, 3)))[0]
    np.testing.assert_allclose(turned[64:128], 0, atol=1e-6)


class Held:
    """A data set in memory: coloured noise, `share` of it labelled at random."""

    def __init__(self, counts, random=0.0, seed=0):
        rng = np.random.default_rng(seed)
        self.classes = CLASSES
        self.splits = np.concatenate([np.full(sum(c), part) for part, c in enumerate(counts)])
        self.labels = np.concatenate([np.repeat(np.arange(3), c) for c in counts]).astype(np.int64)
        n = len(self.labels)
        self.names = [f"{i}.png" for i in range(n)]
        shown = np.where(rng.random(n) < random, rng.integers(0, 3, n), self.labels)
        noise = rng.integers(0, 50, (n, 8, 8, 3))
        self.pixels = (COLOURS[shown][:, None, None] + noise).astype(np.uint8)

    def indices(self, split):
        return np.flatnonzero(self.splits == ("train", "validation", "test").index(split))

    def images(self, positions):
        return self.pixels[positions]


def test_the_majority_is_that_of_training_scored_on_the_split():
    data = Held([(10, 30, 20), (1, 1, 1), (6, 2, 4)])
    beside = baselines(data, "test", seed=0)
    assert beside["majority"]["class"] == "green"
    assert beside["majority"]["accuracy"] == pytest.approx(2 / 12)
    assert beside["majority"]["balanced_accuracy"] == pytest.approx(1 / 3)


def test_the_linear_probe_learns_what_colour_tells():
    beside = baselines(Held([(30, 30, 30), (1, 1, 1), (20, 20, 20)]), "test", seed=0)
    assert beside["linear_probe"]["accuracy"] == 1.0
    assert "90 training images" in beside["linear_probe"]["features"]
    hopeless = baselines(Held([(30, 30, 30), (1, 1, 1), (20, 20, 20)], random=1.0), "test", seed=0)
    assert hopeless["linear_probe"]["accuracy"] < 0.6


def test_the_probe_sees_no_more_images_than_it_may(monkeypatch):
    monkeypatch.setattr(evaluate, "PROBE_IMAGES", 40)
    beside = baselines(Held([(30, 30, 30), (1, 1, 1), (5, 5, 5)]), "test", seed=0)
    assert "40 training images" in beside["linear_probe"]["features"]


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_logits_of_a_split_are_streamed(monkeypatch, chunk):
    data = Held([(3, 3, 3), (4, 5, 6), (1, 1, 1)])
    monkeypatch.setattr(evaluate, "CHUNK", chunk)
    seen = []
    logits, labels = split_logits(MODEL, data, "validation", lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(logits, MODEL.logits(data.pixels[9:24]), rtol=1e-5)
    np.testing.assert_array_equal(labels, data.labels[9:24])
    assert seen[-1] == (15, 15)
    assert len(seen) == -(-15 // chunk)


def test_logits_of_an_empty_split():
    logits, labels = split_logits(MODEL, Held([(3, 3, 3), (0, 0, 0), (1, 1, 1)]), "validation")
    assert (logits.shape, labels.shape) == ((0, 3), (0,))


def test_mistakes_are_the_wrong_answers_most_confident_first():
    data = Held([(1, 1, 1), (1, 1, 1), (3, 3, 3)])
    labels = np.repeat(np.arange(3), 3)
    probabilities = np.full((9, 3), 0.05)
    probabilities[np.arange(9), labels] = 0.9
    probabilities[4] = [0.7, 0.2, 0.1]
    probabilities[7] = [0.1, 0.8, 0.1]
    probabilities[0] = [0.3, 0.3, 0.4]
    found = mistakes(MODEL, data, probabilities, labels)
    assert [(m["name"], m["label"], m["predicted"], m["probability"]) for m in found] == [
        ("13.png", "blue", "green", 0.8),
        ("10.png", "green", "red", 0.7),
        ("6.png", "red", "blue", 0.4),
    ]
    assert all(m["thumbnail"].startswith("data:image/jpeg;base64,") for m in found)
    assert len(mistakes(MODEL, data, probabilities, labels, most=1)) == 1
    assert mistakes(MODEL, data, np.eye(3)[labels], labels) == []


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((28, 28, 1), (112, 112)),
        ((224, 112, 3), (56, 112)),
        ((8, 800, 3), (112, 1)),
        ((100, 50, 3), (56, 112)),
    ],
)
def test_a_thumbnail_is_a_small_jpeg(shape, size):
    address = thumbnail(np.full(shape, 130, np.uint8))
    head, _, body = address.partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as picture:
        assert picture.size == size
        assert picture.format == "JPEG"
        assert np.abs(np.asarray(picture.convert("L")).astype(int) - 130).max() <= 2


# other labelled data


@pytest.fixture
def more(tmp_path) -> Path:
    """Three classes; one red photo lies among the green ones."""
    for label, colour in zip(CLASSES, COLOURS, strict=True):
        (tmp_path / "more" / label).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (9 + i, 7), tuple(int(c) for c in colour)).save(
                tmp_path / "more" / label / f"{i}.png"
            )
    shutil.copy(tmp_path / "more" / "red" / "0.png", tmp_path / "more" / "green" / "0.png")
    return tmp_path / "more"


def test_other_data_are_measured(more):
    found = on_folder(MODEL, more)
    assert found["data"] == str(more)
    assert (found["n"], found["unread"]) == (12, [])
    assert found["accuracy"] == pytest.approx(11 / 12)
    assert found["confusion"] == [[4, 0, 0], [1, 3, 0], [0, 0, 4]]
    assert [row["class"] for row in found["per_class"]] == list(CLASSES)


def test_classes_go_by_name_and_not_by_position(more):
    """The folders sort as blue, green, red; the model knows them in another order."""
    shutil.rmtree(more / "green")
    found = on_folder(MODEL, more)
    assert found["confusion"] == [[4, 0, 0], [0, 0, 0], [0, 0, 4]]
    assert found["balanced_accuracy"] == 1.0
    assert [row["support"] for row in found["per_class"]] == [4, 0, 4]
    assert found["per_class"][1]["recall"] is None


def test_what_cannot_be_read_is_listed_and_not_counted(more):
    (more / "red" / "0.png").write_bytes(b"broken")
    (more / "blue" / "3.png").write_bytes(b"")
    found = on_folder(MODEL, more)
    assert found["n"] == 10
    assert found["unread"] == [
        {"name": "blue/3.png", "reason": "empty file"},
        {"name": "red/0.png", "reason": "not an image"},
    ]
    assert found["confusion"] == [[3, 0, 0], [1, 3, 0], [0, 0, 3]]


@pytest.mark.parametrize("chunk", [1, 5, 12])
def test_chunks_of_other_data_change_nothing(more, monkeypatch, chunk):
    (more / "red" / "0.png").write_bytes(b"broken")
    whole = on_folder(MODEL, more)
    monkeypatch.setattr(evaluate, "CHUNK", chunk)
    found = on_folder(MODEL, more)
    assert found.pop("log_loss") == pytest.approx(whole.pop("log_loss"))
    assert found.pop("calibration")["ece"] == pytest.approx(whole.pop("calibration")["ece"])
    assert found == whole


def test_a_class_that_the_model_does_not_know(more):
    (more / "green").rename(more / "greens")
    with pytest.raises(ConvclinicError, match=r"a class 'greens' .*\(did you mean 'green'\?\)"):
        on_folder(MODEL, more)


def test_nothing_that_can_be_read(more):
    for path in more.rglob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(ConvclinicError, match=r"none of the 12 images in .*more can be read"):
        on_folder(MODEL, more)


def test_a_table_of_labels_will_do(more):
    table = more / "labels.csv"
    table.write_text("path,label\nred/0.png,red\nblue/0.png,blue\ngreen/0.png,green\n")
    assert on_folder(MODEL, table)["confusion"] == [[1, 0, 0], [1, 0, 0], [0, 0, 1]]


def test_a_file_that_vanishes_meanwhile_is_unread(more):
    def read(row):
        raise FileNotFoundError(2, "No such file or directory")

    unread = []
    images, good = evaluate.read_images(
        MODEL, SimpleNamespace(names=["gone.png"], read=read), range(1), unread
    )
    assert (len(images), good) == (0, [])
    assert unread[0]["name"] == "gone.png"
    assert "No such file" in unread[0]["reason"]
