"""Every forecast of a panel at an origin, and the one that they are combined to.

The flow and the backtest both forecast through this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ecom_tasks.inventory import (
    calibrate,
    combine,
    features,
    forecast,
    neural,
    pooled,
    seasonal,
    statistical,
)
from ecom_tasks.inventory.calibrate import Calibration
from ecom_tasks.inventory.combine import Combination
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.forecast import Chosen, Integers, Models, Quantiles, Rows
from ecom_tasks.inventory.panel import Floats, Panel

if TYPE_CHECKING:
    from ecom_tasks.training.demand_network import Network

XGB_MEAN, XGB_MEDIAN = "xgboost, mean", "xgboost, median"
_LARGEST_STRETCH = 2.0
_LEARNING_SERIES = 10_000


@dataclass(frozen=True)
class Members:
    """Forecasts of one origin, none calibrated or combined.

    Attributes
    ----------
    origin : periods known.
    centres : name -> (series, steps).
    quantiles : (series, steps, levels), whose shape the combined forecast takes.
    """

    origin: int
    centres: Mapping[str, Floats]
    quantiles: Quantiles

    def take(self, rows: Integers) -> Members:
        """Return the forecasts of these series alone."""
        centres = {name: made[rows] for name, made in self.centres.items()}
        return Members(self.origin, centres, self.quantiles[rows])


@dataclass(frozen=True)
class Forecast:
    """The combined forecast of one origin.

    Attributes
    ----------
    origin : periods known.
    mean : (series, steps), expected units.
    quantiles : (series, steps, levels), never crossing; calibrated where there is a calibration.
    """

    origin: int
    mean: Floats
    quantiles: Quantiles


@dataclass(frozen=True)
class Learnt:
    """What held-out windows teach: weights of the members, and how far quantiles must be moved."""

    combination: Combination
    calibration: Calibration | None


def members(
    panel: Panel,
    rows: Rows | None,
    origins: Sequence[int],
    config: InventoryConfig,
    *,
    following: int = 0,
    chosen: Integers | None = None,
) -> list[Members]:
    """Make every forecast at every origin; nothing right of an origin is read for it.

    Parameters
    ----------
    rows : `forecast.training_rows`; None where the past is too short for the global models
    following : periods after each origin in which is forecast again, from what is known by then,
        but with the global models as they were fitted at the origin
    chosen : series that are forecast; None: all

    Returns
    -------
    One for each origin and each of its following periods, in this order.
    """
    part = panel if chosen is None else panel.take(chosen)
    some = slice(None) if chosen is None else chosen
    trees = _trees(panel, rows, origins, config, following, some)
    found = []
    for origin in origins:
        network = neural.fit(panel, origin, config) if rows is not None and config.network else None
        for review in range(origin, origin + following + 1):
            centres = others(part, review, config)
            if review in trees:
                mean, spread = trees[review]
                centres |= centres_of(mean, spread, config)
            else:
                spread = plain_quantiles(part, review, centres, config)
            if network is not None:
                centres |= of_network(network, panel, review, config, some)
            found.append(Members(review, centres, spread))
    return found


def _trees(
    panel: Panel,
    rows: Rows | None,
    origins: Sequence[int],
    config: InventoryConfig,
    following: int,
    chosen: Chosen,
) -> dict[int, tuple[Floats, Quantiles]]:
    """Return mean and quantiles by review, the models of several origins fitted side by side."""
    if rows is None:
        return {}
    known, steps = rows, config.horizon

    def predicted(review: int, models: Models) -> tuple[Floats, Quantiles]:
        ahead = forecast.rows_ahead(panel, review, config, chosen)
        mean = forecast.predict_mean(models.mean, ahead, steps)
        return mean, forecast.predict_quantiles(models.quantiles, ahead, steps)

    with (
        forecast.trainer(config) as client,
        ThreadPoolExecutor(forecast.side_by_side(client)) as pool,
    ):
        fitted = [
            [pool.submit(fit, panel, known, origin, config, client)
             for fit in (forecast.fit_mean, forecast.fit_quantiles)]
            for origin in origins
        ]  # fmt: skip
        made = {}
        for origin, heads in zip(origins, fitted, strict=True):
            models = Models(*(head.result() for head in heads))
            for review in range(origin, origin + following + 1):
                made[review] = pool.submit(predicted, review, models)
        return {review: each.result() for review, each in made.items()}


def learners(panel: Panel, config: InventoryConfig) -> Integers:
    """Return the series that weights and calibration are learnt from: of many, a sample."""
    if panel.series <= _LEARNING_SERIES:
        return np.arange(panel.series)
    random = np.random.default_rng(config.seed)
    return np.sort(random.choice(panel.series, _LEARNING_SERIES, replace=False))


def of_network(
    network: Network, panel: Panel, origin: int, config: InventoryConfig, chosen: Chosen
) -> dict[str, Floats]:
    """Return both centres of the neural network by name."""
    mean, quantiles = neural.predict(network, panel, origin, config, chosen)
    median = quantiles[..., config.quantiles.index(0.5)]
    return {neural.MEAN: mean, neural.MEDIAN: median}


def centres_of(mean: Floats, quantiles: Quantiles, config: InventoryConfig) -> dict[str, Floats]:
    """Return both centres of the global model by name."""
    return {XGB_MEAN: mean, XGB_MEDIAN: quantiles[..., config.quantiles.index(0.5)]}


def others(panel: Panel, origin: int, config: InventoryConfig) -> dict[str, Floats]:
    """Make the forecasts that are not of the global model, name -> (series, steps)."""
    steps = config.horizon
    found = statistical.plain(panel, origin, steps, config.season)
    found.pop(statistical.NAIVE)
    found |= statistical.fit(panel, origin, steps, panel.season, config.methods)
    found |= pooled.forecast(panel, origin, steps, config.seed)
    if steps > features.FAR:
        found |= seasonal.forecast(panel, origin, steps)
    return {name: np.maximum(made, 0) for name, made in found.items()}


def plain_quantiles(
    panel: Panel, origin: int, centres: Mapping[str, Floats], config: InventoryConfig
) -> Quantiles:
    """Spread normal quantiles around the mean forecast, as wide as naive errors grow with steps."""
    from scipy.stats import norm

    centre = np.mean(list(centres.values()), axis=0)
    past = panel.units[:, :origin]
    noise = np.abs(np.diff(past, axis=1)).mean(axis=1) if origin > 1 else np.abs(past[:, 0])
    width = noise[:, None] * np.sqrt(np.arange(1, config.horizon + 1))
    z = norm.ppf(np.asarray(config.quantiles))
    return forecast.never_crossing(
        np.asarray(centre[..., None] + width[..., None] * z, dtype=np.float32)
    )


def learn(panel: Panel, windows: Sequence[Members], config: InventoryConfig) -> Learnt:
    """Fit weights and calibration on windows whose outcome is known.

    With no window to learn from, weights are equal and quantiles stay as they are.
    """
    if not windows:
        return Learnt(combine.equal(()), None)
    # Some methods need a whole season of the past, which the first windows may not have.
    names = [name for name in windows[0].centres if all(name in each.centres for each in windows)]
    compared = [(each.origin, {name: each.centres[name] for name in names}) for each in windows]
    found = combine.fit(panel, compared, config.weight_shrinkage)
    actual, quantiles = [], []
    for each in windows:
        made = combined(panel, each, Learnt(found, None), config)
        window = slice(each.origin, each.origin + config.horizon)
        # A series that had not sold yet is among the chosen only for what it sold later: its
        # window says nothing about the error of forecasts.
        rows = panel.sold_before(each.origin)
        actual.append(np.where(panel.known()[:, window], panel.units[:, window], np.nan)[rows])
        quantiles.append(made.quantiles[rows])
    calibration = calibrate.learn(
        np.concatenate(actual), np.concatenate(quantiles), config.quantiles
    )
    return Learnt(found, calibration)


def combined(panel: Panel, made: Members, learnt: Learnt, config: InventoryConfig) -> Forecast:
    """Combine the members of one origin, and calibrate the quantiles around the new median."""
    combination = learnt.combination
    if set(combination.mean[combine.SMOOTH]) != set(made.centres):
        # Of a past too short to validate anything, or one in which a method was not yet possible.
        combination = combine.among(combination, list(made.centres))
    kinds = combine.segments(panel, made.origin)
    mean = combine.apply(combination.mean, made.centres, kinds)
    median = combine.apply(combination.median, made.centres, kinds)
    quantiles = moved_to(made.quantiles, median, config)
    if learnt.calibration is not None:
        quantiles = calibrate.apply(quantiles, learnt.calibration.shift, config.quantiles)
    return Forecast(made.origin, mean, quantiles)


def moved_to(quantiles: Quantiles, median: Floats, config: InventoryConfig) -> Quantiles:
    """Stretch quantiles so that their median is the one given, and shift what is left.

    Spread grows with size in demand, so a forecast that is twice as high is twice as wide; beyond
    a factor of two, and where the median is zero, it is only shifted.
    """
    own = quantiles[..., config.quantiles.index(0.5)]
    stretch = np.where(own > 0, median / np.where(own > 0, own, 1), 1)
    stretch = np.clip(stretch, 1 / _LARGEST_STRETCH, _LARGEST_STRETCH)
    stretched = quantiles * stretch[..., None]
    shift = median - own * stretch
    return forecast.never_crossing(np.asarray(stretched + shift[..., None], np.float32))
