"""Monitoring, top to bottom: releases of some weeks ago and today's rows -> measures -> findings.

What is judged is the newest release that was in service and is old enough for its promises to have
been kept or broken. Tables are read bucket by bucket, and what is taken of a bucket adds up. Light
to import, since the scheduler reads this file: heavy libraries load inside the tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ecom_tasks.errors import DataContractError
from ecom_tasks.monitoring.config import MonitoringConfig
from ecom_tasks.run import Ref, Run, Step

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft

log = logging.getLogger(__name__)

WATCHED = {
    "recommendation": ("customers", "products", "customer_products"),
    "pricing": ("demand",),
    "inventory": ("demand",),
}
"""Domain -> the feature tables that its models learn from."""
PREDICTED = {
    "recommendation": ("recommendations/*.parquet", "score"),
    "pricing": ("prices.parquet", "change"),
    "inventory": ("forecasts.parquet", "mean"),
}
"""Domain -> files of its release and the column in them that a model foretold."""
WEEKLY, WEEK = frozenset({"demand"}), "week_starts_on"
TABLES = ("findings", "drift", "realised_forecasts", "realised_recommendations", "realised_prices")
FACTS = "facts.json"


class Scope(BaseModel):
    """What a measurement is of, beside its inputs: its settings, and versions by domain."""

    settings: MonitoringConfig
    judged: dict[str, str]
    predictions: dict[str, list[str]]


@dataclass(frozen=True)
class Rows:
    """Rows of a version that are compared with those of another; read on a Dask worker.

    Attributes
    ----------
    paths : one a bucket.
    column : the only one that counts; empty: all.
    weeks : first day, exclusive, and last day, inclusive, of whole weeks; None: all rows.
    """

    ref: Ref
    paths: tuple[str, ...]
    column: str = ""
    weeks: tuple[date, date] | None = None

    def read(self, path: str) -> pl.LazyFrame:
        import polars as pl

        from ecom_tasks.artefacts import dataset

        rows = dataset.scan(self.ref, path)
        if self.weeks:
            since, last = self.weeks
            monday = pl.col(WEEK)
            rows = rows.filter(monday > since, monday + timedelta(days=6) <= last)
        return rows.select(self.column) if self.column else rows


def measure(run: Run) -> Ref:
    """Measure what came true of the releases in service some weeks ago, and what has drifted."""
    from ecom_tasks.artefacts import dataset, release

    config = MonitoringConfig.of(run).for_measuring()
    features = dataset.find(run, "features/all")
    served = {
        domain: release.served_by_day(run.root, f"artefacts/{domain}", run.as_of)
        for domain in WATCHED
    }
    ripe = run.as_of - timedelta(days=config.judged_after_days)
    judged = {
        domain: old[0]
        for domain, refs in served.items()
        if (old := [ref for ref in refs if _day(ref) <= ripe])
    }
    # Releases of today are being made meanwhile, so that only those before count.
    latest = {domain: refs[:2] for domain, refs in served.items() if len(refs) > 1}
    scope = Scope(
        settings=config,
        judged={domain: _version(ref) for domain, ref in judged.items()},
        predictions={domain: [_version(ref) for ref in refs] for domain, refs in latest.items()},
    )
    tables = {name for names in WATCHED.values() for name in names}
    today = {name: dataset.input_named(features, f"features/{name}") for name in sorted(tables)}
    lines, products = (
        dataset.input_named(features, f"lake/{name}") for name in ("order_lines", "products")
    )

    def build(draft: Draft) -> None:
        made_from = {ref: _made_from(ref) for ref in judged.values()}
        pairs = {
            (domain, table): pair
            for domain, names in WATCHED.items()
            for table in names
            if (before := _before(table, today[table], judged.get(domain), made_from, run, config))
            and (pair := _both(before, _rows(table, today[table], run.as_of, config)))
        }
        pairs |= {
            (domain, ""): pair
            for domain, refs in latest.items()
            if (pair := _predictions(domain, *refs))
        }
        jobs: list[tuple[Any, Callable[[], Any]]] = [
            (("sample", key), job) for key, pair in pairs.items()
            for job in _samples(pair[0], config)
        ]  # fmt: skip
        if "recommendation" in judged:
            jobs += _list_jobs(judged["recommendation"], made_from[judged["recommendation"]], lines)
        if "inventory" in judged:
            jobs += _forecast_jobs(judged["inventory"], today["demand"], lines, run)
        if "pricing" in judged:
            jobs += _price_jobs(judged["pricing"], today["demand"], run)
        first = _at_once(jobs, "what came true")
        drifted = _drift(pairs, first, judged, config)
        draft.write_frame("drift.parquet", drifted)
        known = dataset.scan(products).select("product_id", "category").collect()
        facts = _realised(draft, judged, first, known, run, config)
        draft.write_json(FACTS, {
            "judged": scope.judged, "predictions": scope.predictions, "realised": facts,
        })  # fmt: skip
        draft.metrics.update(judged=scope.judged, columns=drifted.height)
        log.info("judged %s; %s columns compared", scope.judged or "nothing yet", drifted.height)

    return dataset.produce(
        run,
        "work/monitoring/measured",
        build,
        inputs=[*today.values(), lines, products, *judged.values()],
        config=scope,
    )


def publish_findings(run: Run, measured: Ref) -> Ref:
    """Hold what was measured against its limits; publish findings, tables and the page."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.monitoring import findings, report

    config = MonitoringConfig.of(run)

    def build(draft: Draft) -> None:
        facts = dataset.read_json(measured, FACTS)
        tables = {name: dataset.scan(measured, f"{name}.parquet").collect() for name in TABLES[1:]}
        found = findings.judge(facts, tables["drift"], config)
        for name, table in {"findings": found, **tables}.items():
            draft.write_frame(f"{name}.parquet", table)
        draft.write_text("report.html", report.render(run.as_of, found, tables, facts, config))
        alerts = findings.alerts(found)
        for each in alerts:
            log.warning("%s", findings.in_words(each))
        draft.metrics.update(
            judged=facts["judged"],
            realised=facts["realised"],
            verdicts=dict(found["verdict"].value_counts().sort("verdict").iter_rows()),
            alerts=[each | {"text": findings.in_words(each)} for each in alerts],
        )
        draft.write_json("metrics.json", draft.metrics)

    return dataset.produce(run, "monitoring/all", build, inputs=[measured], config=config)


def flow(step: Step) -> Ref:
    """Releases of some weeks ago and today's features -> measures -> findings."""
    return step(publish_findings, step(measure))


def _day(ref: Ref) -> date:
    return date.fromisoformat(_version(ref)[:10])


def _version(ref: Ref) -> str:
    return ref.rsplit("/", 2)[-2]


def _made_from(ref: Ref) -> dict[str, Ref]:
    """Return the feature tables that a release was made from, the newest of each."""
    from ecom_tasks.artefacts.lineage import lineage

    try:
        nodes = [each for each in lineage(ref) if each.manifest.name.startswith("features/")]
    except DataContractError as error:
        log.warning("What %s was made from is gone, so its drift is not told: %s", ref, error)
        return {}
    nodes.sort(key=lambda each: each.manifest.as_of)
    return {each.manifest.name.removeprefix("features/"): each.ref for each in nodes}


def _before(
    table: str, now: Ref, judged: Ref | None, made_from: dict[Ref, dict[str, Ref]], run: Run,
    config: MonitoringConfig,
) -> Rows | None:  # fmt: skip
    """Return the rows that today's are held against; None where nothing says which."""
    if config.reference_days:
        return _rows(table, now, run.as_of - timedelta(days=config.reference_days), config)
    if judged is None or table not in made_from[judged]:
        return None
    return _rows(table, made_from[judged][table], _day(judged), config)


def _both(before: Rows, now: Rows) -> tuple[Rows, Rows] | None:
    return (before, now) if before.paths and now.paths else None


def _rows(table: str, ref: Ref, day: date, config: MonitoringConfig) -> Rows:
    from ecom_tasks.artefacts import dataset

    if table in WEEKLY:
        weeks = day - timedelta(weeks=config.drift_weeks, days=6), day
        return Rows(ref, tuple(dataset.paths(ref)), weeks=weeks)
    return Rows(ref, tuple(dataset.paths(ref, f"cutoff={day}/*")))


def _predictions(domain: str, newest: Ref, before: Ref) -> tuple[Rows, Rows] | None:
    from ecom_tasks.artefacts import dataset

    pattern, column = PREDICTED[domain]
    older, newer = (
        Rows(ref, tuple(dataset.paths(ref, pattern)), column) for ref in (before, newest)
    )
    return _both(older, newer)


def _samples(rows: Rows, config: MonitoringConfig) -> Iterator[Callable[[], Any]]:
    from ecom_tasks.artefacts import dataset

    entries = dataset.manifest(rows.ref).files
    there = sum(entry.rows or 0 for entry in entries if entry.path in rows.paths)
    every = max(there // config.sampled_rows, 1)
    return (partial(_sample, rows, path, every) for path in rows.paths)


def _sample(rows: Rows, path: str, every: int) -> pl.DataFrame:
    from ecom_tasks.monitoring import drift

    return drift.sample(rows.read(path), every)


def _count(rows: Rows, path: str, edges: Any) -> Any:
    from ecom_tasks.monitoring import drift

    return drift.count(rows.read(path), edges)


def _list_jobs(
    ref: Ref, made_from: dict[str, Ref], lines: Ref
) -> list[tuple[Any, Callable[[], Any]]]:
    from ecom_tasks.artefacts import dataset

    if "products" not in made_from:
        return []
    until = _day(ref) + timedelta(days=_window_days(ref))
    least = int(dataset.manifest(ref).config["min_customers"])
    paths = dataset.paths(lines, "by_customer/*.parquet")
    return [
        ("lists", partial(_lists, lines, path, ref, made_from["products"], least, until))
        for path in paths
    ]


def _lists(lines: Ref, path: str, ref: Ref, products: Ref, least: int, until: date) -> Any:
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.monitoring import realised

    since = _day(ref)
    known = dataset.scan(products, f"cutoff={since}/*").filter(pl.col("customers") >= least)
    lists = dataset.scan(ref, "recommendations/*.parquet")
    return realised.lists_of_bucket(
        dataset.scan(lines, path), lists, known.select("product_id"), since, until
    )


def _window_days(ref: Ref) -> int:
    """Days of the windows that a release of lists was evaluated on."""
    from ecom_tasks.artefacts import dataset

    windows = dataset.manifest(ref).metrics["windows"]
    spans = [[date.fromisoformat(day) for day in window.split(" to ")] for window in windows]
    return min((until - since).days for since, until in spans)


def _forecast_jobs(
    ref: Ref, demand: Ref, lines: Ref, run: Run
) -> list[tuple[Any, Callable[[], Any]]]:
    """Read what sold in the periods that were forecast: weekly demand, or the lines of each day."""
    from ecom_tasks.artefacts import dataset

    promised = next(f for f in dataset.manifest(ref).files if f.path == "forecasts.parquet")
    sold = lines if "day" in (promised.columns or {}) else demand
    pattern = "by_product/*.parquet" if sold == lines else "*.parquet"
    return [
        ("forecasts", partial(_forecasts, sold, path, ref, run.as_of))
        for path in dataset.paths(sold, pattern)
    ]


def _forecasts(sold: Ref, path: str, ref: Ref, last: date) -> pl.DataFrame:
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.monitoring import realised

    rows, promised = dataset.scan(sold, path), dataset.scan(ref, "forecasts.parquet")
    by_day = "day" in promised.collect_schema()
    return realised.forecasts_of_bucket(realised.daily(rows) if by_day else rows, promised, last)


def _price_jobs(ref: Ref, demand: Ref, run: Run) -> list[tuple[Any, Callable[[], Any]]]:
    from ecom_tasks.artefacts import dataset

    return [
        ("prices", partial(_prices, demand, path, _day(ref), run.as_of))
        for path in dataset.paths(demand)
    ]


def _prices(demand: Ref, path: str, since: date, last: date) -> pl.DataFrame:
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.monitoring import realised

    return realised.prices_of_bucket(dataset.scan(demand, path), since, last)


def _call(job: tuple[Any, Callable[[], Any]]) -> tuple[Any, Any]:
    """Do one job; runs on a Dask worker."""
    return job[0], job[1]()


def _at_once(jobs: Sequence[tuple[Any, Callable[[], Any]]], what: str) -> dict[Any, list[Any]]:
    """Do all jobs over one cluster; return their results by key, in order."""
    from ecom_tasks import compute

    found: dict[Any, list[Any]] = {}
    for key, result in compute.map_buckets(_call, jobs, what) if jobs else []:
        found.setdefault(key, []).append(result)
    return found


def _drift(
    pairs: dict[tuple[str, str], tuple[Rows, Rows]],
    first: dict[Any, list[Any]],
    judged: dict[str, Ref],
    config: MonitoringConfig,
) -> pl.DataFrame:
    """Count both sides of each pair in the same bins, and compare them."""
    import polars as pl

    from ecom_tasks.monitoring import drift

    cuts = {key: drift.edges(first[("sample", key)], config.bins) for key in pairs}
    jobs = [
        ((key, side), partial(_count, rows, path, cuts[key]))
        for key, pair in pairs.items()
        for side, rows in enumerate(pair)
        for path in rows.paths
    ]
    counted = _at_once(jobs, "drift")
    names: dict[str, pl.DataType] = {
        "domain": pl.String(),
        "table": pl.String(),
        "release": pl.String(),
    }
    found = [pl.DataFrame(schema=names | drift.SCHEMA)]
    for (domain, table), pair in pairs.items():
        before, now = (drift.total(counted[(domain, table), side]) for side in (0, 1))
        held = judged.get(domain, Ref("")) if table else pair[0].ref
        release = _version(held) if held else ""
        found.append(
            drift.compare(before, now, 1 - config.chance).select(
                pl.lit(domain).alias("domain"), pl.lit(table or "predictions").alias("table"),
                pl.lit(release).alias("release"), pl.all(),
            )
        )  # fmt: skip
    return pl.concat(found)


def _realised(
    draft: Draft, judged: dict[str, Ref], first: dict[Any, list[Any]], products: pl.DataFrame,
    run: Run, config: MonitoringConfig,
) -> dict[str, Any]:  # fmt: skip
    """Judge what the buckets brought; write the tables and return the figures by domain."""
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.monitoring import realised

    facts: dict[str, Any] = {}
    lists, forecasts, prices = (
        pl.DataFrame(schema=schema)
        for schema in (realised.LISTS, realised.FORECASTS, realised.PRICES)
    )
    if parts := first.get("lists"):
        ref = judged["recommendation"]
        lists, facts["recommendation"] = realised.judge_lists(parts, config)
        until = _day(ref) + timedelta(days=_window_days(ref))
        facts["recommendation"] |= {"since": str(_day(ref)), "until": str(until)}
        facts["recommendation"]["promised"] = {
            window: found["all"]["contenders"]["ranker"] | {"customers": found["all"]["customers"]}
            for window, found in dataset.manifest(ref).metrics["windows"].items()
        }
    if parts := first.get("forecasts"):
        metrics = dataset.manifest(judged["inventory"]).metrics
        rows = pl.concat(parts)
        forecasts = realised.judge_forecasts(rows, products)
        overall = forecasts.filter(part="all").select("wape", "bias", "coverage").to_dicts()[0]
        facts["inventory"] = {
            "forecasts": rows.height,
            "promised": {
                "wape": metrics["model"]["wape"], "bias": metrics["model"]["bias"],
                "coverage": metrics["coverage"].get("0.8"),
            },
        } | overall  # fmt: skip
    if parts := first.get("prices"):
        ref = judged["pricing"]
        weeks = realised.whole_weeks(_day(ref), run.as_of)
        proposals = dataset.scan(ref, "prices.parquet").collect()
        prices, facts["pricing"] = realised.judge_prices(proposals, pl.concat(parts), weeks, config)
        facts["pricing"]["weeks"] = weeks
    for name, table in zip(
        ("recommendations", "forecasts", "prices"), (lists, forecasts, prices), strict=True
    ):
        draft.write_frame(f"realised_{name}.parquet", table)
    return facts
