"""What a search may choose from: parameters of a recipe, each a list or a range of values.

    optimise: [muon, adamw]
    optimise.lr: {times: [0.1, 10]}
    augment: ["flip,shift", "flip,shift,cutout"]
    regularise.label_smoothing.smoothing: {range: [0.0, 0.3]}
    optimise.weight_decay: {log: [1e-5, 1e-1], when: {optimise: adamw}}

A name is what `--set` takes. A list holds choices; `range` and `log` bounds, of whole numbers where both
bounds are; `times` bounds of a factor on the value that the recipe has, and for `optimise.lr` on all LRs of
the optimiser. Factors and `log` are drawn evenly in the logarithm. `when` keeps a parameter to certain
choices of another one. `points` says into how many values a grid divides a range.

Source: that ranges of learning rates are to be searched in the logarithm, at random rather than by a grid:
Bergstra and Bengio, Random Search for Hyper-Parameter Optimization, 2012, JMLR 13
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import yaml

from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.ground.typed import convert
from convclinic.recipe import Recipe, changed, scaled
from convclinic.slots import SLOTS, check_names, name_of

Value: TypeAlias = str | int | float
Values: TypeAlias = dict[str, Value]
Kind: TypeAlias = Literal["choices", "range", "log", "times"]

KINDS: tuple[Kind, ...] = ("choices", "range", "log", "times")
OTHERS = ("when", "points")
POINTS = 5  # of a range in a grid
MOST_GRID = 10_000
ALL_LRS = "optimise.lr"


@dataclass(frozen=True)
class Parameter:
    """name: a setting's; of choices their texts, of the other kinds low and high. whole: whole numbers only.
    when: (other parameter, its texts) without which this one is not asked for."""

    name: str
    kind: Kind
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    points: int = POINTS
    when: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def asked(self, values: Mapping[str, Value]) -> bool:
        """Whether it matters beside what was chosen for those before it."""
        return all(str(values.get(other)) in texts for other, texts in self.when)

    def grid(self) -> list[Value]:
        """The values that a grid gives it."""
        if self.kind == "choices":
            return list(self.choices)
        if self.whole and self.high - self.low < self.points:
            return list(range(int(self.low), int(self.high) + 1))
        n, even = self.points, self.kind == "range"
        low, high = (self.low, self.high) if even else (math.log(self.low), math.log(self.high))
        inner = [low + (high - low) * i / (n - 1) for i in range(1, n - 1)]
        found = [self.low, *(x if even else math.exp(x) for x in inner), self.high]
        return list(dict.fromkeys(round(x) for x in found)) if self.whole else list(found)


def load(path: Path, recipe: Recipe) -> tuple[Parameter, ...]:
    """The space in a YAML or JSON file, tried on the recipe. Raises ConvclinicError for anything wrong."""
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConvclinicError(f"no file {path}") from error
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConvclinicError(f"cannot read {path}: {error}") from error
    return parse(plain, recipe)


def parse(plain: Any, recipe: Recipe) -> tuple[Parameter, ...]:
    """The space from plain data, each parameter tried at its ends on the recipe.

    Raises ConvclinicError for a name, option or value that the recipe does not take.
    """
    if not isinstance(plain, dict) or not plain:
        raise ConvclinicError(
            "the space names no parameter", fix="write lines like `optimise.lr: {log: [0.01, 1.0]}`"
        )
    found: list[Parameter] = []
    for name, described in cast("dict[Any, Any]", plain).items():
        one = _parameter(str(name), described)
        for other, texts in one.when:
            _check_condition(one, other, texts, found)
        found.append(one)
    for one in found:
        _try(one, found, recipe)
    return tuple(found)


def _parameter(name: str, described: Any) -> Parameter:
    check_names([f"{name}=1"])
    if isinstance(described, list | tuple):
        described = {"choices": described}
    if not isinstance(described, dict):
        raise ConvclinicError(
            f"{name}: {described!r} is one value; a space needs several",
            fix=f"write a list, or use --set {name}={described}",
        )
    options = cast("dict[str, Any]", described)
    for key in options:
        if key not in (*KINDS, *OTHERS):
            raise ConvclinicError(f"{name}: no '{key}' in a space", fix=nearest(str(key), (*KINDS, *OTHERS)))
    kinds: list[Kind] = [kind for kind in KINDS if kind in options]
    if len(kinds) != 1:
        raise ConvclinicError(f"{name} must say one of {', '.join(KINDS)}", fix="such as {log: [0.01, 1]}")
    kind, given = kinds[0], options[kinds[0]]
    when = tuple(
        (str(other), tuple(map(_text, texts if isinstance(texts, list) else [texts])))
        for other, texts in options.get("when", {}).items()
    )
    if not isinstance(given, list | tuple) or not given:
        raise ConvclinicError(f"{name}: {kind} must be a list", fix="such as [0.01, 1]")
    if kind == "choices":
        texts = tuple(dict.fromkeys(map(_text, given)))
        return Parameter(name, kind, texts, when=when)
    points = convert(options.get("points", POINTS), int, f"{name}.points")
    return _range(name, kind, cast("Sequence[Any]", given), points, when)


def _range(
    name: str,
    kind: Kind,
    given: Sequence[Any],
    points: int,
    when: tuple[tuple[str, tuple[str, ...]], ...],
) -> Parameter:
    if len(given) != 2:
        raise ConvclinicError(f"{name}: {kind} must be two bounds, not {list(given)}")
    low, high = (convert(value, float, f"{name}.{kind}") for value in given)
    if not low < high or (kind != "range" and low <= 0):
        above = "" if kind == "range" else " and above zero"
        raise ConvclinicError(f"{name}: the bounds {low:g} and {high:g} must rise{above}")
    if points < 2:
        raise ConvclinicError(f"{name}: points must be at least 2, not {points}")
    whole = kind != "times" and all(isinstance(value, int) for value in given)
    return Parameter(name, kind, (), low, high, whole, points, when)


def _text(value: Any) -> str:
    """A choice as `--set` takes it."""
    if isinstance(value, str):
        return value
    return (
        "none" if value is None else yaml.safe_dump(value, default_flow_style=True).split("\n...")[0].strip()
    )


def _check_condition(one: Parameter, other: str, texts: Sequence[str], before: Sequence[Parameter]) -> None:
    known = {p.name: p for p in before if p.kind == "choices"}
    if other not in known:
        raise ConvclinicError(
            f"{one.name}: when names {other}, which is no list of choices before it",
            fix=nearest(other, known) if known else "write the list first",
        )
    for text in texts:
        if text not in known[other].choices:
            raise ConvclinicError(
                f"{one.name}: {other} is never {text}", fix=nearest(text, known[other].choices)
            )


def _try(one: Parameter, space: Sequence[Parameter], recipe: Recipe) -> None:
    """Raise ConvclinicError where the recipe does not take this parameter's values."""
    by_name = {p.name: p for p in space}

    def conditions(p: Parameter) -> Values:
        return {k: v for o, texts in p.when for k, v in {**conditions(by_name[o]), o: texts[0]}.items()}

    ends: Sequence[Value] = one.choices or [_whole(one, one.low), _whole(one, one.high)]
    for value in ends:
        applied(recipe, space, {**conditions(one), one.name: value})


def _whole(one: Parameter, value: float) -> Value:
    return int(value) if one.whole else value


def applied(recipe: Recipe, space: Sequence[Parameter], values: Mapping[str, Value]) -> Recipe:
    """The recipe with these values: first what stands in a slot (tricks that it has already keep their
    options), then options, then factors. Raises ConvclinicError for a value that does not fit."""
    chosen = [p for p in space if p.name in values]
    slots = [p for p in chosen if p.name in SLOTS]
    factors = [p for p in chosen if p.kind == "times"]
    others = [p for p in chosen if p not in slots and p not in factors]
    made = changed(recipe, [f"{p.name}={values[p.name]}" for p in slots])
    made = made.override([f"{p.name}={values[p.name]}" for p in others])
    for p in factors:
        made = _multiplied(made, p.name, float(values[p.name]))
    return made


def _multiplied(recipe: Recipe, name: str, factor: float) -> Recipe:
    if name == ALL_LRS:
        return dataclasses.replace(recipe, optimise=scaled(recipe.optimise, factor))
    value = current(recipe, name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConvclinicError(
            f"{name}: the recipe has no number there that could be multiplied",
            fix="give range or log instead",
        )
    product = round(value * factor) if isinstance(value, int) else value * factor
    return recipe.override([f"{name}={product!r}"])


def current(recipe: Recipe, name: str) -> Any:
    """What the recipe has where the setting `name` would change it: names joined by commas for a slot, an
    option's value; None where there is nothing."""
    slot, *path = name.split(".")
    held = getattr(recipe, slot)
    if not path:
        held = held if isinstance(held, tuple) else (held,) if held is not None else ()
        return ",".join(map(name_of, held)) or "none"
    if isinstance(held, tuple):
        owners = [one for one in held if name_of(one) == path[0] or (len(path) == 1 and path[0] in vars(one))]
        held = owners[0] if len(owners) == 1 else None
    elif len(path) == 2 and (held is None or name_of(held) != path[0]):
        held = None
    return None if held is None else getattr(held, path[-1], None)


def planned_values(space: Sequence[Parameter], recipe: Recipe) -> Values:
    """The recipe's own place in the space, as far as it lies there."""
    values: Values = {}
    for p in space:
        if not p.asked(values):
            continue
        value = current(recipe, p.name)
        if p.kind == "times":
            values[p.name] = min(max(1.0, p.low), p.high)
        elif p.kind == "choices":
            same = [text for text in p.choices if text == _text(_plain(value))]
            values.update([(p.name, text) for text in same[:1]])
        elif isinstance(value, int | float) and p.low <= value <= p.high:
            values[p.name] = value
    return values


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def grid(space: Sequence[Parameter]) -> list[Values]:
    """Every combination, parameters left out where they do not matter. Raises ConvclinicError for too
    many."""
    found = list(itertools.islice(_combinations(space, {}), MOST_GRID + 1))
    if len(found) > MOST_GRID:
        raise ConvclinicError(
            f"the grid has more than {MOST_GRID} combinations",
            fix="give fewer choices or `points`, or search at random: --sampler random",
        )
    return found


def _combinations(space: Sequence[Parameter], values: Values) -> Iterator[Values]:
    if not space:
        yield values
        return
    first, rest = space[0], space[1:]
    if not first.asked(values):
        yield from _combinations(rest, values)
        return
    for value in first.grid():
        yield from _combinations(rest, {**values, first.name: value})


def usual(recipe: Recipe, n_train: int) -> dict[str, Any]:
    """The space of those who have none, around a planned recipe, as plain data: how fast it learns, how it is
    regularised, how its images vary."""
    batch = recipe.run.batch_size
    augment = str(current(recipe, "augment"))
    stronger = [f"{augment},{name}" for name in ("cutout", "rand_augment") if name not in augment]
    space: dict[str, Any] = {ALL_LRS: {"times": [0.1, 10.0]}}
    if current(recipe, "optimise.weight_decay"):
        space["optimise.weight_decay"] = {"times": [0.1, 10.0]}
    space["run.batch_size"] = sorted({max(1, batch // 2), batch, min(2 * batch, max(batch, n_train // 4))})
    space["augment"] = [augment, *(one.removeprefix("none,") for one in stronger)]
    space["mix"] = ["none", "mixup", "cutmix"]
    space["regularise.label_smoothing.smoothing"] = {"range": [0.0, 0.3]}
    return {name: one for name, one in space.items() if not isinstance(one, list) or len(one) > 1}


def to_plain(space: Sequence[Parameter]) -> list[dict[str, Any]]:
    """As JSON holds it."""
    return [dataclasses.asdict(one) for one in space]


def from_plain(plain: Sequence[Mapping[str, Any]]) -> tuple[Parameter, ...]:
    """What `to_plain` wrote."""

    def one(p: Mapping[str, Any]) -> Parameter:
        values: dict[str, Any] = {
            **p,
            "choices": tuple(p["choices"]),
            "when": tuple((other, tuple(texts)) for other, texts in p["when"]),
        }
        return Parameter(**values)

    return tuple(map(one, plain))
