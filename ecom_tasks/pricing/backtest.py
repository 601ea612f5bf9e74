"""What can be told of any panel of prices and units: elasticities, their evidence, their tests.

The estimator is that of the flow; a panel from a file only enters by another door.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecom_tasks import compute
from ecom_tasks.errors import DataContractError
from ecom_tasks.pricing import model, parts, plain, trials
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.evidence import CANNOT_TELL
from ecom_tasks.pricing.panel import SERIES
from ecom_tasks.pricing.panel_file import Read

Array = NDArray[np.float64]
_LEAST_PERIODS = 8
_HALF_YEAR_DAYS = 182
_NUMBERS = (
    "estimate", "error", "lower", "upper", "weight_borrowed", "own_estimate", "own_error",
    "placebo", "placebo_lower", "placebo_upper", "p_value", "price_left_share",
    "price_deviation", "coverage", "first_stage_f",
)  # fmt: skip


@dataclass(frozen=True)
class _Part:
    """What one part of the panel tells; plain: sums for slopes with and without stores' levels."""

    told: model.Told
    usual: pl.DataFrame
    plain: Array
    plain_fixed: Array


def run(panel: Read, config: PricingConfig) -> tuple[dict[str, Any], model.Fitted | None]:
    """Estimate all elasticities of a panel, in parts that fit in memory.

    Returns
    -------
    dict
        `pooled` (one elasticity for all with interval, placebo, plain log-log slopes, nuisance
        quality, counts of grades), `products`, `cross` (those found), `price_tests`, `assumptions`,
        `seconds`, `peak_memory_bytes`; and what was fitted, None where no price moved enough.
    """
    began = time.monotonic()
    sizes = panel.sizes
    config = _for_periods(panel, config)
    dealt = parts.split(sizes, config.part_rows)
    work = partial(_part, panel, parts.config_of_each(config, len(dealt)))
    told = parts.over(work, dealt, "elasticities")
    try:
        fitted = model.pool([each.told for each in told], config)
        refused = ""
    except DataContractError as error:
        fitted, refused = None, error.reason
    products = (
        fitted.products
        if fitted
        else pl
        .concat([each.told.judged for each in told])
        .join(sizes.select("product_id", "category", "department"), on="product_id")
        .with_columns(pl.lit(CANNOT_TELL).alias("grade"), pl.col("variation").alias("why"))
    )
    rows = products.sort("product_id").to_dicts()
    found = {
        "pooled": _pooled(told, fitted, products, refused) | {"rows": int(sizes["rows"].sum())},
        "products": [_product(row) for row in rows],
        "cross": _cross(fitted),
        "price_tests": [
            each.as_dict()
            for each in trials.propose(products, pl.concat([e.usual for e in told]), config)
        ],
        "assumptions": panel.assumptions,
        "seconds": round(time.monotonic() - began, 2),
        "peak_memory_bytes": _peak(len(dealt)),
    }  # fmt: skip
    return found, fitted


def _part(panel: Read, config: PricingConfig, products: list[str]) -> _Part:
    """Learn one part of the panel; may run on a Dask worker."""
    weeks = panel.of(products)
    return _Part(
        model.learn(weeks, panel.last_week + timedelta(weeks=1), config).told,
        trials.usual(weeks),
        plain.sums(weeks, ["product_id"]),
        plain.sums(weeks, SERIES),
    )


def _peak(count: int) -> int:
    """Return the most memory held at once, bytes: this process, and as many workers as there were.

    Of workers the largest counts for each; of a cluster elsewhere, none.
    """
    own, largest = (
        resource.getrusage(who).ru_maxrss * 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own + (min(compute.workers(), count) * largest if count > 1 else 0)


def _for_periods(panel: Read, config: PricingConfig) -> PricingConfig:
    """Ask for half a year of periods, and for no more products than there are."""
    periods = max(_LEAST_PERIODS, _HALF_YEAR_DAYS // panel.period_days)
    count = panel.sizes["product_id"].n_unique()
    return config.model_copy(
        update={
            "min_weeks": min(config.min_weeks, periods),
            "min_products": min(config.min_products, count),
        }
    )


def _pooled(
    told: list[_Part], fitted: model.Fitted | None, products: pl.DataFrame, refused: str
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "products": products.height,
        "grades": dict(products["grade"].value_counts().sort("grade").rows()),
        "plain_log_log": _rounded(plain.slope([each.plain for each in told])),
        "plain_log_log_fixed_effects": _rounded(plain.slope([each.plain_fixed for each in told])),
    }
    if fitted is None:
        return found | {"estimate": None, "lower": None, "upper": None, "refused": refused}
    shop = fitted.shop
    placebo = shop["placebo"]
    return found | {
        **{name: _rounded(shop["elasticity"][name]) for name in ("estimate", "lower", "upper")},
        "standard_error": _rounded(shop["elasticity"]["standard_error"]),
        "placebo": _placebo(placebo["estimate"], placebo["lower"], placebo["upper"],
                            shop["elasticity"]["estimate"]),
        "products_passing_placebo": int(products["placebo_passed"].fill_null(value=True).sum()),
        "foretold_by_controls": {
            name: _rounded(value) for name, value in shop["foretold_by_controls"].items()
        },
        "cross_effects_found": shop["cross_effects_found"],
    }  # fmt: skip


def _product(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "product": row["product_id"],
        "category": row["category"],
        **{name: _rounded(row.get(name)) for name in _NUMBERS},
        "weeks": row["weeks"],
        "moved_weeks": row["moved_weeks"],
        "instrument": row.get("instrument"),
        "placebo": _placebo(
            row.get("placebo"), row.get("placebo_lower"), row.get("placebo_upper"),
            row.get("estimate"), row.get("placebo_passed"),
        ),
        "grade": row["grade"],
        "why": row["why"],
    }  # fmt: skip


def _placebo(
    estimate: float | None,
    lower: float | None,
    upper: float | None,
    elasticity: float | None,
    passed: bool | None = None,  # noqa: FBT001
) -> dict[str, Any]:
    """Tell of a placebo whether it is zero within chance, or small beside the elasticity."""
    if passed is None and None not in {estimate, lower, upper}:
        small = elasticity is not None and abs(estimate or 0) <= 0.25 * abs(elasticity)
        passed = small or ((lower or 0) <= 0 <= (upper or 0))
    return {
        "estimate": _rounded(estimate), "lower": _rounded(lower), "upper": _rounded(upper),
        "passed": passed,
    }  # fmt: skip


def _cross(fitted: model.Fitted | None) -> list[dict[str, Any]]:
    if fitted is None:
        return []
    shown = fitted.cross.filter("found").sort("product_id", "other_id")
    return [
        {
            "product": row["product_id"],
            "price_of": row["other_id"],
            **{
                name: _rounded(row[name])
                for name in (
                    "estimate", "lower", "upper", "raw_estimate", "raw_error", "weight_borrowed",
                    "null_probability",
                )
            },
            "signs_agree": row["signs_agree"],
        }
        for row in shown.iter_rows(named=True)
    ]  # fmt: skip


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) and value == value else None
