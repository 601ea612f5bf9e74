"""What is bought together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    from ecom_tasks.artefacts.dataset import Draft


def find_bought_together(run: Run, features: Ref) -> Ref:
    """Find the pairs of products that share more orders than chance would give."""
    from ecom_tasks.artefacts import dataset

    config = RecommendationConfig.of(run)
    lines = dataset.input_named(features, "lake/order_lines")
    products = dataset.input_named(features, "lake/products")

    def build(draft: Draft) -> None:
        import polars as pl

        from ecom_tasks.features.lines import goods
        from ecom_tasks.recommendation.together import together

        # An order is of one customer, and so in one bucket.
        parts = (
            goods(part, dataset.scan(products), run.as_of).filter(pl.col("bought"))
            for part in dataset.scan_each(lines, "by_customer/*.parquet")
        )
        draft.write_frame("bought_together.parquet", together(
            parts, config.together_k, min_orders=config.together_min_orders,
            min_together=config.together_min_shared, largest_order=config.together_largest_order,
        ))  # fmt: skip

    return dataset.produce(
        run, "work/recommendation/together", build, inputs=[lines, products], config=config
    )
