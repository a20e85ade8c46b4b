"""A search kept by Optuna: one trial after the other, asked for and told by any number of processes.

The storage is an SQLite file, or by URL a database that several machines share. It holds the plan (the recipe
around which is searched, the space, how long each trial trains), every trial's settings and curve, and what
became of it; so whoever opens it goes on where others are.

Source: Akiba et al., Optuna: A Next-generation Hyperparameter Optimization Framework, 2019,
arXiv:1907.10902; its sampler: Bergstra et al., Algorithms for Hyper-Parameter Optimization, 2011
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import optuna
from filelock import FileLock
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from convclinic.ground import rng
from convclinic.ground.errors import ConvclinicError
from convclinic.study.pruning import Curve
from convclinic.study.spaces import Parameter, Values

Sampler: TypeAlias = Literal["tpe", "random", "grid"]
SAMPLERS: tuple[Sampler, ...] = ("tpe", "random", "grid")
PLAN, WHY, SECONDS = "plan", "why", "seconds"
COMPLETE, PRUNED, FAILED, RUNNING = "complete", "pruned", "failed", "running"
STATES = {
    TrialState.COMPLETE: COMPLETE,
    TrialState.PRUNED: PRUNED,
    TrialState.FAIL: FAILED,
    TrialState.RUNNING: RUNNING,
}
PER_MILLE = 1000  # shares of training are whole numbers in the storage
FEWEST = 6  # finished trials from which an importance is told
CANDIDATES = 4  # of which TPE takes the best: with its own 24 it keeps to the first good choices for ever
LOCK_SECONDS = 60  # that a process waits for another one to write into an SQLite file


@dataclass(frozen=True)
class Tried:
    """One trial: its number, what it chose, what became of it and why; score: the best on validation so far,
    in [0, 1], None without any; curve: the scores at shares of the training."""

    number: int
    values: Values
    state: str
    score: float | None
    why: str
    seconds: float
    curve: Curve | None

    @property
    def words(self) -> str:
        """Its values as `--set` would take them."""
        return ", ".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in self.values.items()
        )


def open_study(url: str, name: str) -> tuple[Study, bool]:
    """The study, and whether it is new. Raises ConvclinicError where the storage does not answer."""
    with _told(url):
        url = _driven(url)
        # no connection to a server stays open: workers look rarely, and a server has few
        options = {"connect_args": {"timeout": LOCK_SECONDS}} if is_file(url) else {"poolclass": NullPool}
        storage = RDBStorage(url, engine_kwargs=options)
        try:
            study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
        except DuplicatedStudyError:
            return optuna.load_study(study_name=name, storage=storage), False
        return study, True


def _driven(url: str) -> str:
    """With the driver that the extra [postgres] installs, where a PostgreSQL URL names none."""
    made = make_url(url)
    if made.drivername in ("postgresql", "postgres"):
        made = made.set(drivername="postgresql+psycopg")
    return made.render_as_string(hide_password=False)


def is_file(url: str) -> bool:
    return url.startswith("sqlite")


def without_password(url: str) -> str:
    """A storage's URL as it may be shown.

    >>> without_password("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    return make_url(url).render_as_string(hide_password=True)


@contextmanager
def _told(url: str) -> Generator[None]:
    """Errors of the storage in words; Optuna says nothing by itself."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    except ImportError as error:
        raise ConvclinicError(
            f"the driver of the storage is not installed: {error}", fix="pip install 'convclinic[postgres]'"
        ) from error
    except ArgumentError as error:
        raise ConvclinicError(
            f"'{url}' is no storage", fix="give --storage postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from error
    except SQLAlchemyError as error:
        first = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise ConvclinicError(f"the storage {without_password(url)} does not answer: {first}") from error


def plan(study: Study) -> dict[str, Any] | None:
    """What was planned for all trials, None before."""
    return study.user_attrs.get(PLAN)


def begin(study: Study, planned: dict[str, Any], first: Sequence[Values]) -> None:
    """Write the plan, and the values that are to be tried before the sampler is asked."""
    for values in first:
        study.enqueue_trial(values)
    study.set_user_attr(PLAN, planned)


def with_sampler(study: Study, kind: Sampler, seed: int, slot: int) -> Study:
    """The study with a sampler whose draws follow from seed and slot, whoever asks."""
    own = rng.derive(seed, "search", slot) % 2**32
    sampler: BaseSampler = RandomSampler(seed=own)
    if kind == "tpe":
        sampler = TPESampler(seed=own, n_ei_candidates=CANDIDATES)
    study.sampler = sampler
    return study


def ask(study: Study, most: int, url: str) -> Trial | None:
    """The next trial, None where as many were asked for. Numbers are given out by the storage, one by one."""
    with _in_turn(url):
        return _asked(study, most)


def _in_turn(url: str) -> AbstractContextManager[object]:
    """A server sees to it that no trial is given to two; SQLite, which locks no rows, does not."""
    path = make_url(url).database
    return FileLock(f"{path}.lock", timeout=LOCK_SECONDS) if is_file(url) and path else nullcontext()


def _asked(study: Study, most: int) -> Trial | None:
    if len(study.get_trials(deepcopy=False, states=_BEGUN)) >= most:
        return None
    trial = study.ask()
    if trial.number < most:
        return trial
    study.tell(trial, state=TrialState.FAIL)  # another process was quicker
    return None


_BEGUN = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def taken_up(study: Study, trial_id: int) -> Trial | None:
    """A trial that was cut short, with its values; None where it has ended."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return Trial(study, trial_id) if any(number_id(one) == trial_id for one in running) else None


def number_id(trial: Trial | FrozenTrial) -> int:
    """By which the storage knows a trial; its number is counted within one study."""
    return trial._trial_id  # pyright: ignore[reportPrivateUsage] (Trial takes it, and nothing public gives it)


def suggested(trial: Trial, space: Sequence[Parameter]) -> Values:
    """The trial's values, drawn where it has none yet."""
    values: Values = {}
    for p in space:
        if p.asked(values):
            values[p.name] = _drawn(trial, p)
    return values


def _drawn(trial: Trial, p: Parameter) -> Any:
    if p.kind == "choices":
        return trial.suggest_categorical(p.name, p.choices)
    log = p.kind != "range"
    if p.whole:
        return trial.suggest_int(p.name, int(p.low), int(p.high), log=log)
    return trial.suggest_float(p.name, p.low, p.high, log=log)


def report(trial: Trial, share: float, score: float) -> None:
    """Write a validation down, after this share of training. One that a trial cut short had reported before
    stays as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "already reported"
        trial.report(score, round(PER_MILLE * share))


def tell(study: Study, trial: Trial, state: str, score: float | None, why: str, seconds: float) -> None:
    """What became of a trial."""
    trial.set_user_attr(WHY, why)
    trial.set_user_attr(SECONDS, seconds)
    states = {name: one for one, name in STATES.items()}
    study.tell(trial, score if state == COMPLETE else None, state=states[state])


def tried(study: Study) -> list[Tried]:
    """All trials that were begun, by number."""
    return [_tried(one) for one in study.get_trials(deepcopy=False, states=_BEGUN)]


def _tried(one: FrozenTrial) -> Tried:
    steps = sorted(one.intermediate_values)
    curve = None
    if steps:
        scores = tuple(one.intermediate_values[step] for step in steps)
        curve = Curve(tuple(step / PER_MILLE for step in steps), scores)
    return Tried(
        one.number,
        dict(one.params),
        STATES[one.state],
        curve.best if curve else None,
        str(one.user_attrs.get(WHY, "")),
        float(one.user_attrs.get(SECONDS, 0.0)),
        curve,
    )


def importance(study: Study) -> dict[str, float]:
    """How much of the finished trials' spread of scores each parameter explains, from 0 to 1, summing to 1;
    empty while too few are finished, or where all score the same.

    Source: Hutter et al., An Efficient Approach for Assessing Hyperparameter Importance, 2014 (functional
    analysis of variance, over a forest of regression trees)
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    varied = {name for one in done for name in one.params if len({str(o.params.get(name)) for o in done}) > 1}
    if len(done) < FEWEST or len({one.value for one in done}) < 2 or not varied:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(value) for name, value in found.items()}
