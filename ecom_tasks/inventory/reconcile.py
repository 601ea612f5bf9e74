"""Forecasts that add up: product, category, department, location, total.

Means of all levels are brought together by trace minimisation (Wickramasuriya, Athanasopoulos and
Hyndman, 2019) with hierarchicalforecast; sample paths are projected in the same way, so that each
path adds up by itself and quantiles of every level come from the same futures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from ecom_tasks.inventory import statistical
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.ensemble import Forecast
from ecom_tasks.inventory.forecast import Quantiles
from ecom_tasks.inventory.panel import Floats, Panel
from ecom_tasks.inventory.replenish import demand_paths
from ecom_tasks.inventory.series import ALL_LOCATIONS
from ecom_tasks.metrics.forecast import Array

BOTTOM_UP = "bottom_up"
_Z_LIMIT = 3.0


@dataclass(frozen=True)
class Hierarchy:
    """Which series add up to which node.

    Attributes
    ----------
    nodes : `level` and `node` of each row of the matrix above the series.
    adding : (nodes, series), 1 where the series is part of the node.
    """

    nodes: pl.DataFrame
    adding: Array

    def sums(self, bottom: Array) -> Array:
        """Add series up, (nodes, ...)."""
        return np.asarray(np.tensordot(self.adding, bottom, axes=1))


def hierarchy(keys: pl.DataFrame) -> Hierarchy:
    """Lay out total > department > category, and total > region > location where there are several.

    Parameters
    ----------
    keys : product_id, location_id, category (a path), a row per series; a location's region is
        what stands before the first `/` of its name
    """
    levels: dict[str, list[str]] = {"total": ["all"] * keys.height}
    paths = [path.split("/") for path in keys["category"].to_list()]
    levels["department"] = [path[0] for path in paths]
    levels["category"] = ["/".join(path[:2]) for path in paths]
    places = keys["location_id"].to_list()
    if set(places) != {ALL_LOCATIONS}:
        levels["region"] = [place.split("/")[0] for place in places]
        levels["location"] = places
    names: list[tuple[str, str]] = []
    rows = []
    for level, of_series in levels.items():
        for node in sorted(set(of_series)):
            names.append((level, node))
            rows.append([each == node for each in of_series])
    frame = pl.DataFrame(names, schema=["level", "node"], orient="row")
    return Hierarchy(frame, np.array(rows, np.float64))


def reconcile(tree: Hierarchy, bottom: Array, above: Array) -> tuple[Array, Array]:
    """Bring forecasts of series and of nodes together, so that they add up exactly.

    Each node's forecast is trusted in proportion to the number of its series (structural scaling),
    which needs no history of errors.

    Parameters
    ----------
    bottom : (series, steps), forecasts of the series
    above : (nodes, steps), forecasts of the nodes made by themselves

    Returns
    -------
    The series (not negative) and the nodes as their sums.
    """
    from hierarchicalforecast.methods import MinTrace

    adding = np.vstack([tree.adding, np.eye(bottom.shape[0])])
    made = MinTrace("wls_struct").fit_predict(S=adding, y_hat=np.vstack([above, bottom]))
    series = np.maximum(made["mean"][len(above) :], 0)
    return series, tree.sums(series)


def adjusted(
    panel: Panel, tree: Hierarchy, made: Forecast, config: InventoryConfig
) -> tuple[Floats, Quantiles]:
    """Return mean and quantiles of the series after reconciliation, as configured.

    Bottom-up leaves them as they are. With trace minimisation nodes are forecast by AutoETS, and
    a series' quantiles are stretched as its mean is moved.
    """
    if config.reconciliation == BOTTOM_UP:
        return made.mean, made.quantiles
    nodes = replace(
        panel,
        keys=tree.nodes,
        units=np.asarray(tree.sums(panel.units), np.float32),
        observed=None,
    )
    above = statistical.fit(nodes, panel.periods, config.horizon, panel.season, (statistical.ETS,))[
        statistical.ETS
    ]
    series, _ = reconcile(tree, made.mean.astype(np.float64), above.astype(np.float64))
    stretch = np.where(made.mean > 0, series / np.where(made.mean > 0, made.mean, 1), 1)
    moved = made.quantiles * stretch[..., None]
    return np.asarray(series, np.float32), np.asarray(moved, np.float32)


def shared_error(actual: Array, quantiles: Quantiles, levels: Sequence[float]) -> float:
    """Return how errors of different series in the same week go together, 0 to 1.

    Each actual is turned into the standard normal value of its place among its quantiles; the mean
    product of two series' values over the mean square is their correlation.

    Parameters
    ----------
    actual : (series, steps), units; NaN where there was no count
    quantiles : (series, steps, levels)
    """
    from scipy.stats import norm

    below = (quantiles <= actual[..., None]).sum(axis=-1)
    edges = np.array([0.0, *levels, 1.0])
    middle = (edges[:-1] + edges[1:]) / 2
    z = np.clip(norm.ppf(middle)[below], -_Z_LIMIT, _Z_LIMIT)
    z = np.where(np.isfinite(actual), z, 0.0)
    z -= z.mean()
    count = len(z)
    square = float(np.mean(z**2))
    if count < 2 or square == 0:
        return 0.0
    together = float(np.mean(z.sum(axis=0) ** 2))
    return float(np.clip((together / count - square) / ((count - 1) * square), 0.0, 1.0))


def paths_of(
    quantiles: Quantiles, levels: Sequence[float], shared: float, samples: int, seed: int
) -> npt.NDArray[np.float32]:
    """Draw futures of all series at once, (series, samples, steps), units.

    Parameters
    ----------
    shared : correlation between series in the same week
    """
    random = np.random.default_rng(seed)
    steps = quantiles.shape[1]
    common = random.normal(size=(samples, steps))
    found = np.empty((len(quantiles), samples, steps), np.float32)
    for row in range(len(quantiles)):
        own = random.normal(size=(samples, steps))
        normal = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
        found[row] = demand_paths(quantiles[row : row + 1], levels, normal)[0]
    return found


def node_forecasts(
    panel: Panel,
    tree: Hierarchy,
    mean: Floats,
    paths: npt.NDArray[np.float32],
    levels: Sequence[float],
) -> pl.DataFrame:
    """Return a row per node and period: level, node, its first day, mean and a column per quantile.

    The mean of a node is the sum of its series' means, its quantiles those of its series' summed
    paths, moved by what paths differ from means.
    """
    from ecom_tasks.inventory.layout import quantile_column

    means = tree.sums(mean.astype(np.float64))
    summed = tree.sums(paths.reshape(len(paths), -1)).reshape(len(means), *paths.shape[1:])
    drift = means - summed.mean(axis=1)
    found = np.quantile(summed, list(levels), axis=1) + drift
    days = [panel.day(panel.periods + step) for step in range(means.shape[1])]
    index = tree.nodes.join(
        pl.DataFrame({panel.time_column: days}), how="cross", maintain_order="left_right"
    )
    columns = {"mean": means.ravel()} | {
        quantile_column(level): np.maximum(found[number], 0).ravel()
        for number, level in enumerate(levels)
    }
    return index.with_columns(pl.Series(name, values) for name, values in columns.items())
