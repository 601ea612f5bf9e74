"""Features, top to bottom: validated tables -> feature tables, one Dask task a bucket.

Each feature table is a pure function of one bucket of order lines (whole customers, or whole
products), so no task ever sees another bucket and nothing is shuffled. Light to import, since the
scheduler reads this file: heavy libraries load inside the tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

from ecom_tasks.features.config import FeaturesConfig
from ecom_tasks.run import Ref, Run, Step

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft
    from ecom_tasks.artefacts.manifest import FileEntry

BY_CUSTOMER = "by_customer"
BY_PRODUCT = "by_product"


@dataclass(frozen=True)
class Tables:
    """Where a worker finds the lake, and what it is to know of it.

    `promotions` is None for a feature table that does not read them: new promotions then leave
    its version as it is.
    """

    order_lines: Ref
    products: Ref
    promotions: Ref | None
    as_of: date
    config: FeaturesConfig


Bucket = Callable[[Tables, str], "dict[str, pl.LazyFrame]"]
"""Builds the files of one bucket: path inside the version -> its rows."""


def pin_lake(run: Run) -> Ref:
    """Find the validated tables of the day, so that every later task reads the same rows."""
    from ecom_tasks.artefacts import dataset

    return dataset.find(run, "lake/all")


def build_customers(run: Run, lake: Ref) -> Ref:
    """Orders, spend, rhythm and recency of each customer, for `as_of` and earlier cutoffs."""
    return _build(run, lake, "customers", _customers, BY_CUSTOMER)


def build_products(run: Run, lake: Ref) -> Ref:
    """Sales, buyers, rhythm and price of each product, for `as_of` and earlier cutoffs."""
    return _build(run, lake, "products", _products, BY_PRODUCT)


def build_customer_products(run: Run, lake: Ref) -> Ref:
    """What each customer bought of each product, for `as_of` and earlier cutoffs."""
    return _build(run, lake, "customer_products", _customer_products, BY_CUSTOMER)


def build_demand(run: Run, lake: Ref) -> Ref:
    """Weekly units, price and promotion of each product at each location."""
    return _build(run, lake, "demand", _demand, BY_PRODUCT, promotions=True)


def build_promotion_calendar(run: Run, lake: Ref) -> Ref:
    """Where each product is promoted, week by week, also in weeks announced but not yet begun."""
    return _build(run, lake, "promotion_calendar", _promotion_calendar, BY_PRODUCT, promotions=True)


def build_price_history(run: Run, lake: Ref) -> Ref:
    """Weekly price of each product."""
    return _build(run, lake, "price_history", _price_history, BY_PRODUCT)


def publish_features(run: Run, lake: Ref, *features: Ref) -> Ref:
    """Bind the feature tables and the validated tables they came from under one reference."""
    from ecom_tasks.artefacts import dataset

    tables = [Ref(ref) for ref in dataset.manifest(lake).inputs.values()]

    def build(draft: Draft) -> None:
        made = [dataset.manifest(ref) for ref in features]
        draft.metrics.update({f"rows of {each.name}": each.rows for each in made})

    return dataset.produce(run, "features/all", build, inputs=[*features, *tables])


def flow(step: Step) -> Ref:
    """Validated tables -> feature tables -> one collection."""
    lake = step(pin_lake)
    features = [
        step(build_customers, lake),
        step(build_products, lake),
        step(build_customer_products, lake),
        step(build_demand, lake),
        step(build_promotion_calendar, lake),
        step(build_price_history, lake),
    ]
    return step(publish_features, lake, *features)


def _build(
    run: Run, lake: Ref, name: str, bucket: Bucket, entity: str, *, promotions: bool = False
) -> Ref:
    """Map `bucket` over the buckets of the lake; publish the parts as `features/<name>`."""
    from ecom_tasks import compute
    from ecom_tasks.artefacts import dataset

    config = FeaturesConfig.of(run)
    tables = Tables(
        order_lines=dataset.input_named(lake, "lake/order_lines"),
        products=dataset.input_named(lake, "lake/products"),
        promotions=dataset.input_named(lake, "lake/promotions") if promotions else None,
        as_of=run.as_of,
        config=config,
    )
    inputs = [ref for ref in (tables.order_lines, tables.products, tables.promotions) if ref]

    def build(draft: Draft) -> None:
        paths = dataset.paths(tables.order_lines, f"{entity}/*.parquet")
        work = partial(_build_bucket, bucket, tables, draft.destination)
        for entries in compute.map_buckets(work, paths, f"features/{name}"):
            draft.add(entries)

    return dataset.produce(run, f"features/{name}", build, inputs=inputs, config=config)


def _build_bucket(bucket: Bucket, tables: Tables, destination: str, path: str) -> list[FileEntry]:
    """Build and store the files of one bucket; runs on a Dask worker."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.features import engine

    rows = dataset.rows_of(tables.order_lines, path)
    frames = (
        (file, engine.collect(f"{destination.rsplit('/', 3)[-3]}, {path}", lazy, rows))
        for file, lazy in bucket(tables, path).items()
    )
    # A table that the shop has nothing for is published without files.
    return [dataset.write_part(destination, file, frame) for file, frame in frames if frame.height]


def _scan(ref: Ref, path: str) -> pl.LazyFrame:
    from ecom_tasks.artefacts import dataset

    return dataset.scan(ref, path)


def _scan_promotions(tables: Tables, path: str) -> pl.LazyFrame:
    from ecom_tasks.artefacts import bucketing, dataset
    from ecom_tasks.features.lines import empty
    from ecom_tasks.tables import PROMOTIONS

    found = None
    if tables.promotions:
        buckets = len(dataset.paths(tables.order_lines, f"{BY_PRODUCT}/*.parquet"))
        found = bucketing.scan_bucket(tables.promotions, path, buckets)
    return empty(PROMOTIONS) if found is None else found


def _by_cutoff(
    build: Callable[[date], pl.LazyFrame], tables: Tables, path: str
) -> dict[str, pl.LazyFrame]:
    file = path.rsplit("/", 1)[-1]
    cutoffs = tables.config.cutoffs(tables.as_of)
    return {f"cutoff={cutoff}/{file}": build(cutoff) for cutoff in cutoffs}


def _customers(tables: Tables, path: str) -> dict[str, pl.LazyFrame]:
    from ecom_tasks.features import customers
    from ecom_tasks.features.lines import numbered

    lines = numbered(_scan(tables.order_lines, path), "order_id")
    products = _scan(tables.products, "*.parquet")
    return _by_cutoff(lambda cutoff: customers.build(lines, products, cutoff), tables, path)


def _customer_products(tables: Tables, path: str) -> dict[str, pl.LazyFrame]:
    from ecom_tasks.features import interactions

    lines, products = _scan(tables.order_lines, path), _scan(tables.products, "*.parquet")
    half_life = tables.config.half_life_days
    known = interactions.orders(lines, products, tables.as_of)
    return _by_cutoff(lambda cutoff: interactions.build_at(known, cutoff, half_life), tables, path)


def _products(tables: Tables, path: str) -> dict[str, pl.LazyFrame]:
    from ecom_tasks.features import products as table
    from ecom_tasks.features.lines import numbered

    lines = numbered(_scan(tables.order_lines, path), "order_id", "customer_id")
    products = _scan(tables.products, "*.parquet")
    return _by_cutoff(lambda cutoff: table.build(lines, products, cutoff), tables, path)


def _demand(tables: Tables, path: str) -> dict[str, pl.LazyFrame]:
    from ecom_tasks.features import demand

    lines, products = _scan(tables.order_lines, path), _scan(tables.products, "*.parquet")
    promotions = _scan_promotions(tables, path)
    return {path: demand.build(lines, promotions, products, tables.as_of)}


def _promotion_calendar(tables: Tables, path: str) -> dict[str, pl.LazyFrame]:
    from ecom_tasks.features import demand

    return {
        path: demand.promotion_calendar(
            _scan_promotions(tables, path),
            _scan(tables.products, "*.parquet"),
            tables.as_of,
            tables.config.promotion_horizon_weeks,
        )
    }


def _price_history(tables: Tables, path: str) -> dict[str, pl.LazyFrame]:
    from ecom_tasks.features import prices

    lines, products = _scan(tables.order_lines, path), _scan(tables.products, "*.parquet")
    return {path: prices.build(lines, products, tables.as_of)}
