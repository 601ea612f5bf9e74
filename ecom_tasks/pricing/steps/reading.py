"""What earlier tasks stored, as later ones read it."""

from __future__ import annotations

import hashlib
from datetime import date
from typing import TYPE_CHECKING

from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.steps.weekly import CATALOGUE, PANEL, SIZES, TOTALS
from ecom_tasks.run import Ref

if TYPE_CHECKING:
    import polars as pl


def dealt(ref: Ref, config: PricingConfig) -> tuple[list[list[str]], date, date]:
    """Return the products of each part of the panel, and its first and last whole week."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import panel, parts

    totals, sizes, catalogue = (
        dataset.scan(ref, name).collect() for name in (TOTALS, SIZES, CATALOGUE)
    )
    sizes = panel.with_catalogue(sizes, catalogue)
    return (
        parts.split(sizes, config.part_rows),
        panel.first_whole_week(totals),
        totals[panel.WEEK][-1],
    )


def weeks(ref: Ref, first: date, products: list[str]) -> pl.DataFrame:
    """Return the weeks of these products from the first whole one, with category and department."""
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import panel

    kept = dataset.scan(ref, f"{PANEL}/*.parquet").filter(
        (pl.col(panel.WEEK) >= first) & pl.col("product_id").is_in(products)
    )
    catalogue = dataset.scan(ref, CATALOGUE).collect()
    return panel.with_catalogue(kept.collect().sort(*panel.SERIES, panel.WEEK), catalogue)


def name_of(products: list[str]) -> str:
    """Name a part after its products."""
    return hashlib.sha256("\n".join(products).encode()).hexdigest()[:12]


def rounded(frame: pl.DataFrame) -> pl.DataFrame:
    """Drop the last bits, which differ with the order of addition: same input, same bytes."""
    import polars as pl

    return frame.with_columns(pl.col(pl.Float64).round(6))
