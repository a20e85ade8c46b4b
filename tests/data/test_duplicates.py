"""Exact and near duplicates, and what is done about them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from convclinic.data.checkup import check_up
from convclinic.data.duplicates import duplicate_groups, exact_groups, join_groups, near_pairs
from convclinic.data.intake import take_in
from convclinic.data.quarantine import set_aside
from convclinic.data.sources import open_source
from convclinic.data.survey import survey

SHAPE = (48, 64, 3)


@pytest.fixture
def examined(tmp_path):
    def run(root, store=True):
        source = open_source(root)
        intake = take_in(source, SHAPE, tmp_path / "s" if store else None, survey=survey(source))
        groups = duplicate_groups(intake, source)
        return source, intake, groups, {name: i for i, name in enumerate(source.names)}

    return run


def detailed(seed):
    """A picture with detail: low-resolution blobs and fine texture."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 256, (6, 8, 3)).astype(np.uint8)).resize((128, 96))
    fine = draw.normal(0, 18, (24, 32, 1)).repeat(4, 0).repeat(4, 1)
    return Image.fromarray(np.clip(np.asarray(coarse) + fine, 0, 255).astype(np.uint8))


def test_exact_and_near_duplicates_share_a_group(photos, examined):
    root = photos({"a": 0, "b": 0})
    for i in range(30):
        detailed(i).save(root / "ab"[i % 2] / f"{i}.png")
    shutil.copy(root / "a/0.png", root / "a/copy.png")
    detailed(0).save(root / "a/other.bmp")  # the same pixels in another format
    detailed(1).save(root / "b/again.jpg", quality=60)  # compressed
    detailed(3).resize((100, 75)).point(lambda v: min(255, v + 15)).save(
        root / "b/lighter.png"
    )  # smaller, lighter
    _, intake, groups, at = examined(root)
    assert groups[at["a/copy.png"]] == groups[at["a/other.bmp"]] == groups[at["a/0.png"]]
    assert groups[at["b/again.jpg"]] == groups[at["b/1.png"]]
    assert groups[at["b/lighter.png"]] == groups[at["b/3.png"]]
    assert len(np.unique(groups)) == 30
    assert len(np.unique(exact_groups(intake))) == 32
    assert all(groups[g] == g for g in groups)


def test_flat_pictures_are_no_near_duplicates(photos, examined):
    root = photos({"a": 0, "b": 0})
    for i in range(12):
        level = np.full((48, 64, 3), 100 + i, np.uint8)
        level[0, 0] = i  # not exact duplicates
        Image.fromarray(level).save(root / "ab"[i % 2] / f"{i}.png")
    _, _, groups, _ = examined(root)
    assert len(np.unique(groups)) == 12


def test_a_chain_of_likenesses_does_not_grow_without_end(photos, examined):
    root = photos({"a": 0, "b": 3})
    for i in range(30):
        detailed(0).save(root / "a" / f"{i}.jpg", quality=50 + i)
    _, _, groups, _ = examined(root)
    assert np.bincount(groups).max() <= 8


def test_pairs_within_a_source_group_are_left_out(photos, examined):
    root = photos({"a": 0, "b": 3})
    for i in range(3):
        detailed(i).save(root / "a" / f"{i}.png")
        detailed(i).save(root / "a" / f"{i}.jpg", quality=70)
    _, intake, _, _ = examined(root)
    apart = np.arange(len(intake), dtype=np.int32)
    assert len(near_pairs(intake, apart)[0]) == 3
    apart[:2] = 0
    assert len(near_pairs(intake, apart)[0]) == 2


def test_without_stored_pixels_thumbnails_decide(photos, examined):
    root = photos({"a": 0, "b": 3})
    for i in range(4):
        detailed(i).save(root / "a" / f"{i}.png")
    detailed(2).save(root / "a" / "x.jpg", quality=90)
    _, _, groups, at = examined(root, store=False)
    assert groups[at["a/x.jpg"]] == groups[at["a/2.png"]]
    assert len(np.unique(groups)) == 7


def test_where_look_alikes_differ_in_label_the_bar_is_raised(photos, examined):
    root = photos({"a": 0, "b": 0})
    for i in range(60):  # one garment in 60 weaves, under both labels
        noise = np.random.default_rng(i).normal(0, 14, (48, 64, 1)).repeat(2, 0).repeat(2, 1)
        image = np.clip(np.asarray(detailed(7)) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / "ab"[i % 2] / f"{i}.png")
    source, intake, _, _ = examined(root)
    assert len(near_pairs(intake)[0]) > 20
    assert len(near_pairs(intake, labels=source.labels)[0]) == 0


def test_joining_groupings_is_transitive():
    first = np.array([0, 0, 2, 3, 4, 4])
    second = np.array([9, 8, 8, 7, 7, 6])
    assert join_groups(first, second).tolist() == [0, 0, 0, 3, 3, 3]
    assert join_groups(first, None).tolist() == first.tolist()


def test_conflicting_labels_set_aside_every_copy(photos, examined):
    root = photos({"a": 4, "b": 4})
    shutil.copy(root / "a/0.png", root / "b/wrong.png")
    shutil.copy(root / "a/1.png", root / "a/again.png")  # same label: no conflict
    source, intake, groups, at = examined(root)
    reasons = set_aside(source, intake, groups)
    assert sorted(source.names[i] for i in reasons) == ["a/0.png", "b/wrong.png"]
    assert reasons[at["a/0.png"]] == "the same picture under different labels: 'a', 'b'"
    found = {f.cause: f for f in check_up(source, intake, groups)}
    assert found["conflicting_labels"].examples == ("a/0.png", "b/wrong.png")
    assert found["exact_duplicates"].summary == "2 pictures stored more than once, 2 copies too many"


def test_training_copies_of_given_test_images_are_set_aside(photos, examined):
    root = photos({f"{part}/{c}": 4 for part in ("train", "val", "test") for c in "ab"})
    shutil.copy(root / "test/a/0.png", root / "train/a/leak.png")
    shutil.copy(root / "test/a/1.png", root / "val/a/leak.png")
    shutil.copy(root / "val/b/0.png", root / "train/b/leak.png")
    source, intake, groups, _ = examined(root)
    reasons = {source.names[i]: why for i, why in set_aside(source, intake, groups).items()}
    assert reasons == {
        "train/a/leak.png": "duplicate of a test image",
        "val/a/leak.png": "duplicate of a test image",
        "train/b/leak.png": "duplicate of a validation image",
    }
    assert "split_leak" in {f.cause for f in check_up(source, intake, groups)}


def test_check_up_names_every_trap(photos, photo, examined):
    root = photos({"a": 60, "b": 5})
    (root / "a/0.png").write_bytes(b"")
    (root / "a/1.png").write_text("text " * 9)
    (root / "a/2.png").write_bytes((root / "a/3.png").read_bytes()[:300])
    photo(100).save(root / "a/4.png", "JPEG")
    photo(101).convert("RGBA").save(root / "a/5.png")
    photo(102).quantize(16).save(root / "a/6.png")
    photo(103).convert("CMYK").save(root / "a/k.jpg")
    photo(104, 5, 8).save(root / "a/7.png")
    photo(105, 24, 200).save(root / "a/8.png")
    photo(106).convert("L").save(root / "a/9.png")
    Image.fromarray(np.arange(768, dtype=np.uint16).reshape(24, 32) * 80).save(root / "a/10.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(107).save(root / "a/r.jpg", exif=exif)
    photo(108).save(root / "a/g.gif", save_all=True, append_images=[photo(109)])
    source, intake, groups, _ = examined(root)
    found = {f.cause: f for f in check_up(source, intake, groups)}
    wanted = set(
        [
            "empty_file",
            "not_an_image",
            "truncated_file",
            "wrong_extension",
            "alpha",
            "palette",
            "cmyk",
            "tiny_image",
            "size_outliers",
            "mixed_gray",
            "sixteen_bit",
            "exif_rotated",
            "animated",
            "class_too_small",
            "class_imbalance",
        ]
    )
    assert wanted <= set(found)
    for finding in found.values():
        assert finding.summary and finding.action and finding.severity in {"info", "warning"}
    assert found["empty_file"].examples == ("a/0.png",) and found["empty_file"].action == "set aside"
    assert found["class_too_small"].examples == ("b",)
    ranks = [f.severity for f in check_up(source, intake, groups)]
    assert ranks == sorted(ranks, key=["critical", "warning", "info"].index)


def test_trashnet_has_three_pictures_under_two_labels(shared, tmp_path):
    source = open_source(shared("trashnet-256.tar"))
    intake = take_in(source, (48, 64, 3), tmp_path / "s", survey=survey(source, 32))
    groups = duplicate_groups(intake, source)
    reasons = set_aside(source, intake, groups)
    assert len(reasons) == 6 and all(why.startswith("the same picture") for why in reasons.values())
    near = near_pairs(intake)[0]
    assert 10 <= len(near) <= 80
    assert np.bincount(groups).max() <= 8
