"""One linear model over all series: what follows from the last values, in units of their noise.

Pooled regression (Montero-Manso and Hyndman, Principles and algorithms for forecasting groups of
time series, 2021): short series borrow the coefficients that long ones show. Direct, for all steps
at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ecom_tasks.inventory.panel import Floats, Panel

NAME, LOGS = "pooled regression", "pooled regression, logs"
_LOG_FLOOR = 0.1
_RIDGE = 10.0
_CUT = 8.0
_ROWS_AT_MOST = 100_000
_SHORTEST = 4
_FARTHEST = 100.0
Matrix = npt.NDArray[np.float64]


def forecast(panel: Panel, origin: int, steps: int, seed: int) -> dict[str, Floats]:
    """Fit on every stretch of the past that is as long as lags and steps together; forecast.

    The lags reach a season and a quarter back. Values are taken as distances from the last one, in
    units of the mean absolute step between neighbours, so that neither level nor unit matters;
    those beyond eight units are cut.

    Returns
    -------
    `NAME`, and `LOGS` of the same on the logarithm (with a tenth of the series's mean added, so
    that zeros have one) -> (series, steps), not negative; empty where the past is too short to fit
    anything.
    """
    past = np.maximum(panel.units[:, :origin], 0)
    floor = _LOG_FLOOR * past.mean(axis=1, keepdims=True) + 1e-6
    plain = _fitted(panel, panel.units, origin, steps, seed)
    if plain is None:
        return {}
    logs = _fitted(panel, np.log(np.maximum(panel.units, 0) + floor), origin, steps, seed)
    assert logs is not None
    # No further than a hundred times what there ever was: e to a straight line can be anything.
    limit = np.log(_FARTHEST * past.max(axis=1, keepdims=True) + floor)
    back = np.exp(np.minimum(logs, limit)) - floor
    return {
        NAME: np.asarray(np.maximum(plain, 0), np.float32),
        LOGS: np.asarray(np.maximum(back, 0), np.float32),
    }


def _fitted(panel: Panel, units: Floats, origin: int, steps: int, seed: int) -> Matrix | None:
    lags = panel.season + max(2, panel.season // 4)
    while lags >= _SHORTEST and not _stretches(panel, origin, lags, steps):
        lags //= 2
    if lags < _SHORTEST:
        return None
    first = np.argmax(panel.known()[:, :origin], axis=1)
    ends = _ends(origin, lags, steps)
    share = min(1.0, _ROWS_AT_MOST / (len(ends) * panel.series))
    random = np.random.default_rng(seed)
    size = lags + 1
    gram, cross = np.zeros((size, size)), np.zeros((size, steps))
    for end in ends:
        rows = (first <= end - lags) & (random.random(panel.series) < share)
        inputs, last, noise = _inputs(units[rows, end - lags : end])
        targets = (units[rows, end : end + steps] - last) / noise
        gram += inputs.T @ inputs
        cross += inputs.T @ np.clip(targets, -_CUT, _CUT)
    coefficients = np.linalg.solve(gram + _RIDGE * np.eye(size), cross)
    inputs, last, noise = _inputs(units[:, origin - lags : origin])
    return np.asarray(last + noise * (inputs @ coefficients))


def _ends(origin: int, lags: int, steps: int) -> range:
    return range(lags, origin - steps + 1)


def _stretches(panel: Panel, origin: int, lags: int, steps: int) -> bool:
    """Tell whether at least half of the series hold a stretch to learn from."""
    first = np.argmax(panel.known()[:, :origin], axis=1)
    return len(_ends(origin, lags, steps)) > 0 and float(
        np.mean(origin - first >= lags + steps)
    ) >= 1 / 2  # fmt: skip


def _inputs(window: Floats) -> tuple[Matrix, Matrix, Matrix]:
    """Return scaled distances with a constant (rows, lags + 1), the last value and the noise."""
    values = window.astype(np.float64)
    last = values[:, -1:]
    noise = np.abs(np.diff(values, axis=1)).mean(axis=1, keepdims=True)
    noise = np.maximum(noise, 1e-3 * np.abs(values).mean(axis=1, keepdims=True) + 1e-6)
    scaled = np.clip((values - last) / noise, -_CUT * 4, _CUT * 4)
    return np.column_stack([scaled, np.ones(len(values))]), last, noise
