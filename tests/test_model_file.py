"""The model file: what is saved is what predicts, and a damaged or hostile file is refused, not obeyed."""

import copy
import dataclasses
import json
import os
import pickle
import resource
import shutil
import struct

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from convclinic.ground import files
from convclinic.ground.errors import ConvclinicError
from convclinic.joint import joined
from convclinic.model import Model, batches, build_net
from convclinic.model_file import MOST_PIXELS, load
from convclinic.models.compact import Compact
from convclinic.models.fast import Fast
from convclinic.recipe import Input, Recipe
from convclinic.tricks.combine.flip_views import FlipViews
from convclinic.tricks.combine.shift_views import ShiftViews
from convclinic.tricks.prepare.standardise import Standardise

CLASSES = ("cat", "<b>dög", "a, b")
FACTS = {"temperature": 1.5, "reject": {"threshold": 0.4}, "test_accuracy": 0.9}


def images(n, recipe, seed=0):
    shape = (n, recipe.data.height, recipe.data.width, recipe.data.channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def fresh(recipe, classes=CLASSES, **more):
    """An untrained model whose norms have seen something, so that they do something."""
    net = build_net(recipe, len(classes))
    generator = torch.Generator().manual_seed(5)
    for name, value in net.state_dict().items():
        if name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.is_floating_point():
            value.add_(torch.randn(value.shape, generator=generator) * 0.3)
    chunk = torch.from_numpy(images(20, recipe, seed=1)).permute(0, 3, 1, 2)
    fitted = tuple(trick.fit([chunk]) for trick in recipe.prepare)
    return Model(recipe, classes, net, fitted, **{"deep_max": 4095, "facts": FACTS, **more})


RECIPE = Recipe(data=Input(16, 20, 3), net=Fast(widths=(8, 8, 8)), combine=ShiftViews())


@pytest.fixture(scope="module")
def model():
    return fresh(RECIPE)


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """The file, its header and its tensors."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    model.save(path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["convclinic"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return path, header, tensors


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        Recipe(data=Input(32, 32, 1), net=Compact(widths=(8, 8)), combine=FlipViews()),
        Recipe(data=Input(16, 16, 3), net=Fast(widths=(8, 8)), prepare=()),
        Recipe(data=Input(16, 16, 3), net=Fast(widths=(8,)), prepare=(Standardise(), Standardise())),
    ],
)
def test_what_is_saved_is_what_predicts(tmp_path, recipe):
    model = fresh(recipe)
    model.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert (again.recipe, again.classes, again.deep_max) == (recipe, CLASSES, 4095)
    assert again.facts == FACTS
    shown = images(7, recipe)
    np.testing.assert_array_equal(again.logits(shown), model.logits(shown))
    assert not again.net.training
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()


def test_one_file_predicts_anywhere(written, model, tmp_path):
    """Nothing beside the file is needed: neither the run folder nor the photos."""
    path, _, _ = written
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.copy(path, tmp_path / "elsewhere" / "renamed.bin")
    shown = images(5, RECIPE)
    np.testing.assert_array_equal(
        load(tmp_path / "elsewhere" / "renamed.bin").logits(shown), model.logits(shown)
    )
    assert os.listdir(tmp_path / "elsewhere") == [os.path.basename(moved)]  # noqa: PTH119, PTH208


def test_nothing_is_pickled(written):
    content = written[0].read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    json.loads(content[8 : 8 + length])
    assert b"torch._utils" not in content
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(content)


def test_predictions_are_equal_in_any_batch_split(model, monkeypatch):
    shown = images(33, RECIPE)
    whole = model.logits(shown)
    single = np.concatenate([model.logits(shown[i : i + 1]) for i in range(33)])
    chunks = np.concatenate(list(model.stream([shown[:5], shown[5:6], shown[6:]])))
    monkeypatch.setattr("convclinic.model.batches", lambda part: iter([part[:10], part[10:]]))
    parts = model.logits(shown)
    for other in (single, chunks, parts):
        np.testing.assert_allclose(other, whole, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(other.argmax(1), whole.argmax(1))


@pytest.mark.parametrize(("n", "side"), [(1, 8), (3000, 8), (70, 600), (0, 16)])
def test_batches_hold_every_image_once_and_stay_small(n, side):
    array = np.broadcast_to(np.arange(n, dtype=np.int64)[:, None, None, None], (n, side, side, 1))
    parts = list(batches(array))
    assert [int(value) for part in parts for value in part[:, 0, 0, 0]] == list(range(n))
    assert all(len(part) <= 1024 and (len(part) <= 8 or len(part) * side**2 <= 2**20) for part in parts)


def test_views_are_averaged(model):
    shown = images(4, RECIPE)
    plain = dataclasses.replace(model, recipe=RECIPE.override(["combine=none"]))
    flipped = dataclasses.replace(model, recipe=RECIPE.override(["combine=flip_views"]))
    mean = (plain.logits(shown) + plain.logits(np.ascontiguousarray(shown[:, :, ::-1]))) / 2
    np.testing.assert_allclose(flipped.logits(shown), mean, rtol=1e-4, atol=1e-5)
    assert np.abs(plain.logits(shown) - mean).max() > 1e-3


def test_probabilities_are_the_tempered_softmax(model):
    logits = np.array([[1000.0, 1001.5, -1000.0], [0.0, 0.0, 0.0]], np.float32)
    probabilities = model.probabilities(logits)
    e = np.exp(1.0)  # 1.5 apart at temperature 1.5
    np.testing.assert_allclose(probabilities, [[1 / (1 + e), e / (1 + e), 0], [1 / 3] * 3], atol=1e-12)
    bare = dataclasses.replace(model, facts={})
    assert bare.probabilities(logits)[0, 1] == pytest.approx(1 / (1 + np.exp(-1.5)))
    assert (model.threshold, bare.threshold) == (0.4, 0.0)


def test_a_run_folder_stands_for_its_model(written, tmp_path):
    path, _, _ = written
    with pytest.raises(ConvclinicError, match=r"is not a run folder of convclinic"):
        load(tmp_path)
    files.write_json(tmp_path / "recipe.json", {})
    with pytest.raises(ConvclinicError, match=r"has no model yet \(finish it with `convclinic resume"):
        load(tmp_path)
    shutil.copy(path, tmp_path / "model.safetensors")
    assert load(tmp_path).classes == CLASSES


def test_a_full_disk_leaves_the_old_file(written, model, tmp_path, monkeypatch):
    old = shutil.copy(written[0], tmp_path / "m.safetensors").read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ConvclinicError, match=r"no space left while writing .*m\.safetensors"):
        dataclasses.replace(model, facts={}).save(tmp_path / "m.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
    assert (tmp_path / "m.safetensors").read_bytes() == old


# files that must be refused


def no_model(path, words):
    with pytest.raises(ConvclinicError, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 600


def test_no_such_file(tmp_path):
    no_model(tmp_path / "m.safetensors", "^no model file ")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_truncated_file(written, tmp_path, share):
    content = written[0].read_bytes()
    (tmp_path / "m").write_bytes(content[: int(share * len(content))])
    no_model(tmp_path / "m", r"is not a readable model file: .*copy or train it again")


@pytest.mark.parametrize(
    "content",
    [
        np.random.default_rng(0).bytes(5000),
        b"\x00" * 100,
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 2**31) + b"{" * 100,
        struct.pack("<Q", 2) + b"{}" + b"left over",
        pickle.dumps({"weight": [1.0, 2.0]}),
        b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
    ],
    ids=["random", "zeros", "endless", "long", "rest", "pickle", "png"],
)
def test_what_is_no_safetensors_file(tmp_path, content):
    (tmp_path / "m").write_bytes(content)
    no_model(tmp_path / "m", "is not a readable model file")


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


@pytest.mark.parametrize("how", [pickle.dumps, torch.save])
def test_a_pickled_file_is_not_executed(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    if how is torch.save:
        torch.save({"net": Bomb()}, "m")
    else:
        (tmp_path / "m").write_bytes(pickle.dumps(Bomb()))
    no_model(tmp_path / "m", "is not a readable model file")
    assert not (tmp_path / "exploded").exists()


def test_a_file_of_another_program(tmp_path):
    (tmp_path / "m").write_bytes(save({"weight": torch.zeros(3)}))
    no_model(tmp_path / "m", r"is a safetensors file of another program")
    (tmp_path / "m").write_bytes(save({"weight": torch.zeros(3)}, {"format": "pt"}))
    no_model(tmp_path / "m", r"is a safetensors file of another program")


def rewritten(written, tmp_path, header=None, tensors=None):
    """The good file with its header or its tensors changed."""
    _, plain, good = written
    changed = copy.deepcopy(plain)
    text = header if isinstance(header, str) else json.dumps((header or (lambda h: h))(changed))
    path = tmp_path / "m.safetensors"
    path.write_bytes(save((tensors or dict)(dict(good)), {"convclinic": text}))
    return path


def setting(*keys, to):
    """A change of one value in the header; `to` is `...` to leave it out."""

    def change(header):
        inner = header
        for key in keys[:-1]:
            inner = inner[key]
        if to is ...:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = to
        return header

    return change


def test_the_unchanged_file_is_read(written, tmp_path):
    assert load(rewritten(written, tmp_path)).classes == CLASSES


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", "null", "3", '{"format": null}', "[" * 100_000])
def test_a_header_that_is_damaged(written, tmp_path, text):
    no_model(rewritten(written, tmp_path, header=text), r"the header of .* is damaged")


def test_newer_versions(written, tmp_path):
    newer = rewritten(written, tmp_path, header=setting("format", to=4))
    no_model(newer, r"has format 4; this convclinic reads up to 3 \(upgrade convclinic\)")
    newer = rewritten(written, tmp_path, header=setting("recipe", "format", to=2))
    no_model(newer, r"format 2; this convclinic reads up to 1")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("recipe",), None),
        (("recipe",), [1]),
        (("recipe",), ...),
        (("recipe", "net"), "nothing"),
        (("recipe", "net", "widths"), []),
        (("recipe", "net", "widths"), [-8, 8, 8]),
        (("recipe", "net", "widths"), [8] * 40),
        (("recipe", "net", "kernel"), 0),
        (("recipe", "net", "name"), "compact"),
        (("recipe", "hostile"), 1),
        (("recipe", "data", "height"), 0),
        (("recipe", "data", "height"), -5),
        (("recipe", "data", "height"), 3),
        (("recipe", "data", "channels"), 1),
        (("recipe", "data", "channels"), 4),
        (("classes",), None),
        (("classes",), 3),
        (("classes",), []),
        (("classes",), ["cat", "cat", "dog"]),
        (("classes",), ["cat", "dog"]),
        (("classes",), ...),
        (("deep_max",), None),
        (("deep_max",), 0),
        (("deep_max",), "white"),
        (("deep_max",), ...),
        (("facts",), [1]),
        (("facts",), None),
        (("facts",), ...),
        (("facts", "temperature"), 0),
        (("facts", "temperature"), -1),
        (("facts", "temperature"), "hot"),
        (("facts", "temperature"), float("nan")),
        (("facts", "reject"), "often"),
        (("facts", "reject"), {"threshold": "high"}),
    ],
)
def test_a_value_in_the_header_that_cannot_be(written, tmp_path, keys, value):
    path = rewritten(written, tmp_path, header=setting(*keys, to=value))
    no_model(path, "the parts of .* do not fit together")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("recipe", "net", "widths"), [200_000] * 3),
        (("recipe", "net", "widths"), [10**12] * 3),
        (("recipe", "net", "kernel"), 10**9),
        (("recipe", "data", "height"), 10**9),
        (("recipe", "data", "width"), MOST_PIXELS // 16 + 1),
    ],
)
def test_a_header_that_asks_for_a_giant_is_refused_without_allocating(written, tmp_path, keys, value):
    path = rewritten(written, tmp_path, header=setting(*keys, to=value))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    no_model(path, "the parts of .* do not fit together")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


HEAD = "net.head.weight"
DAMAGED = {
    "missing": lambda t: {name: value for name, value in t.items() if name != HEAD},
    "extra": lambda t: {**t, "net.more.weight": torch.zeros(2)},
    "shape": lambda t: {**t, HEAD: torch.zeros(3, 9)},
    "transposed": lambda t: {**t, HEAD: t[HEAD].T.contiguous()},
    "integers": lambda t: {**t, HEAD: t[HEAD].int()},
    "half": lambda t: {name: v.half() if v.is_floating_point() else v for name, v in t.items()},
    "nothing": lambda t: {"net.x": torch.zeros(1)},
    "unprepared": lambda t: {name: value for name, value in t.items() if not name.startswith("prepare.")},
    "prepared otherwise": lambda t: {**t, "prepare.0.mean": torch.zeros(7)},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_tensors_that_do_not_fit(written, tmp_path, name):
    no_model(rewritten(written, tmp_path, tensors=DAMAGED[name]), "the parts of .* do not fit together")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_net_of_no_numbers(written, tmp_path, value):
    path = rewritten(written, tmp_path, tensors=lambda t: {**t, HEAD: torch.full_like(t[HEAD], value)})
    with np.errstate(invalid="ignore"):
        no_model(path, r"gives no numbers \(train it again, with a smaller LR\)")


# members under a classifier


def under_a_head(model, reads):
    """Two members and a classifier on what it reads of them."""
    bare = dataclasses.replace(joined([model, model], [1.0, 1.0]), reads=reads)
    width = sum(part.shape[1] for part in bare.inputs(images(1, RECIPE)))
    rng = torch.Generator().manual_seed(1)
    head = {"weight": torch.randn(len(CLASSES), width, generator=rng), "bias": torch.randn(len(CLASSES))}
    return dataclasses.replace(bare, head=head)


@pytest.mark.parametrize("reads", ["log_probabilities", "features"])
def test_a_classifier_on_members_is_saved_with_them(model, tmp_path, reads):
    both, shown = under_a_head(model, reads), images(4, RECIPE)
    if reads == "features":
        read = [model.features(shown)] * 2
    else:
        read = [np.log(model.probabilities(model.logits(shown)))] * 2
    expected = np.concatenate(read, 1) @ both.head["weight"].numpy().T + both.head["bias"].numpy()
    np.testing.assert_allclose(both.logits(shown), expected, rtol=1e-4, atol=1e-4)
    both.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert (again.reads, again.format) == (reads, 3)
    np.testing.assert_array_equal(again.logits(shown), both.logits(shown))
    assert joined([model], [1.0]).format == 2 and model.format == 1  # as older programs read them
    assert joined([both, model], [1.0, 1.0]).format == 3
    joined([both, model], [1.0, 1.0]).save(tmp_path / "n.safetensors")
    assert load(tmp_path / "n.safetensors").members[0].reads == reads


def test_features_over_views_are_their_mean(model):
    shown = images(3, RECIPE)
    plain = dataclasses.replace(model, recipe=RECIPE.override(["combine=none"]))
    flipped = dataclasses.replace(model, recipe=RECIPE.override(["combine=flip_views"]))
    other = plain.features(np.ascontiguousarray(shown[:, :, ::-1]))
    np.testing.assert_allclose(flipped.features(shown), (plain.features(shown) + other) / 2, atol=1e-4)


@pytest.mark.parametrize(
    ("head", "reads"),
    [
        ({"weight": (len(CLASSES), 3), "bias": (len(CLASSES),)}, "log_probabilities"),
        ({"weight": (len(CLASSES) + 1, 2 * len(CLASSES)), "bias": (len(CLASSES) + 1,)}, "log_probabilities"),
        ({"weight": (len(CLASSES), 2 * len(CLASSES)), "bias": (1,)}, "log_probabilities"),
        ({"weight": (len(CLASSES), 2 * len(CLASSES))}, "log_probabilities"),
        ({"weight": (len(CLASSES), 2 * len(CLASSES)), "bias": (len(CLASSES),)}, "minds"),
    ],
    ids=["narrow", "classes", "bias", "missing", "reads"],
)
def test_a_classifier_that_does_not_fit_its_members(model, tmp_path, head, reads):
    both = under_a_head(model, "log_probabilities")
    changed = {name: torch.zeros(shape) for name, shape in head.items()}
    dataclasses.replace(both, head=changed, reads=reads).save(tmp_path / "m.safetensors")
    no_model(tmp_path / "m.safetensors", "the parts of .* do not fit together")


def test_a_classifier_that_gives_no_numbers(model, tmp_path):
    both = under_a_head(model, "log_probabilities")
    both.head["bias"][0] = float("nan")
    both.save(tmp_path / "m.safetensors")
    no_model(tmp_path / "m.safetensors", "gives no numbers")
