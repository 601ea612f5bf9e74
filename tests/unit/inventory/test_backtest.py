"""The backtest of any table: the right numbers, nothing of the future, and clear refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ecom_tasks import cli
from ecom_tasks.errors import DataContractError
from ecom_tasks.inventory import backtest, table
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.table import Columns, Setting

QUICK: dict[str, Any] = {
    "methods": ("SES",), "calibration_windows": 1, "history": 8,
    "network": False,
}  # fmt: skip


def sales(series: int = 12, periods: int = 48, seed: int = 0) -> pl.DataFrame:
    """Return monthly sales with a season of 12 and a known event that doubles them."""
    random = np.random.default_rng(seed)
    event = random.random((series, periods)) < 0.2
    level = 20 + 5 * np.arange(series)[:, None] + 8 * np.sin(np.arange(periods) * np.pi / 6)
    units = random.poisson(np.maximum(level * (1 + event), 1))
    return pl.DataFrame({
        "shop": np.repeat([f"s{row:02d}" for row in range(series)], periods),
        "month": np.tile(np.arange(periods), series),
        "sold": units.ravel().astype(float),
        "event": event.ravel(),
    })


def judged(frame: pl.DataFrame, horizon: int = 3, windows: int = 1, **settings: Any) -> Any:
    columns = Columns(["shop"], "month", "sold", known=["event"])
    panel = table.read(frame, columns, Setting("M", 12, horizon))
    config = InventoryConfig(
        horizon=horizon, season=12, quantiles=backtest.LEVELS, **QUICK | settings
    )
    return backtest.run(panel, windows, config)


@pytest.fixture(scope="module")
def found() -> Any:
    return judged(sales(), windows=2)


def test_figures_have_the_agreed_form(found: Any) -> None:
    figures = found.figures
    metrics = {"mase", "mase_1", "rmsse", "wrmsse", "smape", "wape", "wmae", "bias"}
    assert metrics | {"pinball_0.5", "pinball_0.99"} <= figures["model"].keys()
    assert {"seasonal naive", "AutoETS", "best of statsforecast"} <= figures["baselines"].keys()
    assert all(metrics == each.keys() for each in figures["baselines"].values())
    assert set(figures["coverage"]) == {"0.5", "0.8", "0.9", "0.98"}
    assert figures["seconds"] > 0
    assert figures["peak_memory_bytes"] > 1 << 20
    json.dumps(figures, allow_nan=False)


def test_a_known_event_is_worth_knowing(found: Any) -> None:
    model, naive = found.figures["model"], found.figures["baselines"]["seasonal naive"]
    for metric in ("mase", "rmsse", "wrmsse", "smape", "wape", "wmae"):
        assert model[metric] < naive[metric]
    added = found.figures["forecast_value_added"]
    assert added["mase"] == pytest.approx(1 - model["mase"] / naive["mase"], abs=1e-4)


def test_plain_figures_by_hand(found: Any) -> None:
    units = sales()["sold"].to_numpy().reshape(12, 48)
    missed = []
    for origin in (42, 45):
        made = units[:, origin - 12 : origin - 9]
        missed.append(np.abs(units[:, origin : origin + 3] - made).mean())
    assert found.figures["baselines"]["seasonal naive"]["wmae"] == pytest.approx(np.mean(missed))


def test_a_window_is_forecast_without_sight_of_it(found: Any) -> None:
    spoilt = sales().with_columns(sold=pl.when(pl.col("month") >= 45).then(999.0).otherwise("sold"))
    other = judged(spoilt, windows=2)
    assert [each.origin for each in found.forecasts] == [42, 45]
    for each, same in zip(found.forecasts, other.forecasts, strict=True):
        np.testing.assert_array_equal(each.mean, same.mean)
        np.testing.assert_array_equal(each.quantiles, same.quantiles)


def test_quantiles_never_cross_and_are_not_negative(found: Any) -> None:
    for each in found.forecasts:
        assert (np.diff(each.quantiles, axis=-1) >= 0).all()
        assert each.quantiles.min() >= 0


def test_odd_series_get_finite_forecasts() -> None:
    odd = pl.DataFrame({
        "shop": ["zero"] * 48 + ["point"] + ["below"] * 48 + ["late"] * 4,
        "month": [*range(48), 47, *range(48), *range(44, 48)],
        "sold": [0.0] * 48 + [3.5] + [-1.0, 4.0] * 24 + [5.0] * 4,
        "event": [False] * 101,
    })
    result = judged(pl.concat([sales(), odd]))
    for each in result.forecasts:
        assert np.isfinite(each.quantiles).all()
        assert np.isfinite(each.mean).all()
        assert each.mean.min() >= 0
        zero = result.panel.keys["shop"].to_list().index("zero")
        assert each.mean[zero].max() < 1
    assert result.figures["model"]["mase"] is not None


def test_a_short_history_leaves_classical_methods() -> None:
    short = sales(periods=12).with_columns(sold=pl.col("sold") + 0.5)
    figures = judged(short, horizon=4).figures
    assert figures["model"]["wape"] < 1
    assert figures["model"]["mase"] is None  # eight periods hold no two that lie a season apart


def test_a_horizon_longer_than_the_history_is_refused() -> None:
    with pytest.raises(DataContractError, match="1 windows of 48 periods need more than 48"):
        judged(sales(), horizon=48)


def test_the_command_writes_figures_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sales.parquet"
    sales(series=6, periods=36).write_parquet(path)
    command = [
        "backtest", "inventory", "--series", str(path), "--id", "shop", "--time", "month",
        "--target", "sold", "--freq", "M", "--season", "12", "--horizon", "3", "--known", "event",
        "--json", str(tmp_path / "out.json"), "--html", str(tmp_path / "out.html"),
        "--set", 'inventory.methods=["SES"]', "--set", "inventory.network=false",
    ]  # fmt: skip
    assert cli.main(command) == 0
    assert "seasonal naive" in capsys.readouterr().out
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["series"] == 6
    html = (tmp_path / "out.html").read_text()
    assert html.count("<svg") == 3
    assert cli.main([*command, "--horizon", "0"]) == 2
