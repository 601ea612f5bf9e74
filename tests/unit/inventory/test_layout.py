"""Forecast tables: a row per series and week, and back."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from ecom_tasks.inventory import layout
from tests.unit.inventory import shop


def test_columns_are_named_after_their_level() -> None:
    names = [layout.quantile_column(level) for level in (0.01, 0.025, 0.1, 0.5, 0.99)]
    assert names == ["q01", "q02.5", "q10", "q50", "q99"]


def test_forecasts_survive_being_a_table() -> None:
    config = shop.small()
    panel = shop.panel(np.ones((3, config.periods_needed)), config)
    random = np.random.default_rng(0)
    mean = random.random((3, 2)).astype(np.float32)
    quantiles = np.sort(random.random((3, 2, 3)).astype(np.float32), axis=-1)
    levels = (0.1, 0.5, 0.9)
    frame = layout.forecast_frame(panel, panel.periods, mean, quantiles, levels)
    assert frame.columns == [
        "product_id", "location_id", "week_starts_on", "mean", "q10", "q50", "q90",
    ]  # fmt: skip
    assert frame["product_id"].to_list() == [p for p in panel.keys["product_id"] for _ in range(2)]
    monday = shop.last_day(panel.periods) + timedelta(days=1)
    assert frame["week_starts_on"].to_list()[:2] == [monday, monday + timedelta(weeks=1)]
    again = layout.forecast_arrays(frame, 3, levels)
    np.testing.assert_array_equal(again[0], mean)
    np.testing.assert_array_equal(again[1], quantiles)
