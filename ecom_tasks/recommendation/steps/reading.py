"""What earlier tasks stored, as frames: feature tables by cutoff, candidates, scores.

What is wide, candidates with all that the ranker knows of them, is made and read by blocks of
customers, so that memory does not grow with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from ecom_tasks.errors import DataContractError
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.recommendation.candidates import propagation
    from ecom_tasks.recommendation.ranker import Examples
    from ecom_tasks.recommendation.snapshots import Overview, Parts, Plan, Snapshot, Window


LEARNT = (
    "customer_id", "product_id", "orders", "recency_weighted_orders", "days_since_last_order",
    "mean_days_between_orders", "orders_28d",
)  # fmt: skip
"""What generators read of the table customer_products."""
SCORED = "scored"


def features_of(run: Run, day: date) -> Ref | None:
    """Return the features of a day, None where there are none."""
    from ecom_tasks.artefacts import dataset

    try:
        return dataset.find(replace(run, as_of=day), "features/all")
    except DataContractError:
        return None


def on_the_day_of(run: Run, features: Ref) -> Run:
    """Return the run of the features' day: what follows from them alone is made only once."""
    from ecom_tasks.artefacts import dataset

    return replace(run, as_of=dataset.manifest(features).as_of)


def learnt_from(features: Ref) -> list[Ref]:
    """Return the tables that models learn from: what else changes leaves them as they are."""
    from ecom_tasks.artefacts import dataset

    names = ("customers", "products", "customer_products", "promotion_calendar")
    tables = [dataset.input_named(features, f"features/{name}") for name in names]
    return [*tables, dataset.input_named(features, "lake/products")]


def said(features: Ref) -> list[Ref]:
    """Return the tables that only the making of lists reads."""
    from ecom_tasks.artefacts import dataset

    return [dataset.input_named(features, f"lake/{name}")
            for name in ("stock", "customers", "exclusions")]  # fmt: skip


def plan(features: Ref, config: RecommendationConfig) -> Plan:
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.recommendation import snapshots

    customers = dataset.input_named(features, "features/customers")
    folders = {Path(path).parts[0] for path in dataset.paths(customers)}
    cutoffs = [date.fromisoformat(folder.removeprefix("cutoff=")) for folder in folders]
    return snapshots.plan(cutoffs, config)


def needed(plan: Plan, config: RecommendationConfig) -> list[date]:
    """Cutoffs whose candidates some ranker learns from or is judged on, oldest first."""
    wanted = {window.cutoff for window in plan.test}
    most = max(config.train_windows, config.network_windows if config.network_passes else 0)
    for cutoff in [*(window.cutoff for window in plan.test), plan.serve]:
        wanted |= {window.cutoff for window in plan.train_before(cutoff, most)}
    return sorted(wanted - {plan.serve})


def table(
    features: Ref, name: str, cutoff: date, buckets: Sequence[str] = ("*.parquet",)
) -> pl.DataFrame:
    import polars as pl

    from ecom_tasks.artefacts import dataset

    ref = dataset.input_named(features, f"features/{name}")
    parts = [dataset.scan(ref, f"cutoff={cutoff}/{bucket}") for bucket in buckets]
    return pl.concat(parts).collect()


def blocks(features: Ref, cutoff: date, config: RecommendationConfig) -> Iterator[list[str]]:
    """Yield the buckets of customers in groups that have `block_customers` or little more."""
    block, held = list[str](), 0
    for bucket, customers in _buckets(features, cutoff).items():
        block.append(bucket)
        held += customers
        if held >= config.block_customers:
            yield block
            block, held = [], 0
    if block:
        yield block


def _buckets(features: Ref, cutoff: date) -> dict[str, int]:
    """Return the customers of each bucket that has any."""
    from ecom_tasks.artefacts import dataset

    customers = dataset.input_named(features, "features/customers")
    paths = sorted(dataset.paths(customers, f"cutoff={cutoff}/*.parquet"))
    return {Path(path).name: dataset.rows_of(customers, path) for path in paths}


def interactions(features: Ref, cutoff: date, config: RecommendationConfig) -> Parts:
    """Pairs of customers and products with enough customers, as generators learn from them.

    A part has the customers of a block of `blocks`, in the same order; it may be empty.

    Raises
    ------
    DataContractError
        No product has enough customers.
    """
    from ecom_tasks.recommendation import snapshots

    products = table(features, "products", cutoff)
    warm = snapshots.some_warm(products, cutoff, config.min_customers)

    def read(block: Sequence[str]) -> pl.DataFrame:
        return _pairs(features, cutoff, LEARNT, block).join(warm, on="product_id", how="semi")

    return _parts(list(blocks(features, cutoff, config)), read)


def pairs(features: Ref, cutoff: date, config: RecommendationConfig) -> Parts:
    """The same of all products."""

    def read(block: Sequence[str]) -> pl.DataFrame:
        return _pairs(features, cutoff, LEARNT, block)

    return _parts(list(blocks(features, cutoff, config)), read)


def _parts(groups: Sequence[list[str]], read: Callable[[list[str]], pl.DataFrame]) -> Parts:
    from ecom_tasks.recommendation.snapshots import Parts

    if len(groups) > 1:
        return Parts(lambda: map(read, groups))
    # A shop of one block is read once.
    whole = [read(group) for group in groups]
    return Parts(lambda: iter(whole))


def overview(features: Ref, cutoff: date, config: RecommendationConfig) -> Overview:
    """What is known of all customers at a cutoff."""
    from ecom_tasks.recommendation.snapshots import Overview

    return Overview(
        cutoff,
        table(features, "customers", cutoff),
        table(features, "products", cutoff),
        pairs(features, cutoff, config),
    )


def _pairs(
    features: Ref, cutoff: date, columns: Sequence[str], buckets: Sequence[str] = ("*.parquet",)
) -> pl.DataFrame:
    """Read these columns of pairs: the table has some twenty."""
    import polars as pl

    from ecom_tasks.artefacts import dataset

    ref = dataset.input_named(features, "features/customer_products")
    parts = [dataset.scan(ref, f"cutoff={cutoff}/{bucket}").select(columns) for bucket in buckets]
    return pl.concat(parts).collect()


def both_days(
    before: Ref, now: Ref, config: RecommendationConfig
) -> Iterator[tuple[Snapshot, Snapshot]]:
    """Yield what was known of the same customers on two days, a block of them at a time.

    All at once where the tables of one day have another number of buckets than those of the other.
    """
    days = [(each, plan(each, config).serve) for each in (before, now)]
    then_held, now_held = (_buckets(each, day).keys() for each, day in days)
    groups: Iterable[Sequence[str]] = [["*.parquet"]]
    if then_held == now_held:
        groups = blocks(now, days[1][1], config)
    for group in groups:
        then, today = (snapshot(each, day, group) for each, day in days)
        yield then, today


def snapshot(features: Ref, cutoff: date, buckets: Sequence[str] = ("*.parquet",)) -> Snapshot:
    """Everything known at a cutoff; with `buckets` only of the customers in these."""
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.features import tables
    from ecom_tasks.recommendation.snapshots import Snapshot

    calendar = dataset.input_named(features, "features/promotion_calendar")
    if dataset.has_rows(calendar):
        # Four weeks around the cutoff are all that is asked for.
        near = pl.col("week_starts_on").is_between(
            pl.lit(cutoff) - pl.duration(days=35), pl.lit(cutoff) + pl.duration(days=35)
        )
        promotions = dataset.scan(calendar).filter(near).collect()
    else:
        types = {"string": pl.String, "date": pl.Date, "float": pl.Float64}
        columns = tables.PROMOTION_CALENDAR.columns
        promotions = pl.DataFrame(schema={each.name: types[each.type] for each in columns})
    return Snapshot(
        cutoff=cutoff,
        customers=table(features, "customers", cutoff, buckets),
        products=table(features, "products", cutoff),
        pairs=table(features, "customer_products", cutoff, buckets),
        calendar=promotions,
    )


def bought(
    features: Ref, window: Window, config: RecommendationConfig | None = None
) -> pl.DataFrame:
    """What was bought in a window; with `config` only products with enough customers before it."""
    import polars as pl

    from ecom_tasks import texts
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.recommendation import snapshots

    columns = (*snapshots.PAIR, "orders")
    stored = dataset.input_named(features, "features/customer_products")
    parts = []
    # A customer is in the same bucket at each cutoff.
    for path in dataset.paths(stored, f"cutoff={window.until}/*.parquet"):
        bucket = Path(path).name
        after = _pairs(features, window.until, columns, [bucket])
        known = dataset.paths(stored, f"cutoff={window.cutoff}/{bucket}")
        before = _pairs(features, window.cutoff, columns, [bucket]) if known else after.clear()
        parts.append(texts.own(snapshots.bought(before, after)))
    found = pl.concat(parts).sort(snapshots.PAIR)
    if config is None:
        return found
    products = table(features, "products", window.cutoff)
    warm = snapshots.warm(products, config.min_customers)
    return found.join(warm, on="product_id", how="semi")


def candidates(proposed: Ref, cutoff: date) -> Iterator[pl.DataFrame]:
    """Yield the candidates of a cutoff, a block of customers at a time."""
    return _blocks_of(proposed, f"cutoff={cutoff}")


def examples(
    features: Ref, proposed: Ref, window: Window, config: RecommendationConfig, most: int
) -> Iterator[Examples]:
    """Yield candidates of a window, with what was ordered of them, block by block.

    Of more than `most` customers who bought in the window so many are drawn.
    """
    from ecom_tasks.recommendation import ranker

    labels = _labels(features, window, config, most)
    for block in candidates(proposed, window.cutoff):
        yield ranker.examples(block, labels)


def thinned(
    features: Ref, proposed: Ref, window: Window, config: RecommendationConfig
) -> Iterator[Examples]:
    """Yield the same of `ranker_customers`, and of what was not ordered no more than is needed."""
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.recommendation import ranker

    labels = _labels(features, window, config, config.ranker_customers)
    asked = labels.lazy().select("customer_id").unique()
    known = dataset.scan(proposed, f"cutoff={window.cutoff}/*.parquet").select("customer_id")
    rows = known.join(asked, on="customer_id", how="semi").select(pl.len()).collect().item()
    share = ranker.share_of(rows, config)
    for block in candidates(proposed, window.cutoff):
        yield ranker.thin(ranker.examples(block, labels), share, config.seed)


def _labels(features: Ref, window: Window, config: RecommendationConfig, most: int) -> pl.DataFrame:
    labels = bought(features, window, config)
    customers = labels["customer_id"].unique().sort()
    if len(customers) > most:
        drawn = customers.sample(most, seed=config.seed)
        labels = labels.filter(labels["customer_id"].is_in(drawn.implode()))
    return labels


def graph(
    features: Ref, events: Ref, cutoff: date, config: RecommendationConfig
) -> propagation.Graph | None:
    """All purchases and views known at a cutoff; None where the shop knows no views."""
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.recommendation.candidates import propagation
    from ecom_tasks.recommendation.candidates.matrix import encode

    if not dataset.has_rows(events):
        return None
    known = pl.col("occurred_at").dt.date() <= cutoff
    seen = dataset.scan(events, "by_product/*.parquet").filter(known)
    views = seen.select("session_id", "product_id").collect()
    bought = encode(interactions(features, cutoff, config), config.matrix_products)
    return propagation.fit(bought, views, config)


def scored(ranker: Ref, cutoff: date) -> Iterator[pl.DataFrame]:
    """Yield the scores of the candidates of a cutoff, in the same blocks."""
    return _blocks_of(ranker, f"scored/cutoff={cutoff}")


def scored_today(scores: Ref) -> Iterator[pl.DataFrame]:
    """Yield the scores that lists are made from; a customer is in one block."""
    return _blocks_of(scores, SCORED)


def _blocks_of(ref: Ref, folder: str) -> Iterator[pl.DataFrame]:
    from ecom_tasks.artefacts import dataset

    for block in dataset.scan_each(ref, f"{folder}/*.parquet"):
        yield block.collect()


def catalogue(features: Ref) -> pl.DataFrame:
    from ecom_tasks.artefacts import dataset

    return dataset.scan(dataset.input_named(features, "lake/products")).collect()


def rows(ref: Ref, name: str) -> pl.DataFrame:
    from ecom_tasks.artefacts import dataset

    return dataset.scan(ref, f"{name}.parquet").collect()
