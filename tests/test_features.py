"""Features of a net: what they are, that they stream, and what the cache keeps."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from staged import Tiny

from convclinic import features as module
from convclinic.features import extract
from convclinic.ground.errors import ConvclinicError
from convclinic.model import to_tensor
from convclinic.tricks.prepare.standardise import Standardise

CPU = torch.device("cpu")
STATE = {"mean": torch.tensor([0.4, 0.5, 0.6]), "std": torch.tensor([0.2, 0.2, 0.3])}


def images(n: int = 50, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def taken(net, pictures, stages=Tiny.stage_names, size=(16, 16), state=STATE, **more):
    return extract(net, (Standardise(),), (state,), pictures, stages, CPU, size, **more)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.npy"))


def test_features_are_the_pooled_maps_of_the_prepared_images():
    net, pictures = Tiny().eval(), images()
    shown = Standardise().apply(to_tensor(pictures).float() / 255, STATE)
    with torch.no_grad():
        expected = {name: maps.mean((2, 3)) for name, maps in net.stages(shown, net.stage_names).items()}
    found = taken(Tiny(), pictures)
    assert list(found) == ["low", "middle", "high"]
    for name, values in found.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected[name].numpy(), atol=1e-5)


def test_how_images_are_read_changes_nothing_and_only_pieces_are_held(monkeypatch):
    whole = taken(Tiny(), images())

    class Counted:
        largest = 0

        def __len__(self):
            return 50

        def __getitem__(self, rows):
            part = images()[rows]
            self.largest = max(self.largest, len(part))
            return part

    monkeypatch.setattr(module, "CHUNK", 7)
    counted = Counted()
    streamed = taken(Tiny(), counted)
    assert counted.largest == 7
    for name, values in whole.items():
        np.testing.assert_allclose(streamed[name], values, atol=1e-6)


def test_images_are_resized_on_the_way():
    large = images(4, 32)
    assert not np.allclose(taken(Tiny(), large)["low"], taken(Tiny(), large, size=(32, 32))["low"])


def test_a_batch_is_small_where_images_are_enlarged(monkeypatch):
    monkeypatch.setattr(module, "BATCH_PIXELS", 64 * 64 * 10)
    largest = []

    class Watched(Tiny):
        def stages(self, images, wanted):
            largest.append(len(images))
            return super().stages(images, wanted)

    taken(Watched(), images(25), size=(64, 64))
    assert largest == [10, 10, 5]


def test_only_what_is_asked_for_is_given_in_that_order():
    assert list(taken(Tiny(), images(), ("high", "low"))) == ["high", "low"]


def test_no_images_give_no_features():
    assert len(taken(Tiny(), images()[:0])["high"]) == 0


def test_an_unknown_stage_is_refused_with_the_nearest_name():
    with pytest.raises(ConvclinicError, match=r"no stage 'hihg'.*did you mean 'high'"):
        taken(Tiny(), images(), ("hihg",))


def test_a_net_that_gives_no_numbers_is_refused():
    net = Tiny()
    net.blocks["middle"][0].weight.data.fill_(float("nan"))
    with pytest.raises(ConvclinicError, match="no numbers at stage 'middle'"):
        taken(net, images())


def test_what_was_extracted_is_found_again_without_a_pass(tmp_path):
    first = taken(Tiny(), images(), cache=tmp_path)
    again = Tiny()
    second = taken(again, images(), cache=tmp_path)
    assert again.passes == 0
    for name, values in first.items():
        assert isinstance(second[name], np.memmap)
        np.testing.assert_array_equal(values, second[name])


def test_the_cache_is_read_only(tmp_path):
    values = taken(Tiny(), images(), cache=tmp_path)["low"]
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 0


def test_stages_are_kept_one_by_one(tmp_path):
    taken(Tiny(), images(), ("low",), cache=tmp_path)
    net = Tiny()
    found = taken(net, images(), cache=tmp_path)
    assert net.passes == 50
    assert len(files(tmp_path)) == 3
    np.testing.assert_allclose(found["low"], taken(Tiny(), images(), ("low",))["low"], atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"net": Tiny(seed=1)},
        {"pictures": images(51)},
        {"pictures": images() ^ 1},
        {"size": (32, 32)},
        {"state": STATE | {"mean": torch.zeros(3)}},
    ],
    ids=["weights", "more images", "other pixels", "size", "preprocessing"],
)
def test_other_features_have_a_place_of_their_own(tmp_path, change):
    taken(Tiny(), images(), cache=tmp_path)
    options = {"net": Tiny(), "pictures": images(), **change}
    taken(**options, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert options["net"].passes == len(options["pictures"])


def test_another_head_keeps_the_features(tmp_path):
    taken(Tiny(), images(), cache=tmp_path)
    net = Tiny(n_classes=7)
    taken(net, images(), cache=tmp_path)
    assert net.passes == 0


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def foreign(path: Path) -> None:
    np.save(path, np.zeros((50, 3), np.float32))


def no_words(path: Path) -> None:
    path.with_suffix(".json").write_text("[]")


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, foreign, no_words, Path.unlink])
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    whole = {name: np.array(values) for name, values in taken(Tiny(), images(), cache=tmp_path).items()}
    for path in files(tmp_path):
        damage(path)
    net = Tiny()
    for name, values in taken(net, images(), cache=tmp_path).items():
        np.testing.assert_array_equal(values, whole[name])
    assert net.passes == 50
    assert not list(tmp_path.rglob(".part-*"))


def test_a_pass_that_breaks_off_leaves_no_features_behind(tmp_path):
    class Broken:
        def __len__(self):
            return 1000

        def __getitem__(self, rows):
            if rows.start:
                raise KeyboardInterrupt
            return images(512)[rows]

    class Hashed(Broken):
        asked = 0

        def __getitem__(self, rows):
            self.asked += 1
            return images(1000)[rows] if self.asked <= 2 else super().__getitem__(rows)

    with pytest.raises(KeyboardInterrupt):
        taken(Tiny(), Hashed(), cache=tmp_path)
    assert files(tmp_path) == []


def test_progress_ends_with_all_images():
    told = []
    taken(Tiny(), images(), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (50, 50)


def test_dropout_and_batch_statistics_play_no_part():
    net = Tiny().train()
    first = taken(net, images())["high"]
    assert not net.training
    np.testing.assert_array_equal(first, taken(net, images())["high"])
