"""Lists of today under the shop's rules, and the tables beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecom_tasks.errors import DataContractError
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.steps import reading
from ecom_tasks.recommendation.steps.inputs import RULES
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft
    from ecom_tasks.recommendation.reasons import Similar

LISTS = "recommendations"
FINGERPRINTS = "scoring/fingerprints"


def lists(
    config: RecommendationConfig,
    similar: Similar,
    features: Ref,
    rules: Ref,
    learnt: tuple[Ref, ...],
    before: tuple[pl.DataFrame, pl.DataFrame] | None,
) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Return the lists, with titles, and the other tables that show products of the shelf.

    Parameters
    ----------
    similar : of the day's `reading.overview`
    before : lists and fingerprints that were made for this day, of `former`; the lists of customers
        whose inputs are the same are taken over
    """
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.recommendation import (
        eligibility,
        later,
        popular_in,
        reasons,
        rescore,
        segments,
        selection,
        snapshots,
    )
    from ecom_tasks.recommendation.rules import Rules

    _, ranker, towers, together, _, scores = learnt
    overview = similar.overview
    ruled = Rules.model_validate(dataset.read_json(rules, RULES))
    stock, customers, exclusions = (
        dataset.scan(ref).collect() if dataset.has_rows(ref) else None
        for ref in reading.said(features)
    )
    shop = eligibility.Shop(reading.catalogue(features), stock, customers, exclusions)
    shelf = eligibility.shelf(overview, shop, ruled)
    if shelf.is_empty():
        raise DataContractError(
            "There is nothing to recommend: all is ruled out, out of stock or long unsold",
            "Look at the rules' eligibility and at the table stock. The lists in service stay",
        )
    named = segments.segments(overview.customers, customers)
    people = eligibility.audience(overview, shop, named)
    limits = eligibility.limits(shelf, people, ruled, overview.cutoff)
    # A list for a group of customers holds nothing that some of them may not see.
    free = shelf.filter(pl.Series(~limits.goods.any(axis=1)))
    liked = popular_in.popular(
        snapshots.among(overview.pairs, free), overview.products, named,
        config.popular_k, half_life_days=config.popular_half_life_days,
        min_customers=config.min_customers,
    )  # fmt: skip
    cold = reading.rows(towers, "cold")
    barred = eligibility.barred(overview, shop, ruled)
    offer = selection.Offer(
        people=people,
        shelf=shelf,
        limits=limits,
        barred=barred,
        ranked=pl.DataFrame(schema=later.SCORED),
        popular=popular_in.filling(liked),
        fresh=cold,
    )
    how = (ruled, config.top_k, str(overview.cutoff))
    # The code that makes lists is part of what they follow from.
    code = dataset.manifest(ranker).code
    marks, best = [], []
    for part in selection.parts(offer, reading.scored_today(scores)):
        marks.append(rescore.fingerprints(part, *how[:2], f"{how[2]} {code}"))
        best.append(rescore.top_k(part, how, marks[-1], before))
    titles = reading.catalogue(features).select("product_id", "title")
    listed = (
        pl
        .concat(best)
        .sort("customer_id", "rank")
        .with_columns(pl.col("score").round(6))
        .join(titles, on="product_id", how="left", maintain_order="left")
    )
    return listed, {
        FINGERPRINTS: pl.concat(marks).sort("customer_id"),
        "similar_products": reasons.similar_products(similar, free, config),
        "popular": liked,
        "segments": named,
        "bought_together": selection.among_shown(
            reading.rows(together, "bought_together"), free, "product_id", "with_product_id"
        ),
        "new_products": selection.among_shown(
            cold.join(barred, on=["customer_id", "product_id"], how="anti"),
            free,
            "customer_id",
            "product_id",
        ),
    }


def former(run: Run) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """Return the lists and fingerprints that were last made for this day, if any were.

    Another day knows other orders, so that no fingerprint would be the same.
    """
    from ecom_tasks.artefacts import dataset

    try:
        last = dataset.find(run, "artefacts/recommendation")
    except DataContractError:
        return None
    if not dataset.paths(last, f"{FINGERPRINTS}.parquet"):
        return None
    return dataset.scan(last, f"{LISTS}/*.parquet").collect(), reading.rows(last, FINGERPRINTS)


def write(draft: Draft, listed: pl.DataFrame, buckets: int) -> None:
    """Write the lists spread over files by customer, so that one of them finds all of one."""
    from ecom_tasks.artefacts.bucketing import partition

    for bucket, rows in partition(listed, "customer_id", buckets).items():
        draft.write_frame(f"{LISTS}/bucket={bucket:03}.parquet", rows)
