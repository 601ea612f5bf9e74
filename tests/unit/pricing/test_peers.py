"""The same elasticities as two libraries for double machine learning, on the same rows."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest
from xgboost import XGBRegressor

from ecom_tasks.pricing.config import PricingConfig
from tests.unit.pricing import simulated
from tests.unit.pricing.test_absorb import chain

CONFIG = PricingConfig()
TRUTH = -1.5
MODEL = {"n_estimators": 60, "max_depth": 3, "learning_rate": 0.1, "n_jobs": 1, "random_state": 0}


@pytest.fixture(scope="module")
def shop() -> pl.DataFrame:
    """Products that sell hundreds a week, so that a logarithm of units is no loss."""
    panel, _ = simulated.panel(3, products=24, weeks=104, elasticity=TRUTH, units=300.0)
    return simulated.fitted_rows(panel, CONFIG)


@pytest.fixture(scope="module")
def ours(shop: pl.DataFrame) -> dict[str, float]:
    return simulated.pooled(shop, [], 0.95).row(0, named=True)


def matrices(shop: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log units and log price within series, and the controls, as the peers take them."""
    sold = shop.filter(pl.col("units") > 0).with_columns(pl.col("units").log().alias("log_units"))
    within = sold.select(
        pl.col(name) - pl.col(name).mean().over("product_id") for name in ("log_units", "log_price")
    )
    controls = sold.select(
        pl.col("display", "mailer", "category_demand", "category_price", "trend", "season_sine",
               "season_cosine").cast(pl.Float64),
    ).to_numpy()  # fmt: skip
    return within["log_units"].to_numpy(), within["log_price"].to_numpy(), controls


def agrees(ours: dict[str, float], estimate: float, error: float) -> None:
    """Both cover the truth, and each lies within the other's interval."""
    assert ours["lower"] <= TRUTH <= ours["upper"]
    together = np.hypot(ours["standard_error"], error)
    assert abs(ours["estimate"] - estimate) < 2 * together
    assert ours["standard_error"] < 3 * error


def test_econml_agrees(shop: pl.DataFrame, ours: dict[str, float]) -> None:
    dml = pytest.importorskip("econml.dml")
    y, price, controls = matrices(shop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = dml.LinearDML(
            model_y=XGBRegressor(**MODEL), model_t=XGBRegressor(**MODEL), random_state=0
        )
        peer.fit(y, price, X=None, W=controls)
        found = peer.intercept__inference()
    agrees(ours, float(found.point_estimate), float(found.stderr))


def test_doubleml_agrees(shop: pl.DataFrame, ours: dict[str, float]) -> None:
    doubleml = pytest.importorskip("doubleml")
    y, price, controls = matrices(shop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = doubleml.DoubleMLData.from_arrays(controls, y, price)
        np.random.seed(0)  # noqa: NPY002  (it draws its folds from there)
        peer = doubleml.DoubleMLPLR(data, XGBRegressor(**MODEL), XGBRegressor(**MODEL), n_folds=3)
        peer.fit()
    agrees(ours, float(peer.coef[0]), float(peer.se[0]))


def test_where_prices_follow_products_everywhere_the_peers_are_fooled() -> None:
    """Ours takes levels of weeks off; a partially linear model without them cannot."""
    dml = pytest.importorskip("econml.dml")
    rows = chain([TRUTH] * 8, stores=12, weeks=40)
    own = simulated.by_product(rows, CONFIG)["own_estimate"].to_numpy()
    assert own == pytest.approx(TRUTH, abs=0.02)
    y, price = rows["demand"].log().to_numpy(), rows["log_price"].to_numpy()
    week = rows["week_starts_on"].rank("dense").to_numpy().astype(float)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = dml.LinearDML(
            model_y=XGBRegressor(**MODEL), model_t=XGBRegressor(**MODEL), random_state=0
        )
        peer.fit(y, price, X=None, W=week)
    assert float(peer.intercept_) - TRUTH > 0.3
