"""The weekly panel and its catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft
    from ecom_tasks.artefacts.manifest import FileEntry

PANEL, CATALOGUE = "panel", "catalogue.parquet"
SIZES, TOTALS = "sizes.parquet", "totals.parquet"
"""Rows of each product, and units of each week: the panel's outline, for who reads parts of it."""


def build_panel(run: Run, features: Ref) -> Ref:
    """Weekly units, shelf price and promotion of each product, and what a unit costs."""
    from ecom_tasks import compute
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import panel

    config = PricingConfig.of(run)
    demand, products, supply, prices = (
        dataset.input_named(features, name)
        for name in ("features/demand", "lake/products", "lake/supply", "lake/prices")
    )
    last = panel.last_complete_week(run.as_of)
    first_window = panel.cutoffs(last, config.test_windows, config.test_weeks)[0]

    def build(draft: Draft) -> None:
        import polars as pl

        level: str = config.panel_level
        if level == "auto":
            level = panel.level_of(dataset.scan_each(demand))
        draft.metrics["level of the panel"] = level
        costs = prices if _has_costs(prices) else None
        draft.metrics["unit costs over time"] = costs is not None
        work = partial(_panel_bucket, (demand, costs), draft.destination, level, first_window)
        unusable: dict[str, int] = {}
        sizes, totals = [], []
        for bucket in compute.map_buckets(work, dataset.paths(demand), "pricing panel"):
            draft.add([bucket.entry])
            sizes.append(bucket.sizes)
            totals.append(bucket.totals)
            for reason, count in bucket.unusable.items():
                unusable[reason] = unusable.get(reason, 0) + count
        if not sum(each.height for each in sizes):
            raise panel.nothing_usable(unusable)
        draft.write_frame(SIZES, pl.concat(sizes).sort("product_id"))
        weeks = pl.concat(totals).group_by(panel.WEEK).agg(pl.col("units").sum())
        draft.write_frame(TOTALS, weeks.sort(panel.WEEK).with_columns(pl.col("units").round(6)))
        draft.metrics["rows of demand without a usable price"] = unusable
        draft.write_frame(CATALOGUE, _catalogue(products, supply, costs, run.as_of))

    return dataset.produce(
        run, "work/pricing/panel", build, inputs=[demand, products, supply, prices], config=config
    )


@dataclass(frozen=True)
class _Bucket:
    """What is told of one bucket of the panel.

    Attributes
    ----------
    sizes : product_id, rows
    totals : week_starts_on, units
    unusable : see `panel.broken`
    """

    entry: FileEntry
    sizes: pl.DataFrame
    totals: pl.DataFrame
    unusable: dict[str, int]


def _panel_bucket(
    tables: tuple[Ref, Ref | None], destination: str, level: str, weights_before: date, path: str
) -> _Bucket:
    """Build and store one bucket of the panel; runs on a Dask worker."""
    import polars as pl

    from ecom_tasks.artefacts import bucketing, dataset
    from ecom_tasks.features.lines import empty
    from ecom_tasks.pricing import panel
    from ecom_tasks.tables import PRICES

    demand, costs = tables
    rows = dataset.scan(demand, path)
    weekly = panel.weekly(rows, level, weights_before)
    if costs:
        # Demand has no file for a bucket without rows, the lines that it was made from do.
        lines = dataset.input_named(demand, "lake/order_lines")
        buckets = len(dataset.paths(lines, f"{path.partition('/')[0]}/*.parquet"))
        told = bucketing.scan_bucket(costs, path, buckets)
        weekly = panel.with_costs(weekly, empty(PRICES) if told is None else told)
    entry = dataset.write_part(destination, f"{PANEL}/{path.rsplit('/', 1)[-1]}", weekly)
    sizes = weekly.group_by("product_id").agg(pl.len().alias("rows"))
    totals = weekly.group_by(panel.WEEK).agg(pl.col("units").sum())
    return _Bucket(entry, sizes, totals, panel.broken(rows))


def _has_costs(prices: Ref) -> bool:
    """Say whether the shop tells what its goods cost over time."""
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing.instruments import COST

    told = pl.col(COST).is_not_null().any()
    return any(
        COST in rows.collect_schema().names() and rows.select(told).collect().item()
        for rows in dataset.scan_each(prices)
    )


def _catalogue(products: Ref, supply: Ref, costs: Ref | None, as_of: date) -> pl.DataFrame:
    """Return product_id, category (path) and unit_cost, of the catalogue, supply or `costs`."""
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import panel

    catalogue = dataset.scan(products).select("product_id", "category", "unit_cost")
    if dataset.has_rows(supply):
        mean = dataset.scan(supply).group_by("product_id").agg(pl.col("unit_cost").mean())
        catalogue = _filled(catalogue, mean)
    if costs:
        newest = [panel.newest_costs(rows, as_of).collect() for rows in dataset.scan_each(costs)]
        catalogue = _filled(catalogue, pl.concat(newest).lazy())
    return catalogue.with_columns(pl.col("unit_cost").cast(pl.Float64)).sort("product_id").collect()


def _filled(catalogue: pl.LazyFrame, costs: pl.LazyFrame) -> pl.LazyFrame:
    """Give products without a unit_cost the one of another table."""
    import polars as pl

    return catalogue.join(costs, on="product_id", how="left", suffix="_else").select(
        "product_id", "category", pl.coalesce("unit_cost", "unit_cost_else").alias("unit_cost")
    )
