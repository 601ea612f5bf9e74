"""Products with little history: two towers over content."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING

from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.steps import reading
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft
    from ecom_tasks.recommendation.cold import Fitted


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

        def fitted(cutoff: date) -> tuple[cold.Fitted, Iterable[pl.DataFrame]]:
            known = reading.overview(features, cutoff, config)
            return cold.fit(known, reading.catalogue(features), config), known.pairs

        judged = {}
        for window in snapshots.apart(plan.windows)[-2:]:
            learnt, pairs = fitted(window.cutoff)
            bought = evaluate.new_cold(reading.bought(features, window), learnt.fresh)
            asked = (part.join(bought, on="customer_id", how="semi") for part in pairs)
            offers = cold.offers(learnt, asked, config.cold_k)
            judged[str(window)] = evaluate.judge_cold(offers, bought, config.cold_k)
        chosen = evaluate.best_cold(next(iter(judged.values())))
        draft.metrics.update({"windows": judged, "chosen": chosen})
        learnt, pairs = fitted(plan.serve)
        offers = cold.offers(learnt, pairs, config.cold_k, [chosen])
        draft.write_frame("cold.parquet", offers[chosen])
        two_tower.save(learnt.towers.customer, draft.folder / "models/customer_tower.keras")
        two_tower.save(learnt.towers.product, draft.folder / "models/product_tower.keras")
        draft.write_frame("product_embeddings.parquet", _embeddings(learnt))
        draft.write_frame("customer_embeddings.parquet", cold.customer_embeddings(learnt, pairs))

    return dataset.produce(
        run,
        "work/recommendation/two_tower",
        build,
        inputs=reading.learnt_from(features),
        config=config,
    )


def _embeddings(learnt: Fitted) -> pl.DataFrame:
    import polars as pl

    from ecom_tasks.training import two_tower

    vectors = two_tower.embed(learnt.towers.product, learnt.known.words).round(6)
    size = vectors.shape[1]
    return pl.DataFrame({
        "product_id": learnt.known.product_ids,
        "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, size)),
    })
