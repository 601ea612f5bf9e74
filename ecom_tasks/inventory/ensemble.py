"""Every forecast of a panel at an origin, and the one that they are combined to.

The flow and the backtest both forecast through this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ecom_tasks import compute
from ecom_tasks.inventory import (
    calibrate,
    combine,
    features,
    forecast,
    pooled,
    seasonal,
    statistical,
)
from ecom_tasks.inventory.calibrate import Calibration
from ecom_tasks.inventory.combine import Combination
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.forecast import Quantiles, Rows
from ecom_tasks.inventory.panel import Floats, Panel

XGB_MEAN, XGB_MEDIAN = "xgboost, mean", "xgboost, median"
_LARGEST_STRETCH = 2.0


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
) -> list[Members]:
    """Make every forecast at every origin; nothing right of an origin is read for it.

    Parameters
    ----------
    rows : `forecast.training_rows`; None where the past is too short for the global model
    following : periods after each origin in which is forecast again, from what is known by then,
        but with the global model as it was fitted at the origin

    Returns
    -------
    One for each origin and each of its following periods, in this order.
    """
    reviews = [origin + later for origin in origins for later in range(following + 1)]
    made: dict[int, tuple[Floats, Quantiles]] = {}
    if rows is not None:
        known, steps = rows, config.horizon

        def both(origin: int) -> list[tuple[int, Floats, Quantiles]]:
            mean = forecast.fit_mean(panel, known, origin, config)
            quantiles = forecast.fit_quantiles(panel, known, origin, config)
            found = []
            for review in range(origin, origin + following + 1):
                ahead = forecast.rows_ahead(panel, review, config)
                found.append((
                    review,
                    forecast.predict_mean(mean, ahead, steps),
                    forecast.predict_quantiles(quantiles, ahead, steps),
                ))
            return found

        with ThreadPoolExecutor(compute.workers()) as pool:
            for of_origin in pool.map(both, origins):
                made |= {review: (mean, quantiles) for review, mean, quantiles in of_origin}
    found = []
    for review in reviews:
        centres = others(panel, review, config)
        if review in made:
            mean, spread = made[review]
            centres |= centres_of(mean, spread, config)
        else:
            spread = plain_quantiles(panel, review, centres, config)
        found.append(Members(review, centres, spread))
    return found


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
