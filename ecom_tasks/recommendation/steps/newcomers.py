"""Products with little history: two towers over content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.steps import reading
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft
    from ecom_tasks.recommendation.snapshots import Snapshot
    from ecom_tasks.training.two_tower import Catalogue, TwoTower


def train_two_tower(run: Run, features: Ref) -> Ref:
    """Learn products and customers as vectors from content, for products with little history.

    Whether they or a plain list of fresh products are offered is decided on one held-out window
    and judged on the next.
    """
    from ecom_tasks.artefacts import dataset

    run = reading.on_the_day_of(run, features)
    config = RecommendationConfig.of(run)
    plan = reading.plan(features, config)

    def build(draft: Draft) -> None:
        # Ten seconds of import, which a run that finds its work done does not need.
        from ecom_tasks.recommendation import cold, evaluate, snapshots
        from ecom_tasks.training import two_tower

        judged = {}
        for window in snapshots.apart(plan.windows)[-2:]:
            before = reading.narrow_snapshot(features, window.cutoff)
            _, _, offers = _fit_towers(features, before, config)
            fresh = cold.cold_products(before, reading.catalogue(features), config)
            judged[str(window)] = evaluate.judge_cold(
                offers, fresh, reading.bought(features, window), config.cold_k
            )
        chosen = evaluate.best_cold(next(iter(judged.values())))
        draft.metrics.update({"windows": judged, "chosen": chosen})
        today = reading.narrow_snapshot(features, plan.serve)
        towers, known, offers = _fit_towers(features, today, config)
        draft.write_frame("cold.parquet", offers[chosen])
        two_tower.save(towers.customer, draft.folder / "models/customer_tower.keras")
        two_tower.save(towers.product, draft.folder / "models/product_tower.keras")
        draft.write_frame("product_embeddings.parquet", _embeddings(towers, known))
        draft.write_frame(
            "customer_embeddings.parquet", cold.customer_embeddings(towers, known, today)
        )

    return dataset.produce(
        run,
        "work/recommendation/two_tower",
        build,
        inputs=reading.learnt_from(features),
        config=config,
    )


def _fit_towers(
    features: Ref, snapshot: Snapshot, config: RecommendationConfig
) -> tuple[TwoTower, Catalogue, dict[str, pl.DataFrame]]:
    """Train on what was known at the snapshot's cutoff; offer its cold products in each way."""
    from ecom_tasks.recommendation import candidates, cold
    from ecom_tasks.training import two_tower

    products = reading.catalogue(features)
    content = cold.content(snapshot, products)
    known = two_tower.catalogue(content, config.vocabulary)
    towers = two_tower.train(snapshot.pairs, known, cold.dials(config))
    fresh = cold.cold_products(snapshot, products, config)
    offers = cold.plainly(snapshot, content, fresh, config.cold_k)
    offers[candidates.COLD] = cold.propose(towers, known, snapshot, fresh, config.cold_k)
    return towers, known, offers


def _embeddings(towers: TwoTower, known: Catalogue) -> pl.DataFrame:
    import polars as pl

    from ecom_tasks.training import two_tower

    vectors = two_tower.embed(towers.product, known.words).round(6)
    size = vectors.shape[1]
    return pl.DataFrame({
        "product_id": known.product_ids,
        "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, size)),
    })
