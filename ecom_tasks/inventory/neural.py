"""The neural network among the forecasts: windows of the panel for `training.demand_network`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ecom_tasks.inventory import features
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.features import LONG
from ecom_tasks.inventory.forecast import Chosen, Integers, Quantiles, never_crossing
from ecom_tasks.inventory.panel import Floats, Panel
from ecom_tasks.metrics.forecast import Array

if TYPE_CHECKING:
    from ecom_tasks.training.demand_network import Network

MEAN, MEDIAN = "network, mean", "network, median"
_RECENT = 4
_MOST_ORIGINS = 24
_LARGEST_PAST, _LARGEST_TARGET = 32.0, 20.0
_LEAST_WINDOWS = 200


@dataclass(frozen=True)
class _Measure:
    """What values of a series are measured by, (series,): around which level, in which unit."""

    level: Array
    noise: Array


def fit(panel: Panel, origin: int, config: InventoryConfig) -> Network | None:
    """Train on stretches of the past as known at `origin`; None where there are too few.

    At most `config.network_rows` stretches, of 24 origins spread over the past.
    """
    from ecom_tasks.training import demand_network
    from ecom_tasks.training.demand_network import Dials, Windows

    steps = config.horizon
    ends = np.arange(config.history, origin - steps + 1)
    if len(ends) > _MOST_ORIGINS:
        ends = ends[np.linspace(0, len(ends) - 1, _MOST_ORIGINS).round().astype(int)]
    able = [np.flatnonzero(panel.sold_before(end)) for end in ends.tolist()]
    count = sum(map(len, able))
    if count < _LEAST_WINDOWS:
        return None
    random = np.random.default_rng(config.seed)
    share = config.network_rows / count
    parts = []
    for end, rows in zip(ends.tolist(), able, strict=True):
        some = rows[random.random(len(rows)) < share]
        if len(some):
            parts.append(_window(panel, end, some, config))
    past, ahead, target, weight = (np.concatenate(each) for each in zip(*parts, strict=True))
    dials = Dials(config.quantiles, epochs=config.network_epochs, seed=config.seed)
    return demand_network.train(Windows(past, ahead, target, weight), dials)


def predict(
    network: Network, panel: Panel, origin: int, config: InventoryConfig, chosen: Chosen
) -> tuple[Floats, Quantiles]:
    """Return mean (series, steps) and quantiles (series, steps, levels) in units."""
    from ecom_tasks.training import demand_network

    rows = np.arange(panel.series)[chosen]
    past, ahead, measure = _inputs(panel, origin, rows, config)
    mean, quantiles = demand_network.predict(network, past, ahead)
    level, noise = measure.level[:, None], measure.noise[:, None]
    units = np.maximum(level + noise * mean, 0)
    return np.asarray(units, np.float32), never_crossing(
        np.asarray(level[..., None] + noise[..., None] * quantiles, np.float32)
    )


def _window(
    panel: Panel, origin: int, rows: Integers, config: InventoryConfig
) -> tuple[Floats, Floats, Floats, Floats]:
    past, ahead, measure = _inputs(panel, origin, rows, config)
    window = slice(origin, origin + config.horizon)
    units = np.where(panel.known()[rows, window], panel.units[rows, window], np.nan)
    target = (units - measure.level[:, None]) / measure.noise[:, None]
    weight = np.ones(target.shape)
    if panel.weights is not None:
        weight = panel.weights[rows, window] * measure.noise[:, None]
        weight /= max(float(weight.mean()), 1e-9)
    target = np.clip(target, -_LARGEST_TARGET, _LARGEST_TARGET)
    return past, ahead, np.asarray(target, np.float32), np.asarray(weight, np.float32)


def _inputs(
    panel: Panel, origin: int, rows: Integers, config: InventoryConfig
) -> tuple[Floats, Floats, _Measure]:
    """Return past (rows, places, channels), ahead (rows, steps, features) and measures."""
    places = config.network_places
    measure = _measure(panel.units[rows, :origin].astype(np.float64))
    first = max(0, origin - places)
    span = slice(first, origin)
    known = panel.known()[rows, span]
    values = (panel.units[rows, span] - measure.level[:, None]) / measure.noise[:, None]
    values = np.where(known, np.clip(values, -_LARGEST_PAST, _LARGEST_PAST), 0)
    channels: list[Array] = [values, np.asarray(known, np.float64)]
    channels += [plan[rows, span] for plan in panel.plans.values()]
    if panel.price is not None and panel.discount_depth is not None:
        price = panel.price[rows, span].astype(np.float64)
        never = np.isnan(price).all(axis=1, keepdims=True)
        usual = np.nanmedian(np.where(never, 1, price), axis=1)
        relative = np.maximum(price, 1e-2) / np.maximum(usual, 1e-2)[:, None]
        channels.append(np.nan_to_num(np.log(relative)))
        channels.append(np.nan_to_num(panel.discount_depth[rows, span]))
    past = np.stack(channels, axis=2)
    past = np.pad(past, ((0, 0), (places - past.shape[1], 0), (0, 0)))
    level = features.level(panel, origin)[rows]
    fixed = [np.log(level), np.log(measure.noise / level)]
    ahead = [
        np.column_stack([
            *(each[rows] for each in
              features.week_ahead(panel, origin, step, config.country).values()),
            *fixed,
        ])
        for step in range(1, config.horizon + 1)
    ]  # fmt: skip
    found = np.nan_to_num(np.stack(ahead, axis=1))
    return np.asarray(past, np.float32), np.asarray(found, np.float32), measure


def _measure(past: Array) -> _Measure:
    """Measure by the mean of the last four values and the mean step between neighbours."""
    recent = past[:, -LONG:]
    noise = np.abs(np.diff(recent, axis=1)).mean(axis=1)
    least = 1e-3 * np.abs(recent).mean(axis=1) + 1e-6
    return _Measure(recent[:, -_RECENT:].mean(axis=1), np.maximum(noise, least))
