"""What a search may choose from: reading, refusing, applying, grids."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from convclinic.ground.errors import ConvclinicError
from convclinic.planning import planner
from convclinic.recipe import Recipe
from convclinic.study import spaces
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.augment.shift import Shift
from convclinic.tricks.optimise.muon import Muon

BASE = Recipe(augment=(Flip(), Shift(pixels=3)))
SPACE = """
optimise: [sgd, adamw]
optimise.lr: {times: [0.1, 10]}
optimise.momentum: {range: [0.5, 0.99], when: {optimise: sgd}}
optimise.weight_decay: {log: [1e-5, 1e-1]}
augment: ["flip,shift", "flip,shift,cutout"]
run.batch_size: {log: [32, 256], points: 4}
net.widths: [[8, 8, 8], [16, 16, 16]]
"""


def space(tmp_path: Path) -> tuple[spaces.Parameter, ...]:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    return spaces.load(path, BASE)


def test_a_file_is_read_as_it_is_meant(tmp_path: Path) -> None:
    found = {p.name: p for p in space(tmp_path)}
    assert list(found) == [line.partition(":")[0] for line in SPACE.split("\n") if line]
    assert found["optimise"].choices == ("sgd", "adamw")
    assert (found["optimise.weight_decay"].low, found["optimise.weight_decay"].whole) == (1e-5, False)
    assert found["run.batch_size"].whole and not found["optimise.lr"].whole
    assert found["optimise.momentum"].when == (("optimise", ("sgd",)),)
    assert found["net.widths"].choices == ("[8, 8, 8]", "[16, 16, 16]")
    assert spaces.from_plain(spaces.to_plain(tuple(found.values()))) == tuple(found.values())


def test_values_make_recipes_in_which_own_tricks_keep_their_options(tmp_path: Path) -> None:
    values: spaces.Values = {
        "optimise": "adamw", "optimise.lr": 2.0, "optimise.weight_decay": 3e-3, "run.batch_size": 64,
        "augment": "flip,shift,cutout", "net.widths": "[16, 16, 16]",
    }  # fmt: skip
    made = spaces.applied(BASE, space(tmp_path), values)
    assert (made.optimise.lr, made.optimise.weight_decay) == (2 * type(made.optimise)().lr, 3e-3)
    assert made.augment[1] == Shift(pixels=3) and len(made.augment) == 3
    assert (made.run.batch_size, made.net.widths) == (64, (16, 16, 16))


def test_a_factor_moves_all_lrs_together() -> None:
    base = dataclasses.replace(BASE, optimise=Muon(lr=0.2, head_lr=4.0, bias_lr=3.0))
    given = spaces.parse({"optimise.lr": {"times": [0.1, 10]}, "run.batch_size": {"times": [0.5, 2]}}, base)
    made = spaces.applied(base, given, {"optimise.lr": 0.5, "run.batch_size": 0.5})
    assert (made.optimise.lr, made.optimise.head_lr, made.optimise.bias_lr) == (0.1, 2.0, 1.5)
    assert made.run.batch_size == base.run.batch_size // 2


def test_a_parameter_is_asked_for_only_where_it_matters(tmp_path: Path) -> None:
    found = {p.name: p for p in space(tmp_path)}
    assert found["optimise.momentum"].asked({"optimise": "sgd"})
    assert not found["optimise.momentum"].asked({"optimise": "adamw"})


def test_a_grid_has_every_combination_once_and_nothing_that_does_not_matter() -> None:
    plain: dict[str, Any] = {
        "optimise": ["sgd", "adamw"],
        "optimise.momentum": {"range": [0.5, 0.9], "points": 3, "when": {"optimise": "sgd"}},
        "run.batch_size": {"log": [32, 128], "points": 3},
    }
    found = spaces.grid(spaces.parse(plain, BASE))
    assert len(found) == (3 + 1) * 3 == len({tuple(values.items()) for values in found})
    assert {values["run.batch_size"] for values in found} == {32, 64, 128}
    assert {values.get("optimise.momentum") for values in found} == {0.5, 0.7, 0.9, None}
    assert not any("optimise.momentum" in v for v in found if v["optimise"] == "adamw")
    lrs = spaces.parse({"optimise.lr": {"log": [0.01, 1.0], "points": 3}}, BASE)
    assert [round(float(v["optimise.lr"]), 9) for v in spaces.grid(lrs)] == [0.01, 0.1, 1.0]


def test_a_grid_that_nobody_could_train_is_refused() -> None:
    plain = {
        f"optimise.{name}": {"range": [0.0, 0.9], "points": 400} for name in ("momentum", "weight_decay")
    }
    with pytest.raises(ConvclinicError, match="more than 10000 combinations"):
        spaces.grid(spaces.parse(plain, BASE))


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        (None, "names no parameter"),
        ({}, "names no parameter"),
        ({"optimize.lr": [1, 2]}, "no slot 'optimize' .*optimise"),
        ({"optimise.lrr": [0.1, 0.2]}, "no option 'lrr'"),
        ({"optimise": ["sgd", "adamm"]}, "no optimise called 'adamm'"),
        ({"optimise.lr": 0.1}, "one value"),
        ({"optimise.lr": {"logg": [0.1, 1]}}, "no 'logg' in a space .*log"),
        ({"optimise.lr": {"log": [0.1, 1], "range": [0, 1]}}, "must say one of"),
        ({"optimise.lr": {"log": [0.0, 1]}}, "above zero"),
        ({"optimise.lr": {"log": [1, 0.1]}}, "must rise"),
        ({"optimise.lr": {"log": [0.1, 0.2, 0.3]}}, "two bounds"),
        ({"optimise.lr": {"range": ["a", "b"]}}, "must be float"),
        ({"optimise.lr": {"log": [0.1, 1], "points": 1}}, "at least 2"),
        ({"optimise.momentum": {"range": [0.5, 1.5]}}, "momentum"),
        ({"optimise.lr": {"log": [0.1, 1], "when": {"optimise": "sgd"}}}, "no list of choices before it"),
        ({"optimise": ["sgd", "adamw"], "optimise.lr": {"log": [0.1, 1], "when": {"optimise": "adm"}}},
         "optimise is never adm"),
        ({"optimise.nesterov": {"times": [0.5, 2]}}, "no number there"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_any_work(plain: Any, words: str) -> None:
    with pytest.raises(ConvclinicError, match=words):
        spaces.parse(plain, BASE)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConvclinicError, match="no file"):
        spaces.load(tmp_path / "none.yaml", BASE)
    (tmp_path / "bad.yaml").write_text("optimise.lr: [")
    with pytest.raises(ConvclinicError, match="cannot read"):
        spaces.load(tmp_path / "bad.yaml", BASE)


@pytest.mark.parametrize("recipe", [BASE, Recipe(), planner.Recipe(optimise=Muon(), augment=())])
def test_the_usual_space_fits_the_recipe_and_holds_it(recipe: Recipe) -> None:
    found = spaces.parse(spaces.usual(recipe, 5000), recipe)
    values = spaces.planned_values(found, recipe)
    assert values["optimise.lr"] == 1.0
    assert spaces.applied(recipe, found, values) == recipe
    for chosen in spaces.grid(tuple(dataclasses.replace(p, points=2) for p in found)):
        assert spaces.applied(recipe, found, chosen).check() is not None


def test_the_recipes_own_place_is_left_out_where_it_is_outside() -> None:
    found = spaces.parse({"optimise.lr": {"log": [5.0, 9.0]}, "optimise.momentum": [0.5, 0.9]}, BASE)
    assert spaces.planned_values(found, BASE) == {"optimise.momentum": "0.9"}
