"""Several forecasts -> one: weights fitted on held-out windows, for each kind of series.

The mean is weighted for squared errors and the median for absolute ones, since the best mean and
the best median of skewed demand are not the same number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from ecom_tasks.inventory.panel import VALUE_PERIODS, Booleans, Floats, Panel
from ecom_tasks.metrics.forecast import seasonal_scale

SMOOTH, INTERMITTENT, LUMPY, NEW = "smooth", "intermittent", "lumpy", "new"
SEGMENTS = (SMOOTH, INTERMITTENT, LUMPY, NEW)
INTERVAL_LIMIT, VARIATION_LIMIT = 1.32, 0.49
_NEW_PERIODS = 13
_FEWEST_VALUES, _MOST_VALUES = 400, 100_000
_ITERATIONS = 40
_SCALE_FLOOR = 0.01
Array = npt.NDArray[np.floating]
Weights = dict[str, dict[str, float]]
"""Segment -> name of a forecast -> weight, not negative, summing to one."""


@dataclass(frozen=True)
class Combination:
    """Weights of both centres.

    Attributes
    ----------
    mean, median : weights by segment.
    """

    mean: Weights
    median: Weights


def segments(panel: Panel, origin: int) -> npt.NDArray[np.str_]:
    """Sort series by their demand as known at `origin`, (series,).

    `new`: first demand within the last 13 periods. Else by the mean interval between periods with
    demand and the squared coefficient of variation of their sizes (Syntetos, Boylan and Croston,
    2005): `smooth` up to an interval of 1.32, above it `intermittent` with a squared variation of
    up to 0.49 and `lumpy` beyond. (What the source calls erratic has an interval like smooth
    demand and is with it here.)
    """
    units = panel.units[:, :origin]
    counted = panel.known()[:, :origin]
    sold = (units > 0) & counted
    first = np.where(sold.any(axis=1), np.argmax(sold, axis=1), origin)
    times = sold.sum(axis=1)
    interval = (origin - first) / np.maximum(times, 1)
    sizes = np.where(sold, units, 0).astype(np.float64)
    mean = sizes.sum(axis=1) / np.maximum(times, 1)
    square = (sizes**2).sum(axis=1) / np.maximum(times, 1)
    variation = (square - mean**2) / np.maximum(mean**2, 1e-12)
    lumpy = np.where(variation <= VARIATION_LIMIT, INTERMITTENT, LUMPY)
    found = np.where(interval <= INTERVAL_LIMIT, SMOOTH, lumpy)
    return np.asarray(np.where(origin - first < _NEW_PERIODS, NEW, found))


def fit(
    panel: Panel,
    windows: Sequence[tuple[int, Mapping[str, Floats]]],
    shrinkage: float,
) -> Combination:
    """Fit weights on windows that every forecast was made for without sight of them.

    Squared errors count in units of each series's naive error and by its recent sales, as WRMSSE
    does; absolute errors in units of the naive error, or with the panel's weights as WMAE does. A
    segment of fewer than 400 values takes the weights of all series together.

    Parameters
    ----------
    windows : (origin, name -> (series, steps)), the same names in each
    shrinkage : how strongly weights are drawn to equal ones, in shares of the errors' own size

    Returns
    -------
    Combination; equal weights where nothing was observed. Of more than 100,000 values a sample is
    fitted.
    """
    names = list(windows[0][1])
    made, actual, mean_weight, median_weight, kinds = _stack(panel, windows)
    if len(actual) > _MOST_VALUES:
        some = np.random.default_rng(1).choice(len(actual), _MOST_VALUES, replace=False)
        made, actual, kinds = made[some], actual[some], kinds[some]
        mean_weight, median_weight = mean_weight[some], median_weight[some]
    everything = np.ones(len(actual), np.bool_)
    overall = _both(made, actual, mean_weight, median_weight, everything, shrinkage)
    mean: Weights = {}
    median: Weights = {}
    for segment in SEGMENTS:
        rows = kinds == segment
        own = (
            _both(made, actual, mean_weight, median_weight, rows, shrinkage)
            if rows.sum() >= _FEWEST_VALUES
            else overall
        )
        mean[segment], median[segment] = (
            dict(zip(names, weights.round(6).tolist(), strict=True)) for weights in own
        )
    return Combination(mean, median)


def equal(names: Sequence[str]) -> Combination:
    """Return weights for when there is nothing to fit them on."""
    weights = {segment: {name: 1 / len(names) for name in names} for segment in SEGMENTS}
    return Combination(weights, weights)


def among(combination: Combination, names: Sequence[str]) -> Combination:
    """Restrict a combination to these forecasts, to equal weights if it knows none of them.

    What it gave to forecasts that are not there goes to the others in proportion.
    """

    def restricted(weights: dict[str, float]) -> dict[str, float]:
        known = {name: weights.get(name, 0.0) for name in names}
        total = sum(known.values())
        if total <= 0:
            return dict.fromkeys(names, 1 / len(names))
        return {name: weight / total for name, weight in known.items()}

    return Combination(
        {segment: restricted(weights) for segment, weights in combination.mean.items()},
        {segment: restricted(weights) for segment, weights in combination.median.items()},
    )


def apply(weights: Weights, made: Mapping[str, Floats], kinds: npt.NDArray[np.str_]) -> Floats:
    """Return the weighted forecast, (series, steps)."""
    found = np.zeros_like(next(iter(made.values())))
    for segment, of_segment in weights.items():
        rows = kinds == segment
        for name, weight in of_segment.items():
            found[rows] += np.float32(weight) * made[name][rows]
    return found


def _stack(
    panel: Panel, windows: Sequence[tuple[int, Mapping[str, Floats]]]
) -> tuple[Array, Array, Array, Array, npt.NDArray[np.str_]]:
    """Lay all observed values out: forecasts (values, names), actuals, weights and segments."""
    parts: list[tuple[Array, ...]] = []
    kinds = []
    for origin, forecasts in windows:
        steps = next(iter(forecasts.values())).shape[1]
        window = slice(origin, origin + steps)
        judged = panel.known()[:, window] & panel.sold_before(origin)[:, None]
        row, _ = np.nonzero(judged)
        square, absolute = _naive_errors(panel, origin)
        recent = max(0, origin - max(4, VALUE_PERIODS[panel.frequency]))
        value = np.maximum(panel.sales[:, recent:origin].sum(axis=1), 0)
        by_value = value / max(float(value.mean()), 1e-9) / square
        weights = panel.weights
        by_error = 1 / absolute[row] if weights is None else weights[:, window][judged]
        parts.append((
            np.column_stack([each[judged] for each in forecasts.values()]),
            panel.units[:, window][judged],
            by_value[row],
            by_error,
        ))
        kinds.append(segments(panel, origin)[row])
    made, actual, mean, median = (np.concatenate(each) for each in zip(*parts, strict=True))
    return made, actual, mean, median, np.concatenate(kinds)


def _naive_errors(panel: Panel, origin: int) -> tuple[Array, Array]:
    """Return mean squared and absolute naive errors, with a floor of a tenth of the level."""
    past = panel.units[:, :origin].astype(np.float64)
    level = np.abs(past).mean(axis=1)
    square = np.nan_to_num(seasonal_scale(past))
    absolute = np.nan_to_num(seasonal_scale(past, error="absolute"))
    return (
        np.maximum(square, _SCALE_FLOOR * level**2 + 1e-9),
        np.maximum(absolute, np.sqrt(_SCALE_FLOOR) * level + 1e-9),
    )


def _both(
    made: Array,
    actual: Array,
    mean_weight: Array,
    median_weight: Array,
    rows: Booleans,
    shrinkage: float,
) -> tuple[Array, Array]:
    made, actual = made[rows].astype(np.float64), actual[rows].astype(np.float64)
    return (
        _least_squares(made, actual, mean_weight[rows], shrinkage),
        _least_absolute(made, actual, median_weight[rows], shrinkage),
    )


def _least_squares(made: Array, actual: Array, weight: Array, shrinkage: float) -> Array:
    """Return the weights, not negative and summing to one, with the least weighted squares.

    Errors of a convex combination are the combination of the errors, so that the sum to one can
    be asked for by one heavy extra row. The ridge is towards equal weights.
    """
    count = made.shape[1]
    share = np.full(count, 1 / count)
    if not len(actual) or weight.sum() <= 0:
        return share
    errors = made - actual[:, None]
    gram = (errors * weight[:, None]).T @ errors / weight.sum()
    size = max(float(np.trace(gram)) / count, 1e-12)
    gram += shrinkage * size * np.eye(count)
    # min w'Gw - 2 s w'e: a non-negative least-squares problem in the square root of G.
    value, vector = np.linalg.eigh(gram)
    root = (vector * np.sqrt(np.maximum(value, 1e-9 * size))) @ vector.T
    target = np.linalg.solve(root, shrinkage * size * share)
    heavy = 1e3 * np.sqrt(size)
    found, _ = nnls(
        np.vstack([root, heavy * np.ones(count)]), np.append(target, heavy), maxiter=100 * count
    )
    return np.asarray(found / found.sum())


def _least_absolute(made: Array, actual: Array, weight: Array, shrinkage: float) -> Array:
    """Return the same for weighted absolute errors, by reweighted squares."""
    count = made.shape[1]
    found = np.full(count, 1 / count)
    if not len(actual) or weight.sum() <= 0:
        return found
    for _ in range(_ITERATIONS):
        missed = np.abs(made @ found - actual)
        floor = 1e-2 * float(np.average(missed, weights=weight)) + 1e-9
        found = (found + _least_squares(
            made, actual, weight / np.maximum(missed, floor), shrinkage
        )) / 2  # fmt: skip
    return found
