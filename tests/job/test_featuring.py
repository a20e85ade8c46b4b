"""`features` from folder to file: what is written, how it is judged, and what is refused."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from making import photos
from PIL import Image
from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.job import featuring
from convclinic.job.backbones import load_backbone
from convclinic.job.featuring import features
from convclinic.kinds import Layers
from convclinic.models.resnet_cifar import ResNetCifar

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
STAGES = ["stem", "layer1", "layer2", "layer3"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A file of random weights of a small net."""
    torch.manual_seed(0)
    net = ResNetCifar(depth=20).build(3, 10, Layers(lambda _: nn.ReLU()))
    path = tmp_path_factory.mktemp("weights") / "resnet20-made.th"
    torch.save({"state_dict": {f"module.{name}": value for name, value in net.state_dict().items()}}, path)
    return path


@pytest.fixture(scope="module")
def bars(tmp_path_factory) -> Path:
    return photos(tmp_path_factory.mktemp("bars") / "photos", per_class=20)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def taken(images: Path, weights: Path, **more):
    return features(images, weights=weights, device="cpu", quiet=True, **more)


def test_a_file_holds_every_stage_with_names_and_labels(bars, weights):
    done = taken(bars, weights)
    assert done.file == Path("photos-features.npz")
    with np.load(done.file) as file:
        assert list(file) == [*STAGES, "names", "labels", "classes"]
        assert [file[stage].shape for stage in STAGES] == [(40, 16), (40, 16), (40, 32), (40, 64)]
        assert file["classes"][file["labels"]].tolist() == [str(name).split("/")[0] for name in file["names"]]
        assert file["layer3"].dtype == np.float32
    assert (done.n, done.size, done.unread) == (40, (32, 32), ())


def test_stages_are_judged_and_the_best_is_named(bars, weights):
    done = taken(bars, weights)
    assert [score.stage for score in done.stages] == STAGES
    best = max(score.balanced_accuracy for score in done.stages)
    assert next(score for score in done.stages if score.stage == done.best).balanced_accuracy == best
    assert best > 0.8  # bars that lie or stand are told apart by random filters as well


def test_the_chosen_head_judges_the_chosen_stages(bars, weights):
    done = taken(bars, weights, stages=["layer2", "stem"], head="svm")
    assert [score.stage for score in done.stages] == ["layer2", "stem"]
    with np.load(done.file) as file:
        assert "layer3" not in file


def test_images_without_labels_have_features_and_no_scores(bars, weights, here):
    (here / "loose").mkdir()
    for i, path in enumerate(sorted(bars.rglob("*.png"))[:6]):
        shutil.copy(path, here / "loose" / f"{i}.png")
    done = taken(here / "loose", weights)
    assert (done.n, done.best, done.classes) == (6, None, ())
    with np.load(done.file) as file:
        assert "labels" not in file


def test_the_same_call_needs_no_second_pass(bars, weights, monkeypatch):
    with np.load(taken(bars, weights).file) as file:
        first = {stage: file[stage] for stage in STAGES}

    def refuse(*_):
        raise AssertionError("extracted again")

    monkeypatch.setattr("convclinic.models._staged.Staged.stages", refuse)
    with np.load(taken(bars, weights, out="again.npz", cache="photos-features").file) as file:
        for stage in STAGES:
            np.testing.assert_array_equal(file[stage], first[stage])


def test_a_broken_image_is_left_out_and_told(weights, here):
    folder = photos(here / "photos", per_class=6)
    (folder / "lying" / "000.png").write_bytes(b"no image")
    done = taken(folder, weights)
    assert done.n == 11
    assert [item["name"] for item in done.unread] == ["lying/000.png"]
    with np.load(done.file) as file:
        assert len(file["names"]) == len(file["stem"]) == 11


def test_copies_are_not_parted_so_that_noise_scores_like_chance(weights, here):
    draw = np.random.default_rng(0)
    for i in range(40):
        picture = Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        folder = here / "noise" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        for copy in range(3):
            picture.save(folder / f"{i}-{copy}.png")
    done = taken(here / "noise", weights)
    assert done.stages[-1].accuracy < 0.75


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stages": ["layer9"]}, "no stage 'layer9'"),
        ({"head": "tree"}, "no head 'tree'"),
        ({"out": "features.csv"}, "written as .npz"),
        ({"weights": None}, "--weights FILE or --backbone NAME"),
        ({"backbone": "resnet99"}, "no backbone 'resnet99'"),
        ({"backbone": "mobilenet_v2"}, "of another net"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(bars, weights, here, options, said):
    with pytest.raises(ConvclinicError, match=said):
        features(bars, **{"weights": weights, "device": "cpu", "quiet": True, **options})
    assert not list(here.glob("*.npz"))


def test_a_folder_without_images_is_refused(weights, here):
    (here / "empty").mkdir()
    with pytest.raises(ConvclinicError):
        taken(here / "empty", weights)


def test_the_image_cache_is_not_left_behind(bars, weights, here, monkeypatch):
    monkeypatch.setattr(featuring.tempfile, "tempdir", str(here / "temporary"))
    (here / "temporary").mkdir()
    taken(bars, weights)
    assert not list((here / "temporary").iterdir())


def test_real_weights_tell_real_photos_apart(here):
    archive, file = SHARED / "trashnet-256.tar", SHARED / "weights" / "mobilenet_v2_1.0_224_tf2ptq_fp16.npz"
    if not (archive.exists() and file.exists()):
        pytest.skip(f"no real data in {SHARED}")
    taken_of: dict[str, int] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            label = Path(member.name).parent.name
            if member.isfile() and member.name.endswith(".jpg") and taken_of.get(label, 0) < 8:
                taken_of[label] = taken_of.get(label, 0) + 1
                tar.extract(member, here / "trash", filter="data")
    done = features(here / "trash" / "trashnet-256", weights=file, side=97, device="cpu", quiet=True)
    assert (done.n, done.size) == (48, (97, 97))
    assert done.stages[-1].stage == "features18"
    assert done.stages[-1].balanced_accuracy > 0.35  # chance is 0.17


def test_a_loaded_net_is_shown_images_as_its_weights_were(weights):
    loaded = load_backbone(weights, None)
    assert loaded.backbone.model == "resnet20"
    assert loaded.size() == (32, 32)
    assert loaded.size(100) == (96, 96)
    assert loaded.prepare[0].mean == loaded.source.mean
    assert not [name for name in loaded.matched.fresh if not name.startswith("head.")]


def test_a_file_that_says_nothing_needs_the_name_of_the_net(weights, here):
    shutil.copy(weights, here / "mystery.pth")
    with pytest.raises(ConvclinicError, match="--backbone"):
        load_backbone(here / "mystery.pth", None)
    assert load_backbone(here / "mystery.pth", "resnet20").matched.loaded
