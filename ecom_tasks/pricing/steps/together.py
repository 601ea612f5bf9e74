"""What is bought together: whose price may be felt."""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    from ecom_tasks.artefacts.dataset import Draft

TOGETHER = "bought_together.parquet"


def find_bought_together(run: Run, features: Ref) -> Ref:
    """Pairs of a category that share more orders than chance gives: whose price may be felt."""
    from ecom_tasks import compute
    from ecom_tasks.artefacts import dataset

    lines, products = (
        dataset.input_named(features, f"lake/{name}") for name in ("order_lines", "products")
    )

    def build(draft: Draft) -> None:
        from ecom_tasks.pricing import bought_together

        work = partial(_count_orders, lines, products, run.as_of)
        buckets = dataset.paths(lines, "by_customer/*.parquet")
        counts = compute.map_buckets(work, buckets, "what is bought together")
        catalogue = dataset.scan(products).select("product_id", "category").collect()
        draft.write_frame(TOGETHER, bought_together.pairs(counts, catalogue))

    return dataset.produce(run, "work/pricing/together", build, inputs=[lines, products])


def _count_orders(lines: Ref, products: Ref, as_of: date, path: str) -> Any:
    """Count what the customers of one bucket bought together; runs on a Dask worker."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import bought_together

    catalogue = dataset.scan(products).select("product_id", "category").collect()
    return bought_together.count(dataset.scan(lines, path), catalogue, as_of)
