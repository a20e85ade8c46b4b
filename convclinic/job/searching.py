"""`convclinic search`: many recipes tried around one, the hopeless given up early, the best ready to use."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convclinic.ground.errors import ConvclinicError, Interrupted, nearest
from convclinic.ground.files import read_json
from convclinic.job import folder as place
from convclinic.job.display import Display, Lines, Silent
from convclinic.job.fitting import read_wish
from convclinic.job.folder import SEARCH
from convclinic.job.planning import Wish
from convclinic.job.search_found import TRIALS, Searched, concluded
from convclinic.job.search_plan import Sought, prepare
from convclinic.recipe import Recipe
from convclinic.study import engine
from convclinic.study import search as store
from convclinic.study.engine import Done, Task
from convclinic.study.search import Sampler

DATABASE = "trials.db"
BUDGET = "1h"


def search(
    data: str | Path,
    *,
    space: str | Path | dict[str, Any] | None = None,
    trials: int = 40,
    budget: str | float | None = BUDGET,
    sampler: Sampler = "tpe",
    storage: str | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    recipe: str | Path | Recipe | None = None,
    settings: Sequence[str] = (),
    weights: str | Path | None = None,
    backbone: str | None = None,
    top: int = 1,
    prune: bool = True,
    clinic: str = "watch",
    workers: int = 0,
    cluster: str | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> Searched:
    """Try recipes around the planned one, or the one given, and keep the best.

    space: what to choose from, a YAML file or a mapping (see study.spaces), None for a usual one around the
    recipe. trials: at most; budget: for everything, seconds or text. sampler: "tpe" (Optuna's), "random" or
    "grid" (every combination). storage: a database's URL that several machines share, None for a file in
    `out`. top: of how many of the best trials a run folder is made. prune: give trials up that the clinic
    says cannot succeed, or that are behind the others. clinic: "watch" (by the curves alone) or "off". The
    rest as in `fit` and `crossval`. The same call goes on with a search that was stopped; more trials extend
    one.

    Raises ConvclinicError for anything wrong with the input, and where no trial came to its end.
    """
    started = time.monotonic()
    _check(trials, top, sampler, clinic)
    pretrained = {"weights": None if weights is None else Path(weights), "backbone": backbone}
    wish = read_wish(Path(data), budget or BUDGET, seed, recipe, settings, device, started, False, pretrained)
    workers = workers or engine.bearable(wish.device)
    asked = _asked(wish, space, sampler, prune, clinic)
    target = _folder(Path(out) if out is not None else None, wish.data, asked)
    with place.locked(target), Silent() if quiet else Lines() as display:
        display.say(f"folder {target}")
        url = storage or f"sqlite:///{target.resolve() / DATABASE}"
        name = _name(wish, asked)
        study, new = store.open_study(url, name)
        sought = Sought(wish, space, asked, trials, workers, top)
        known, held = prepare(sought, study, new, target, display)
        combinations = known["combinations"]
        most = trials if combinations is None else min(trials, combinations)
        session = {
            "folder": str(target.resolve()),
            "device": wish.device.type,
            "storage": url,
            "name": name,
            "most": most,
            "ends": time.time() + (wish.left() or 0.0) - top * known["closing"],
        }
        tasks = [Task(f"slot-{slot:04}", {"search": name, "slot": slot}, session) for slot in range(most)]
        display.stage("search")
        ends = _run(tasks, target, workers, cluster, wish, display)
        return concluded(wish, study, known, held, ends, target, top, display)


def _check(trials: int, top: int, sampler: str, clinic: str) -> None:
    if trials < 1 or top < 0:
        raise ConvclinicError("a search needs at least one trial, and no less than zero of the best")
    if sampler not in store.SAMPLERS:
        raise ConvclinicError(f"no sampler '{sampler}'", fix=nearest(sampler, store.SAMPLERS))
    if clinic not in ("watch", "off"):
        raise ConvclinicError(
            f"no clinic mode '{clinic}' in a search", fix="use watch or off; treat would change the trials"
        )


def _asked(
    wish: Wish, space: str | Path | dict[str, Any] | None, sampler: str, prune: bool, clinic: str
) -> dict[str, Any]:
    """What makes two searches the same, as plain data."""
    if isinstance(space, str | Path):
        try:
            text: Any = Path(space).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConvclinicError(f"cannot read the space {space}: {error}") from error
    else:
        text = space
    return {
        "data": wish.data.resolve().name,
        "space": text,
        "sampler": sampler,
        "seed": wish.seed,
        "recipe": None if wish.recipe is None else wish.recipe.hash(),
        "settings": list(wish.settings),
        "weights": None if wish.weights is None else wish.weights.name,
        "backbone": wish.backbone,
        "prune": prune,
        "clinic": clinic,
    }


def _name(wish: Wish, asked: dict[str, Any]) -> str:
    """The study's name in a storage: the same on every machine that is given the same command."""
    digest = hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=6).hexdigest()
    return f"{wish.data.resolve().name.split('.')[0]}-{digest}"


def _folder(out: Path | None, data: Path, asked: dict[str, Any]) -> Path:
    """`out` where it holds this search, else a new folder."""
    if out is not None and (out / SEARCH).exists():
        if read_json(out / SEARCH)["asked"] != asked:
            raise ConvclinicError(f"{out} holds a search of other settings", fix="give another --out")
        return out
    return place.new(out, data)


def _run(
    tasks: Sequence[Task], target: Path, workers: int, cluster: str | None, wish: Wish, display: Display
) -> list[Done]:
    ends: list[Done] = []
    best = -1.0
    work = "convclinic.job.search_trial:work"
    try:
        for done in engine.run(tasks, work, target / TRIALS, workers=workers, cluster=cluster):
            ends.append(done)
            found = done.result
            if found is not None:
                score, better = found["score"], found["state"] == store.COMPLETE and found["score"] > best
                best = score if better else best
                words = f"trial {found['number']}: {score:.2%}" + (", the best so far" if better else "")
                words += f", given up ({found['why']})" if found["why"] else ""
                if not done.kept:
                    display.say(f"  {words}")
            elif done.error:
                display.say(f"  a trial failed: {done.error}")
            words = f"best {best:.2%}" if best >= 0 else ""
            display.update(len(ends), len(tasks), words, wish.left())
    except KeyboardInterrupt as error:
        raise Interrupted(
            "stopped; what is finished is kept", fix=f"the same command with --out {target} goes on"
        ) from error
    return ends
