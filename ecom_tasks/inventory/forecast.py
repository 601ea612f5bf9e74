"""One model over all series: a head for the mean, one for the quantiles, and their calibration.

Direct and multi-horizon: every pair of a past origin and a step ahead is a training row, so each
step is learnt with exactly what is known at its origin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from ecom_tasks import compute, device
from ecom_tasks.device import Attempt
from ecom_tasks.inventory import seasonal
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.features import FAR, history, level, plan_features, week_ahead
from ecom_tasks.inventory.panel import Floats, Panel
from ecom_tasks.metrics.forecast import seasonal_scale
from ecom_tasks.training import boosted_trees

if TYPE_CHECKING:
    from distributed import Client

Quantiles = npt.NDArray[np.float32]
"""(series, steps, levels), units."""
Integers = npt.NDArray[np.intp]
Chosen = npt.NDArray[np.bool_] | Integers | slice
_SCALE_FLOOR = 0.01
_LEAST_SHARE = 0.25
_LEAST_BASE = np.float32(0.1)
_IN_SIGHT = 1e6
"""Weight by which features of plans are drawn for a tree, so that each tree sees them.

A tree that does not see that a week is promoted explains its sales by what went along with
promotions, such as weeks since the last one, and takes that from the plan's own effect.
"""
# One thread each: fits run side by side, which beats many threads on one small fit.
_COMMON = {"nthread": 1, "tree_method": "hist", "subsample": 0.6, "colsample_bytree": 0.3}
OBJECTIVES: dict[str, dict[str, object]] = {
    "squared": {"objective": "reg:squarederror"},
    "poisson": {"objective": "count:poisson"},
    "tweedie": {"objective": "reg:tweedie", "tweedie_variance_power": 1.3},
}
"""Of the mean. The latter two fit its logarithm, and take the variance for its power 1 or 1.3."""
MEAN: dict[str, object] = {
    "max_depth": 5, "eta": 0.05, "min_child_weight": 50,
    "max_bin": 128,
}  # fmt: skip
MEAN_ROUNDS = 100
QUANTILE: dict[str, object] = {
    "objective": "reg:quantileerror", "max_depth": 5, "eta": 0.1, "min_child_weight": 20,
    "max_bin": 64, "multi_strategy": "multi_output_tree",
}  # fmt: skip
QUANTILE_ROUNDS = 60


@dataclass(frozen=True)
class Rows:
    """Training rows, or rows to forecast.

    Attributes
    ----------
    names : of the features.
    plans : those of them that say what is planned.
    features : (rows, features).
    series : (rows,), which series of the panel.
    weeks_known : (rows,), least number of known weeks at which the target is known.
    level : (rows,), units by which the target is divided.
    target : (rows,), units; NaN where not yet known.
    weight : (rows,), by which absolute errors count.
    """

    names: list[str]
    plans: list[str]
    features: Floats
    series: Integers
    weeks_known: Integers
    level: Floats
    target: Floats
    weight: Floats

    def where(self, chosen: Chosen) -> Rows:
        return Rows(
            self.names,
            self.plans,
            self.features[chosen],
            self.series[chosen],
            self.weeks_known[chosen],
            self.level[chosen],
            self.target[chosen],
            self.weight[chosen],
        )


def training_rows(panel: Panel, config: InventoryConfig) -> Rows:
    """Lay out every pair of an origin and a step whose week is known, sampled to the limit.

    Rows begin with a series's first sale: before it, that it was chosen tells that it will sell.
    Where the horizon is long and several seasons are known, only weeks count that can be compared
    with a season before, as those ahead will be. Weeks without a count teach nothing.
    """
    pairs = [
        (origin, step)
        for origin in range(config.history, panel.periods)
        for step in range(1, config.horizon + 1)
        if (panel.season if _far(panel) else 0) < origin + step <= panel.periods
    ]
    random = np.random.default_rng(config.seed)
    share = config.training_rows / (len(pairs) * panel.series)
    if share < _LEAST_SHARE:
        # Features are made for whole columns: rather fewer columns than few rows of each.
        kept = random.random(len(pairs)) < share / _LEAST_SHARE
        pairs = [pair for pair, keep in zip(pairs, kept.tolist(), strict=True) if keep]
        share = _LEAST_SHARE
    counted = panel.known()
    sampled = [
        panel.sold_before(origin)
        & counted[:, origin + step - 1]
        & (random.random(panel.series) < share)
        for origin, step in pairs
    ]
    return _rows(panel, pairs, config, sampled)


def rows_ahead(
    panel: Panel, origin: int, config: InventoryConfig, chosen: Chosen = slice(None)
) -> Rows:
    """Lay out the weeks after `origin`: the chosen series for step 1, then for step 2, ..."""
    steps = range(1, config.horizon + 1)
    return _rows(panel, [(origin, step) for step in steps], config, [chosen] * config.horizon)


def _rows(
    panel: Panel,
    pairs: Sequence[tuple[int, int]],
    config: InventoryConfig,
    chosen: Sequence[Chosen],
) -> Rows:
    """Lay out the chosen series of each (origin, step), features computed once an origin."""
    parts: list[Rows] = []
    plans = plan_features(panel)
    past: dict[str, Floats] = {}
    for number, (origin, step) in enumerate(pairs):
        if number == 0 or pairs[number - 1][0] != origin:
            past = history(panel, origin)
            bases = _bases(panel, origin, config)
        features = past | week_ahead(panel, origin, step, config.country)
        week = origin + step - 1
        part = Rows(
            list(features),
            plans,
            np.column_stack(list(features.values())),
            np.arange(panel.series),
            np.full(panel.series, week + 1),
            bases[:, step - 1],
            panel.units[:, week]
            if week < panel.periods
            else np.full_like(panel.units[:, 0], np.nan),
            _weight(panel, week),
        )
        parts.append(part.where(chosen[number]))
    return Rows(
        parts[0].names,
        plans,
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.weeks_known for part in parts]),
        np.concatenate([part.level for part in parts]),
        np.concatenate([part.target for part in parts]),
        np.concatenate([part.weight for part in parts]),
    )


def _bases(panel: Panel, origin: int, config: InventoryConfig) -> Floats:
    """Return the units by which each step's target is divided, (series, steps).

    The series's level; at a long horizon what the last season leads to expect, so that the model
    learns by how much a week differs from that of the last season.
    """
    base = np.repeat(level(panel, origin)[:, None], config.horizon, axis=1)
    if _far(panel):
        expected = seasonal.expected(panel, origin, config.horizon)
        return np.asarray(np.maximum(expected, _LEAST_BASE * base))
    return base


def _far(panel: Panel) -> bool:
    return panel.horizon > FAR and panel.seasons > 1


def _weight(panel: Panel, week: int) -> Floats:
    if panel.weights is None or week >= panel.periods:
        return np.ones(panel.series, np.float32)
    return panel.weights[:, week]


@contextmanager
def trainer(config: InventoryConfig) -> Iterator[Client | None]:
    """Yield the Dask client through which trees are trained; None: in this process."""
    if not config.distributed:
        yield None
        return
    with compute.connect() as client:
        yield client


def fit_mean(
    panel: Panel, rows: Rows, origin: int, config: InventoryConfig, client: Client | None = None
) -> xgb.Booster:
    """Fit the expected units, as a multiple of the level, on what is known at `origin`.

    Squared errors are counted in units of each series's naive error, as WRMSSE does.
    """
    known = rows.where(rows.weeks_known <= origin)
    scale = np.nan_to_num(seasonal_scale(panel.units[:, :origin]))[known.series]
    weight = known.level**2 / np.maximum(scale, _SCALE_FLOOR * known.level**2)
    parameters = MEAN | OBJECTIVES[config.mean_objective]
    return _train((parameters, MEAN_ROUNDS), known, weight / weight.mean(), config, client)


def fit_quantiles(
    panel: Panel, rows: Rows, origin: int, config: InventoryConfig, client: Client | None = None
) -> xgb.Booster:
    """Fit all quantile levels, as multiples of the level, on a sample of what is known.

    Absolute errors are counted in units of each series's naive error; where the panel has weights,
    in plain units times the weight, as WMAE does.
    """
    known = rows.where(rows.weeks_known <= origin)
    random = np.random.default_rng(config.seed)
    if len(known.level) > config.quantile_rows:
        known = known.where(
            random.random(len(known.level)) < config.quantile_rows / len(known.level)
        )
    scale = np.nan_to_num(seasonal_scale(panel.units[:, :origin]))[known.series]
    weight = np.sqrt(known.level**2 / np.maximum(scale, _SCALE_FLOOR * known.level**2))
    if panel.weights is not None:
        weight = np.maximum(known.level * known.weight, 1e-6)
    parameters = QUANTILE | {"quantile_alpha": list(config.quantiles)}
    return _train((parameters, QUANTILE_ROUNDS), known, weight / weight.mean(), config, client)


def _train(
    plan: tuple[dict[str, object], int],
    rows: Rows,
    weight: npt.NDArray[np.floating],
    config: InventoryConfig,
    client: Client | None,
) -> xgb.Booster:
    parameters, rounds = plan
    target = rows.target / rows.level
    if "reg:tweedie" in parameters.values() or "count:poisson" in parameters.values():
        target = np.maximum(target, 0)
    seen = np.where(np.isin(rows.names, rows.plans), _IN_SIGHT, 1).astype(np.float32)
    every = _COMMON | parameters | {"seed": config.seed}
    if client is not None:
        apart = partial(_train_apart, client, rows=rows, others=(target, weight, seen))
        return _on_workers(client, (every, rounds), apart, len(rows.level))
    told = {"weight": weight, "feature_names": rows.names, "feature_weights": seen}
    learnt = boosted_trees.Rows(rows.features, target, told)
    return boosted_trees.train("trees of demand", every, learnt, rounds)


def _on_workers(
    client: Client,
    plan: tuple[dict[str, object], int],
    train: Callable[[tuple[dict[str, object], int]], xgb.Booster],
    count: int,
) -> xgb.Booster:
    """Train on the device that the workers have, each with its part of the rows."""
    (parameters, rounds), what = plan, "trees of demand on workers"
    on_cpu = Attempt("cpu", "their CPUs", partial(train, plan))
    if client.submit(device.choose, "trees", count, pure=False).result() == "cpu":
        return device.first_that_fits(what, [on_cpu])
    there = parameters | {"device": "cuda"}
    on_gpu = Attempt("cuda", "their GPUs", partial(train, (there, rounds)))
    model = device.first_that_fits(what, [on_gpu, on_cpu])
    model.set_param({"device": "cpu"})
    return model


def _train_apart(
    client: Client, plan: tuple[dict[str, object], int], rows: Rows, others: tuple[Floats, ...]
) -> xgb.Booster:
    """Train on the workers of a cluster, each with its part of the rows.

    Rows are shuffled first, so that every worker sees all times and steps; bins and subsamples are
    then not the same as on one machine, and forecasts are as good but not equal.
    """
    from dask import array
    from xgboost import dask as apart

    parameters, rounds = plan
    # XGBoost 3.2 fails on a worker that has no row in a leaf of a vector: a tree a quantile here.
    parameters = {name: value for name, value in parameters.items() if name != "multi_strategy"}
    order = np.random.default_rng(cast(int, parameters["seed"])).permutation(len(rows.level))
    parts = max(len(client.scheduler_info()["workers"]), 1)
    size = -(-len(order) // parts)
    target, weight, seen = others
    features, label, weights = (
        array.from_array(values[order], chunks=(size, *values.shape[1:]))
        for values in (rows.features, target, np.asarray(weight, np.float32))
    )
    matrix = apart.DaskQuantileDMatrix(
        client, features, label, weight=weights, feature_names=rows.names,
        feature_weights=array.from_array(seen), max_bin=parameters["max_bin"],
    )  # fmt: skip
    return cast(xgb.Booster, apart.train(client, parameters, matrix, rounds)["booster"])


def side_by_side(client: Client | None) -> int:
    """Return how many fits run at once: on a cluster each takes all of it."""
    return compute.workers() if client is None else 1


@dataclass(frozen=True)
class Models:
    """Both heads, fitted on the same weeks."""

    mean: xgb.Booster
    quantiles: xgb.Booster


def fit(panel: Panel, config: InventoryConfig) -> Models:
    """Fit both heads on every week known, side by side."""
    rows = training_rows(panel, config)
    with trainer(config) as client, ThreadPoolExecutor(side_by_side(client)) as pool:
        mean = pool.submit(fit_mean, panel, rows, panel.periods, config, client)
        quantiles = pool.submit(fit_quantiles, panel, rows, panel.periods, config, client)
        return Models(mean.result(), quantiles.result())


def predict_mean(model: xgb.Booster, rows: Rows, steps: int) -> Floats:
    """Return the expected units, (series, steps), not negative."""
    units = _predict(model, rows) * rows.level
    return np.asarray(np.maximum(units, 0).reshape(steps, -1).T)


def predict_quantiles(model: xgb.Booster, rows: Rows, steps: int) -> Quantiles:
    """Return units at each level, (series, steps, levels), ascending and not negative."""
    units = _predict(model, rows) * rows.level[:, None]
    shaped = units.reshape(steps, -1, units.shape[1]).transpose(1, 0, 2)
    return never_crossing(shaped)


def never_crossing(quantiles: Quantiles) -> Quantiles:
    """Sort each forecast's quantiles (Chernozhukov et al., 2010) and cut them at zero."""
    return np.asarray(np.maximum(np.sort(quantiles, axis=-1), 0))


def _predict(model: xgb.Booster, rows: Rows) -> Floats:
    matrix = xgb.DMatrix(rows.features, feature_names=rows.names, nthread=1)
    return np.asarray(model.predict(matrix))
