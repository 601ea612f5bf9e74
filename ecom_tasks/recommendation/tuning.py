"""Search the dials of generators and of the ranker, never looking at what judges them in the end.

Generators are tried on a validation split that lies within what is known: the backtest's protocol,
applied once more. The ranker is tried on the last window before the first test window. A study is
one file that a later call goes on with.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import polars as pl
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from ecom_tasks.errors import ConfigError, DataContractError
from ecom_tasks.logs import track
from ecom_tasks.recommendation import backtest, protocols, ranker
from ecom_tasks.recommendation.candidates import (
    als,
    ease,
    follows,
    graph_filter,
    neighbours,
    propagation,
    sequence,
)
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.protocols import Protocol, Split
from ecom_tasks.recommendation.ranker import Examples

log = logging.getLogger(__name__)
KINDS = ("ndcg", "recall", "mrr", "map", "hit_rate")
METRIC = "ndcg@10"
METRICS = (
    *(f"{kind}@{k}" for k in backtest.CUTS for kind in KINDS),
    "coverage@10", "novelty@10", "intra_list_diversity@10", "ips_recall@20", "ips_ndcg@10",
)  # fmt: skip
RANKER = "ranker"
BEST = "best.json"
Value = int | float
Judge = Callable[[RecommendationConfig], float]
_BEGUN_ON, _REASON = "begun_on", "reason"
_ROWS = 100_000
# What some settings cause and others do not: no memory, no convergence, a singular matrix.
_PASSED_OVER = (MemoryError, ValueError, RuntimeError, ArithmeticError)


@dataclass(frozen=True)
class Dial:
    """A setting to search, by its name in the config, where its type and default stand.

    Attributes
    ----------
    low, high : bounds, both inclusive
    log : whether factors count rather than differences
    """

    name: str
    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        return RecommendationConfig.model_fields[self.name].annotation is int

    def suggest(self, trial: Trial) -> Value:
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return _short(trial.suggest_float(self.name, self.low, self.high, log=self.log))


SPACES: dict[str, tuple[Dial, ...]] = {
    neighbours.NAME: (
        Dial("neighbours", 10, 1000, log=True),
        Dial("neighbour_shrinkage", 0.1, 1000, log=True),
    ),
    als.NAME: (
        Dial("als_factors", 8, 256, log=True),
        Dial("als_iterations", 5, 30),
        Dial("als_regularization", 0.001, 10, log=True),
        Dial("als_alpha", 0.1, 100, log=True),
    ),
    ease.NAME: (Dial("ease_l2", 1, 10_000, log=True),),
    graph_filter.NAME: (
        Dial("graph_dimensions", 16, 1024, log=True),
        Dial("graph_smooth_weight", 0, 2),
        Dial("graph_sharpening", 0, 3),
        Dial("graph_popularity", 0, 1),
        Dial("graph_customer_power", 0, 1),
        Dial("graph_product_power", 0, 1),
    ),
    propagation.NAME: (Dial("propagation_layers", 2, 6),),
    follows.NAME: (
        Dial("follows_reach", 1, 20, log=True),
        Dial("follows_backward", 0, 1),
        Dial("follows_shrinkage", 0.1, 100, log=True),
        Dial("follows_fading", 0.2, 1),
    ),
    sequence.NAME: (
        Dial("sequence_dropout", 0, 0.6),
        Dial("sequence_learning_rate", 0.0003, 0.005, log=True),
        Dial("sequence_length", 10, 200, log=True),
    ),
}
RANKER_SPACE = (
    Dial("max_depth", 3, 10),
    Dial("min_child_weight", 1, 300, log=True),
    Dial("column_share", 0.1, 1),
    Dial("row_share", 0.3, 1),
    Dial("learning_rate", 0.02, 0.3, log=True),
    Dial("unordered_candidates", 10_000, 1_000_000, log=True),
)


@dataclass(frozen=True)
class Budget:
    """How long one study is gone on with in this call; at least one trial is made.

    Attributes
    ----------
    minutes : after which no further trial begins
    trials : at most; None: as many as fit
    """

    minutes: float
    trials: int | None = None

    def __post_init__(self) -> None:
        if self.minutes <= 0 or (self.trials is not None and self.trials < 1):
            raise ConfigError(
                f"--minutes {self.minutes} and --trials {self.trials} leave no trial",
                "Give more than 0 minutes, and at least 1 trial or no --trials",
            )

    def turns(self) -> Iterator[int]:
        """Count trials until the budget is spent."""
        until = time.monotonic() + 60 * self.minutes
        for turn in itertools.count():
            if turn == self.trials or (turn and time.monotonic() >= until):
                return
            yield turn


@dataclass(frozen=True)
class Found:
    """What a study has found so far, in this call and earlier ones.

    Attributes
    ----------
    trials, failed : how many were finished, and how many failed
    defaults : validation figure of the defaults; None where they failed
    best : validation figure of `settings`, the best of many, hence better than it will be again
    """

    name: str
    metric: str
    trials: int
    failed: int
    defaults: float | None
    best: float
    settings: dict[str, Value]

    def arguments(self) -> str:
        """Return the settings as they are given to a command."""
        return " ".join(f"--set recommendation.{name}={v}" for name, v in self.settings.items())


@dataclass(frozen=True)
class _Search:
    """What is searched on which data, and where the study lies."""

    name: str
    dials: tuple[Dial, ...]
    metric: str
    data: str
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.journal"

    def defaults(self, config: RecommendationConfig) -> dict[str, Value]:
        return {dial.name: getattr(config, dial.name) for dial in self.dials}

    def begun_on(self, config: RecommendationConfig) -> dict[str, Any]:
        """Return all that makes two trials comparable, as JSON keeps it."""
        fixed = config.model_dump(mode="json", include=config.model_fields_set)
        facts = {
            "data": self.data,
            "metric": self.metric,
            "search space": [asdict(dial) for dial in self.dials],
            "fixed settings": fixed,
        }
        return dict(json.loads(json.dumps(facts)))


def validation(known: pl.DataFrame, protocol: Protocol, share: float, seed: int) -> Split:
    """Return `protocols.within`, so that nothing is chosen on what must be found.

    Raises
    ------
    DataContractError
        What is known is too little to be split.
    """
    try:
        return protocols.within(known, protocol, share, seed)
    except DataContractError as error:
        raise DataContractError(f"To tune, {error.reason}", error.hint) from error


def tune(
    split: Split,
    generators: list[str],
    config: RecommendationConfig,
    metric: str,
    folder: Path,
    budget: Budget,
) -> list[Found]:
    """Search the dials of generators, one study each.

    Parameters
    ----------
    split : of `validation`
    generators : names of `SPACES`
    config : its dials that somebody set stay as they are; the defaults of the others come first
    metric : of `METRICS`; higher is better
    folder : where the studies lie; those that lie there are gone on with

    Raises
    ------
    ConfigError
        A name is wrong, a generator has no dial left, or a study was begun on something else.
    """
    _refuse("generator with dials", generators, list(SPACES))
    _refuse("metric", [metric], list(METRICS))
    data = _fingerprint(split)
    searches = [
        _Search(name, _free(name, SPACES[name], config), metric, data, folder)
        for name in dict.fromkeys(generators)
    ]

    def judge_of(name: str) -> Judge:
        def judge(tried: RecommendationConfig) -> float:
            # No interval is looked at, so that few resamples are enough.
            quick = tried.model_copy(update={"resamples": 10})
            return float(backtest.run(split, [name], quick)["generators"][name][metric])

        return judge

    with _quiet(backtest.log):
        return [_search(each, judge_of(each.name), config, budget) for each in searches]


def tune_ranker(
    learn: Sequence[Examples],
    validate: Examples,
    config: RecommendationConfig,
    folder: Path,
    budget: Budget,
) -> Found:
    """Search the dials of the ranker's trees; how many there are is chosen anew in each trial.

    Parameters
    ----------
    learn : windows, oldest first, with all their candidates
    validate : a later window that ends before the first test window
    config, folder, budget : as for `tune`
    """
    dials = _free(RANKER, RANKER_SPACE, config)
    search = _Search(RANKER, dials, METRIC, _fingerprint_of([*learn, validate]), folder)

    def judge(tried: RecommendationConfig) -> float:
        thinned = [
            ranker.thin(each, ranker.share_of(len(each.orders), tried), tried.seed)
            for each in learn
        ]
        _, curves, _ = ranker.choose_rounds(ranker.join(thinned), validate, tried)
        return max(curves["LambdaMART"])

    return _search(search, judge, config, budget)


def _refuse(what: str, wanted: list[str], known: list[str]) -> None:
    if unknown := sorted(set(wanted) - set(known)):
        raise ConfigError(
            f"There is no {what} {', '.join(unknown)}", f"There are: {', '.join(known)}"
        )


def _free(name: str, space: tuple[Dial, ...], config: RecommendationConfig) -> tuple[Dial, ...]:
    """Return the dials that nobody set."""
    free = tuple(dial for dial in space if dial.name not in config.model_fields_set)
    if not free:
        raise ConfigError(
            f"All dials of {name} are set, and none is left to search",
            f"Leave one open of: {', '.join(dial.name for dial in space)}",
        )
    return free


def _search(search: _Search, judge: Judge, config: RecommendationConfig, budget: Budget) -> Found:
    study = _open(search, config)

    def objective(trial: Trial) -> float:
        settings = {dial.name: dial.suggest(trial) for dial in search.dials}
        try:
            return judge(config.model_copy(update=settings))
        except _PASSED_OVER as error:
            trial.set_user_attr(_REASON, f"{type(error).__name__}: {error}")
            raise

    def say(study: optuna.Study, trial: FrozenTrial) -> None:
        _say(search, study, trial)

    for _ in track(budget.turns(), f"trials of {search.name}", budget.trials):
        study.optimize(objective, n_trials=1, catch=_PASSED_OVER, callbacks=[say])
    found = _found(search, study, config)
    _write(search.folder / BEST, found)
    return found


def _open(search: _Search, config: RecommendationConfig) -> optuna.Study:
    """Begin a study with the defaults, or go on with the one that lies there."""
    # Its own lines would repeat ours.
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    study = _load(search)
    begun_on, known = search.begun_on(config), study.user_attrs.get(_BEGUN_ON)
    if known is None:
        study.set_user_attr(_BEGUN_ON, begun_on)
    elif differing := [what for what, fact in begun_on.items() if known.get(what) != fact]:
        raise ConfigError(
            f"The study {search.file} was begun on another: {', '.join(differing)}",
            "Give another --folder, or the same arguments as before",
        )
    made = study.get_trials(deepcopy=False)
    # A seed used again would draw the first settings again.
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(made))
    waiting = any(trial.state == TrialState.WAITING for trial in made)
    if not waiting and _value(made, search.defaults(config)) is None:
        study.enqueue_trial(search.defaults(config))
    if made:
        log.info("%s: going on after %s trials in %s", search.name, len(made), search.file)
    return study


def _load(search: _Search) -> optuna.Study:
    file = str(search.file)
    try:
        search.folder.mkdir(parents=True, exist_ok=True)
        # A lock by link would need a file system that has links.
        storage = JournalStorage(JournalFileBackend(file, JournalFileOpenLock(file)))
        return optuna.create_study(
            storage=storage, study_name=search.name, direction="maximize", load_if_exists=True
        )
    except OSError as error:
        raise ConfigError(
            f"No study can lie in {search.folder}: {error}", "Give another --folder"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{file} is no study, or a damaged one: {error}",
            "Move it away to begin anew, or give another --folder",
        ) from error


def _say(search: _Search, study: optuna.Study, trial: FrozenTrial) -> None:
    settings = ", ".join(f"{name}={_short(value)}" for name, value in trial.params.items())
    if trial.value is None:
        reason = trial.user_attrs.get(_REASON, "no figure came out")
        log.warning(
            "%s %s: passed over, %s (%s)", search.name, trial.number + 1, reason, settings
        )  # fmt: skip
        return
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    log.info(
        "%s %s: %s %.4f, best %.4f, in %.1f s (%s)", search.name, trial.number + 1,
        search.metric, trial.value, study.best_value, seconds, settings,
    )  # fmt: skip


def _found(search: _Search, study: optuna.Study, config: RecommendationConfig) -> Found:
    trials = study.get_trials(deepcopy=False)
    states = [trial.state for trial in trials]
    if TrialState.COMPLETE not in states:
        raise ConfigError(
            f"No trial of {search.name} came to a figure; the log says why",
            "Fix the dial that fails with --set, or give less data",
        )
    best = study.best_trial
    return Found(
        name=search.name,
        metric=search.metric,
        trials=sum(state.is_finished() for state in states),
        failed=states.count(TrialState.FAIL),
        defaults=_value(trials, search.defaults(config)),
        best=float(study.best_value),
        settings={name: _short(value) for name, value in best.params.items()},
    )


def _value(trials: list[FrozenTrial], settings: dict[str, Value]) -> float | None:
    """Return the figure of the trial that had these settings, if it has one."""
    values = (trial.value for trial in trials if trial.params == settings)
    return next((value for value in values if value is not None), None)


def _write(file: Path, found: Found) -> None:
    """Enter the best settings beside those of other studies in the folder."""
    best: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    best[found.name] = {key: value for key, value in asdict(found).items() if key != "name"}
    # Moved into place, so that a cut-off command leaves no half a file.
    part = file.with_suffix(".part")
    part.write_text(json.dumps(best, indent=2, sort_keys=True) + "\n")
    part.replace(file)


def _short(value: Value) -> Value:
    """Four digits are judged and shown alike, so that who copies them gets what was judged."""
    return value if isinstance(value, int) else float(f"{value:.4g}")


def _fingerprint(split: Split) -> str:
    digest = hashlib.sha256(str(split.repeats).encode())
    for frame in (split.known, split.held_out):
        for part in frame.iter_slices(_ROWS):
            digest.update(part.write_csv(include_header=False).encode())
    return digest.hexdigest()


def _fingerprint_of(windows: Sequence[Examples]) -> str:
    digest = hashlib.sha256()
    for window in windows:
        for values in (window.features, window.orders, window.group, window.weight):
            digest.update(np.ravel(values).view(np.uint8).data)
    return digest.hexdigest()


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
