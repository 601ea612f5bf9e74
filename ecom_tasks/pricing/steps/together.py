"""What is bought together: whose price may be felt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    from ecom_tasks.artefacts.dataset import Draft

TOGETHER = "bought_together.parquet"


def find_bought_together(run: Run, features: Ref) -> Ref:
    """Pairs of a category that share more orders than chance gives: whose price may be felt."""
    from ecom_tasks.artefacts import dataset

    lines, products = (
        dataset.input_named(features, f"lake/{name}") for name in ("order_lines", "products")
    )

    def build(draft: Draft) -> None:
        from ecom_tasks.pricing import bought_together

        catalogue = dataset.scan(products).select("product_id", "category").collect()
        # An order is of one customer, and so in one bucket.
        counts = (
            bought_together.count(part, catalogue, run.as_of)
            for part in dataset.scan_each(lines, "by_customer/*.parquet")
        )
        draft.write_frame(TOGETHER, bought_together.pairs(counts, catalogue))

    return dataset.produce(run, "work/pricing/together", build, inputs=[lines, products])
