"""What every prepare trick keeps to, whoever wrote it: run over each file found in the folder."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import convclinic.tricks.prepare as prepare_folder
from convclinic.ground.discovery import adapters
from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.prepare.standardise import Standardise

NAMES = sorted(
    file.stem for file in Path(prepare_folder.__path__[0]).glob("*.py") if not file.stem.startswith("_")
)
OPTIONS = {"mean_image": [{"divide": True}], "min_max": [{"per": "channel"}], "pca": [{"keep": 5}]}
CASES = [(name, options) for name in NAMES for options in [{}, *OPTIONS.get(name, [])]]
every = pytest.mark.parametrize(("name", "options"), CASES, ids=lambda part: str(part))
few = settings(deadline=None, derandomize=True, max_examples=10)


def trick(name: str, options: dict[str, object]) -> Any:
    return adapters("convclinic.tricks.prepare")[name](**options)


def knows_pixels(name: str, options: dict[str, object]) -> bool:
    """Whether the trick treats each pixel by itself, and so knows one size."""
    return (
        name not in ("given", "standardise", "zero_centre", "divide_by_std")
        and options.get("per") != "channel"
    )


def images(n: int = 80, channels: int = 3, seed: int = 0, size: tuple[int, int] = (2, 3)) -> torch.Tensor:
    """uint8 images whose dimensions are correlated and differ much in their spread."""
    rng = np.random.default_rng(seed)
    d = channels * size[0] * size[1]
    spread = 40 * 0.85 ** np.arange(d)
    values = rng.normal(size=(n, d)) * spread + 20 * rng.normal(size=(n, 1)) + rng.uniform(90, 160, d)
    return torch.from_numpy(values.clip(0, 255).round().astype(np.uint8)).view(n, channels, *size)


def floats(x: torch.Tensor) -> torch.Tensor:
    return x.float() / 255


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for key in a:
        # axes of nearly the same variance turn a little with the last digit of the covariance
        tolerance = 2e-3 if key == "matrix" else 1e-6
        torch.testing.assert_close(a[key], b[key], rtol=tolerance, atol=tolerance)


@every
@few
@given(st.lists(st.integers(1, 20), max_size=4), st.booleans())
def test_chunks_do_not_matter(name: str, options: dict[str, object], cuts: list[int], as_float: bool) -> None:
    x = floats(images()) if as_float else images()
    edges = [0, *np.cumsum(cuts).clip(0, 80).tolist(), 80]
    parts = (x[a:b] for a, b in pairwise(edges))
    close(trick(name, options).fit(parts), trick(name, options).fit([x]))


@every
def test_stored_images_and_the_same_as_float_give_the_same(name: str, options: dict[str, object]) -> None:
    x = images()
    close(trick(name, options).fit([x]), trick(name, options).fit([floats(x)]))


@every
@pytest.mark.parametrize("as_float", [False, True])
def test_earlier_chunks_are_let_go(name: str, options: dict[str, object], as_float: bool) -> None:
    seen: list[weakref.ref[np.ndarray]] = []

    def chunks() -> Iterator[torch.Tensor]:
        for seed in range(6):
            # the one before is still the caller's loop variable
            assert all(ref() is None for ref in seen[:-1])
            made = images(10, seed=seed)
            pixels = (floats(made) if as_float else made).numpy().copy()
            seen.append(weakref.ref(pixels))
            yield torch.from_numpy(pixels)

    state = trick(name, options).fit(chunks())
    assert all(ref() is None for ref in seen)
    assert all(value.dtype == torch.float32 and value.is_contiguous() for value in state.values())


@every
def test_nothing_is_kept_from_other_data_and_nothing_learnt_in_applying(
    name: str, options: dict[str, object]
) -> None:
    one, other = images(seed=1), images(seed=2)
    used = trick(name, options)
    state = used.fit([one])
    kept = {key: value.clone() for key, value in state.items()}
    used.apply(floats(other), state)
    used.fit([other])
    assert all(torch.equal(state[key], kept[key]) for key in kept)
    again = used.fit([one])
    assert all(torch.equal(again[key], kept[key]) for key in kept)


@every
def test_each_image_is_treated_by_itself(name: str, options: dict[str, object]) -> None:
    used, x = trick(name, options), floats(images())
    state = used.fit([x])
    together = used.apply(x, state)
    alone = torch.cat([used.apply(one, state) for one in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_keeps_shape_type_and_input(name: str, options: dict[str, object], dtype: torch.dtype) -> None:
    used, x = trick(name, options), floats(images()).to(dtype)
    state = used.fit([images()])
    before = x.clone()
    out = used.apply(x, state)
    assert out.shape == x.shape and out.dtype == dtype and torch.equal(x, before)
    last = used.apply(x.contiguous(memory_format=torch.channels_last), state)
    torch.testing.assert_close(last, out)


@every
def test_evaluation_under_autocast_sees_what_training_saw(name: str, options: dict[str, object]) -> None:
    used, x = trick(name, options), floats(images())
    state = used.fit([x])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = used.apply(x, state)
    assert low.dtype == torch.float32 and torch.equal(low, used.apply(x, state))


@every
@pytest.mark.parametrize("as_float", [False, True])
def test_images_that_do_not_vary_stay_finite(name: str, options: dict[str, object], as_float: bool) -> None:
    used, x = trick(name, options), torch.full((9, 3, 2, 3), 77, dtype=torch.uint8)
    state = used.fit([floats(x) if as_float else x])
    # divide_by_std has nothing to divide by, given's numbers are others'; the rest centre
    expected = floats(x) if name == "divide_by_std" else torch.zeros(9, 3, 2, 3)
    if name != "given":
        torch.testing.assert_close(used.apply(floats(x), state), expected, rtol=0, atol=1e-5)
    assert used.apply(floats(images()), state).isfinite().all()


@every
def test_the_next_trick_can_be_fitted_on_what_this_one_makes(name: str, options: dict[str, object]) -> None:
    used, x = trick(name, options), images()
    state = used.fit([x])
    then = Standardise()
    made = [used.apply(floats(part), state) for part in x.split(30)]
    out = then.apply(torch.cat(made), then.fit(made))
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-4)
    std = out.std((0, 2, 3), correction=0)
    # of pca's five coordinates none lies in the last channels: those are zero
    assert ((std - 1).abs().minimum(std.abs()) < 1e-4).all() and (std > 0.5).any()


@every
@pytest.mark.parametrize(
    ("chunks", "word"),
    [
        ([], "no training images"),
        ([torch.zeros(0, 3, 4, 4, dtype=torch.uint8)], "no training images"),
        ([torch.zeros(2, 3, 4, 4, dtype=torch.int64)], "uint8 or float"),
        ([torch.zeros(2, 4, 4, dtype=torch.uint8)], "3 axes"),
        ([images(2), images(2, channels=1)], "3 channels and some 1"),
        ([images(2), floats(images(2))], "of one type"),
    ],
)
def test_wrong_training_images_are_explained(
    name: str, options: dict[str, object], chunks: list[torch.Tensor], word: str
) -> None:
    with pytest.raises(ConvclinicError, match=word):
        trick(name, options).fit(chunks)


@every
def test_other_channels_are_refused_and_not_broadcast(name: str, options: dict[str, object]) -> None:
    used = trick(name, options)
    state = used.fit([images(channels=1)])
    with pytest.raises(ConvclinicError, match="3 channels"):
        used.apply(floats(images()), state)


@every
def test_other_sizes_are_refused_where_pixels_are_known_by_place(
    name: str, options: dict[str, object]
) -> None:
    used = trick(name, options)
    state, other = used.fit([images()]), images(size=(4, 4))
    if not knows_pixels(name, options):
        assert used.apply(floats(other), state).shape == other.shape
        assert used.fit([images(), other]).keys() == state.keys()
        return
    with pytest.raises(ConvclinicError, match=r"2 x 3 pixels.*4 x 4 pixels"):
        used.apply(floats(other), state)
    with pytest.raises(ConvclinicError, match=r"2 x 3 pixels.*4 x 4 pixels"):
        used.fit([images(), other])
