"""Pricing, top to bottom: weekly panel -> elasticities -> judgement and prices -> release.

Light to import, since the scheduler reads this file: heavy libraries load inside the tasks. No
customer attribute enters: the panel has products, places and weeks.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.run import Ref, Run, Step

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft
    from ecom_tasks.artefacts.manifest import FileEntry

PANEL, CATALOGUE, GUARDRAILS = "panel", "catalogue.parquet", "guardrails.json"
GROUPS, TOGETHER = "customer_groups.parquet", "bought_together.parquet"
DECISIONS, ODDS, OFF_POLICY = "decisions", "odds.parquet", "off_policy.parquet"
RECENT = "recent"
FORECASTS = "artefacts/inventory"
SITUATION = ("stock", "prices", "supply")
"""Tables of the lake that say where a product stands, beside its sales."""
_SEED = 7


def pin_features(run: Run) -> Ref:
    """Find the features of the day, so that every later task reads the same rows."""
    from ecom_tasks.artefacts import dataset

    return dataset.find(run, "features/all")


def build_panel(run: Run, features: Ref) -> Ref:
    """Weekly units, shelf price and promotion of each product, and what a unit costs."""
    from ecom_tasks import compute
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import panel

    config = PricingConfig.of(run)
    demand, products, supply = (
        dataset.input_named(features, name)
        for name in ("features/demand", "lake/products", "lake/supply")
    )
    last = panel.last_complete_week(run.as_of)
    first_window = panel.cutoffs(last, config.test_windows, config.test_weeks)[0]

    def build(draft: Draft) -> None:
        level: str = config.panel_level
        if level == "auto":
            level = panel.level_of(dataset.scan(demand))
        draft.metrics["level of the panel"] = level
        work = partial(_panel_bucket, demand, draft.destination, level, first_window)
        unusable: dict[str, int] = {}
        rows = 0
        for entry, counts in compute.map_buckets(work, dataset.paths(demand), "pricing panel"):
            draft.add([entry])
            rows += entry.rows or 0
            for reason, count in counts.items():
                unusable[reason] = unusable.get(reason, 0) + count
        if not rows:
            raise panel.nothing_usable(unusable)
        draft.metrics["rows of demand without a usable price"] = unusable
        draft.write_frame(CATALOGUE, _catalogue(products, supply))

    return dataset.produce(
        run, "work/pricing/panel", build, inputs=[demand, products, supply], config=config
    )


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


def estimate_elasticities(run: Run, panel: Ref, together: Ref) -> Ref:
    """Own-price elasticity of each product and category, with interval and grade of evidence."""
    from ecom_tasks.artefacts import dataset

    config = PricingConfig.of(run)

    def build(draft: Draft) -> None:
        import polars as pl

        from ecom_tasks.pricing import model, parts, promotions, trials

        dealt, first, last = _dealt(panel, config)
        each_config = parts.config_of_each(config, len(dealt))
        before = last + timedelta(weeks=1)
        work = partial(_study, panel, together, draft.destination, (first, before), each_config)
        studied = []
        for each, entries in parts.over(work, dealt, "elasticities"):
            studied.append(each)
            draft.add(entries)
        promotions.tell_apart([each.ran for each in studied])
        fitted = model.pool([each.told for each in studied], config)
        draft.write_frame("products.parquet", _rounded(fitted.products))
        draft.write_frame("categories.parquet", _rounded(fitted.categories))
        draft.write_frame("cross.parquet", _rounded(fitted.cross))
        usual = pl.concat([each.usual for each in studied])
        tests = trials.propose(fitted.products, usual, config)
        draft.write_frame("price_tests.parquet", _rounded(trials.table(tests)))
        scores = pl.concat([each.scorecard for each in studied]).sort("category", "mechanic")
        draft.write_frame("promotions.parquet", _rounded(scores))
        draft.write_json("shop.json", fitted.shop)

    return dataset.produce(
        run, "work/pricing/elasticities", build, inputs=[panel, together], config=config
    )


def evaluate_elasticities(run: Run, panel: Ref) -> Ref:
    """Learn again from before each held-out window, and foretell its units, beside baselines."""
    from ecom_tasks.artefacts import dataset

    config = PricingConfig.of(run)

    def build(draft: Draft) -> None:
        import polars as pl

        from ecom_tasks.pricing import evaluate, parts

        dealt, first, last = _dealt(panel, config)
        each_config = parts.config_of_each(config, len(dealt))
        windows = []
        for start in evaluate.starts(first, last, config):
            work = partial(_foretell, panel, draft.destination, (first, start), each_config)
            told = []
            recent = []
            for each, entries in parts.over(work, dealt, "held-out weeks"):
                told.append(each)
                recent += [f"{draft.destination}/{entry.path}" for entry in entries]
                draft.add(entries)
            fitted, slope = evaluate.pooled(told, config)
            predict = partial(_predict, fitted, slope, start)
            windows += parts.over(predict, recent, "predictions of held-out weeks")
        predicted = pl.concat(windows)
        draft.write_frame("held_out.parquet", _rounded(predicted))
        draft.write_frame("calibration.parquet", _rounded(evaluate.calibration(predicted, 8)))
        draft.write_json("scores.json", evaluate.score(predicted))

    return dataset.produce(run, "work/pricing/evaluation", build, inputs=[panel], config=config)


def pin_guardrails(run: Run) -> Ref:
    """Read the rules that products keep together; their content names the version."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import guardrails

    path = PricingConfig.of(run).guardrails
    read = guardrails.parse(dataset.read_text(path) if path else "", path or "the defaults")

    def build(draft: Draft) -> None:
        draft.write_json(GUARDRAILS, read.model_dump(mode="json"))

    return dataset.produce(run, "work/pricing/guardrails", build, config=read)


def pin_forecasts(run: Run) -> Ref:
    """Find the forecasts that were in service before this day: those of the day may be under way.

    The same day run again finds the same, whatever was released meanwhile.
    """
    from ecom_tasks.artefacts import dataset, release

    made = release.served_by_day(run.root, FORECASTS, run.as_of)[:1]

    def build(draft: Draft) -> None:
        draft.metrics["forecasts"] = dataset.manifest(made[0]).version if made else ""

    return dataset.produce(run, "work/pricing/forecasts", build, inputs=made)


def propose_prices(
    run: Run, panel: Ref, elasticities: Ref, rules: Ref, features: Ref, forecasts: Ref
) -> Ref:
    """For each product on sale, the price within the rules that is expected to earn most."""
    from ecom_tasks.artefacts import dataset

    config = PricingConfig.of(run)
    lake = {name: dataset.input_named(features, f"lake/{name}") for name in SITUATION}

    def build(draft: Draft) -> None:
        import polars as pl

        from ecom_tasks.pricing import joint, optimise, situation, today
        from ecom_tasks.pricing.guardrails import Guardrails

        ruled = Guardrails.model_validate(dataset.read_json(rules, GUARDRAILS))
        told: dict[str, Any] = _told(lake)
        known = situation.Known(**told, **_forecast(forecasts))
        catalogue = dataset.scan(panel, CATALOGUE).collect()
        dealt, first, _ = _dealt(panel, config)

        def stand(products: list[str]) -> pl.DataFrame:
            weeks = _read_panel(panel, first, products)
            positions = today.positions(weeks, catalogue, config)
            return situation.add(positions, weeks, known, ruled, run.as_of)

        # One part after the other: what is known of a product needs no more than its own weeks.
        positions = pl.concat([stand(part) for part in dealt])
        positions = positions.sort("product_id")
        today.check_costs(positions, config)
        answers = dataset.scan(elasticities, "products.parquet").collect()
        columns = ["product_id", "estimate", "error", "lower", "upper", "grade", "why"]
        shared = optimise.at_current_prices(
            positions, answers.select(*columns, "shared_error"), config
        )
        pairs = dataset.scan(elasticities, "cross.parquet").collect()
        chosen = joint.choose(shared, pairs, ruled, config, _SEED)
        prices = optimise.propose_all(positions, answers.select(columns), config, chosen.prices)
        draft.write_frame("prices.parquet", prices)
        draft.write_json("total.json", optimise.total(prices, answers, config, _SEED))

    return dataset.produce(
        run, "work/pricing/prices", build,
        inputs=[panel, elasticities, rules, forecasts, *lake.values()], config=config,
    )  # fmt: skip


def pin_price_log(run: Run) -> Ref:
    """Read the odds of prices that were drawn by lot; their content names the version."""
    from pydantic import BaseModel

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import logged

    class Content(BaseModel):
        sha256: str

    path = PricingConfig.of(run).price_log
    odds = logged.checked_odds(dataset.read_parquet(path), path) if path else None
    sha256 = "" if odds is None else hashlib.sha256(odds.write_csv().encode()).hexdigest()

    def build(draft: Draft) -> None:
        if odds is not None and odds.height:
            draft.write_frame(ODDS, odds)

    return dataset.produce(run, "work/pricing/price_log", build, config=Content(sha256=sha256))


def judge_by_logs(run: Run, elasticities: Ref, prices: Ref, price_log: Ref) -> Ref:
    """Ask what proposed prices would have earned in the weeks that are logged."""
    from ecom_tasks.artefacts import dataset

    config = PricingConfig.of(run)

    def build(draft: Draft) -> None:
        from ecom_tasks.pricing import logged, parts

        paths = dataset.paths(elasticities, f"{DECISIONS}/*.parquet")
        work = partial(_weigh, elasticities, prices, price_log, config)
        cells = parts.over(work, paths, "logged decisions")
        draft.write_frame(OFF_POLICY, _rounded(logged.judge(cells, config)))

    return dataset.produce(
        run, "work/pricing/off_policy", build, inputs=[elasticities, prices, price_log],
        config=config,
    )  # fmt: skip


def compare_groups(run: Run, features: Ref) -> Ref:
    """What groups of customers paid for the same goods: for the report, never for a price."""
    from ecom_tasks import compute
    from ecom_tasks.artefacts import dataset

    lines, customers = (
        dataset.input_named(features, f"lake/{name}") for name in ("order_lines", "customers")
    )

    def build(draft: Draft) -> None:
        from ecom_tasks.pricing import fairness

        work = partial(_group_sums, lines, customers, run.as_of)
        buckets = dataset.paths(lines, "by_product/*.parquet")
        parts = [part for _, part in compute.map_buckets(work, buckets, "what groups paid")]
        draft.write_frame(GROUPS, fairness.compare(parts))

    return dataset.produce(run, "work/pricing/groups", build, inputs=[lines, customers])


def publish_release(
    run: Run, elasticities: Ref, evaluation: Ref, prices: Ref, off_policy: Ref, groups: Ref
) -> Ref:
    """Refuse what holds no better than a plain baseline or breaks a rule; publish the rest."""
    from ecom_tasks.artefacts import dataset

    config = PricingConfig.of(run)

    def build(draft: Draft) -> None:
        from ecom_tasks.pricing import evaluate, logged, report, rules

        scores = dataset.read_json(evaluation, "scores.json")
        proposals = dataset.scan(prices, "prices.parquet").collect()
        with draft.gating():
            evaluate.gate(scores)
        with draft.gating():
            rules.check(proposals, config)
        held_out = dataset.scan(evaluation, "held_out.parquet").collect()
        draft.evidence(_rounded(evaluate.evidence(held_out)))
        moved = float(cast(float, proposals["change"].abs().max() or 0.0))
        draft.limit("largest price move", moved, (None, draft.limits.price_move))
        draft.ask("largest price move", moved, draft.limits.approve_price_move)
        found = report.Findings(
            products=dataset.scan(elasticities, "products.parquet").collect(),
            categories=dataset.scan(elasticities, "categories.parquet").collect(),
            prices=proposals,
            calibration=dataset.scan(evaluation, "calibration.parquet").collect(),
            cross=dataset.scan(elasticities, "cross.parquet").collect(),
            tests=dataset.scan(elasticities, "price_tests.parquet").collect(),
            promotions=dataset.scan(elasticities, "promotions.parquet").collect(),
            groups=dataset.scan(groups, GROUPS).collect(),
            off_policy=dataset.scan(off_policy, OFF_POLICY).collect(),
            metrics={},
            assumptions=draft.assumptions,
        )
        shop = dataset.read_json(elasticities, "shop.json")
        found.metrics.update(_metrics(found, scores, shop))
        found.metrics["rule_violations"] = rules.violations(proposals, config).height
        found.metrics["proposals"] = dataset.read_json(prices, "total.json")
        found.metrics["off_policy"] = logged.told(found.off_policy)
        draft.metrics.update(found.metrics)
        draft.assumptions.extend(_assumptions(proposals, config))
        held = scores["moved_prices"]
        draft.headline(
            metric="deviance of units in held-out weeks with a moved price",
            value=held[evaluate.ELASTICITIES],
            baseline_name=evaluate.NO_RESPONSE,
            baseline=held[evaluate.NO_RESPONSE],
            higher_is_better=False,
            rows=proposals.height,
            unit="prices",
        )
        _write_release(draft, found)
        draft.write_text("report.html", report.render(f"Pricing as of {run.as_of}", found, config))

    ref = dataset.produce(
        run,
        "artefacts/pricing",
        build,
        inputs=[elasticities, evaluation, prices, off_policy, groups],
        config=config,
    )
    return dataset.release(run, ref)


def flow(step: Step) -> Ref:
    """Features -> panel -> elasticities and their judgement -> prices and theirs -> release."""
    features = step(pin_features)
    panel = step(build_panel, features)
    elasticities = step(estimate_elasticities, panel, step(find_bought_together, features))
    evaluation = step(evaluate_elasticities, panel)
    prices = step(
        propose_prices, panel, elasticities, step(pin_guardrails), features, step(pin_forecasts)
    )
    off_policy = step(judge_by_logs, elasticities, prices, step(pin_price_log))
    groups = step(compare_groups, features)
    return step(publish_release, elasticities, evaluation, prices, off_policy, groups)


def _panel_bucket(
    demand: Ref, destination: str, level: str, weights_before: date, path: str
) -> tuple[FileEntry, dict[str, int]]:
    """Build and store one bucket of the panel; runs on a Dask worker."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import panel

    rows = dataset.scan(demand, path)
    weekly = panel.weekly(rows, level, weights_before)
    entry = dataset.write_part(destination, f"{PANEL}/{path.rsplit('/', 1)[-1]}", weekly)
    return entry, panel.broken(rows)


def _group_sums(lines: Ref, customers: Ref, as_of: date, path: str) -> tuple[str, pl.DataFrame]:
    """Add up what groups paid for the products of one bucket; runs on a Dask worker."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import fairness

    known = dataset.scan(customers) if dataset.has_rows(customers) else None
    return path, fairness.sums(dataset.scan(lines, path), known, as_of)


def _catalogue(products: Ref, supply: Ref) -> pl.DataFrame:
    """Return product_id, category (path) and unit_cost, of the catalogue, else of supply."""
    import polars as pl

    from ecom_tasks.artefacts import dataset

    catalogue = dataset.scan(products).select("product_id", "category", "unit_cost")
    if dataset.has_rows(supply):
        mean = pl.col("unit_cost").mean().alias("supply_cost")
        costs = dataset.scan(supply).group_by("product_id").agg(mean)
        catalogue = catalogue.join(costs, on="product_id", how="left").select(
            "product_id", "category", pl.coalesce("unit_cost", "supply_cost").alias("unit_cost")
        )
    return catalogue.with_columns(pl.col("unit_cost").cast(pl.Float64)).sort("product_id").collect()


def _dealt(ref: Ref, config: PricingConfig) -> tuple[list[list[str]], date, date]:
    """Return the products of each part of the panel, and its first and last whole week."""
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import panel, parts

    weeks = dataset.scan(ref, f"{PANEL}/*.parquet")
    totals = weeks.group_by(panel.WEEK).agg(pl.col("units").sum()).collect().sort(panel.WEEK)
    sizes = weeks.group_by("product_id").agg(pl.len().alias("rows")).collect()
    sizes = panel.with_catalogue(sizes, dataset.scan(ref, CATALOGUE).collect())
    dealt = parts.split(sizes, config.part_rows)
    return dealt, panel.first_whole_week(totals), totals[panel.WEEK][-1]


def _count_orders(lines: Ref, products: Ref, as_of: date, path: str) -> Any:
    """Count what the customers of one bucket bought together; runs on a Dask worker."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import bought_together

    catalogue = dataset.scan(products).select("product_id", "category").collect()
    return bought_together.count(dataset.scan(lines, path), catalogue, as_of)


def _study(
    ref: Ref,
    together: Ref,
    destination: str,
    span: tuple[date, date],
    config: PricingConfig,
    products: list[str],
) -> tuple[Any, list[FileEntry]]:
    """Learn one part, and store its decisions; may run on a Dask worker."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import parts

    pairs = dataset.scan(together, TOGETHER).collect()
    first, before = span
    studied = parts.study(_read_panel(ref, first, products), before, config, pairs)
    decisions = studied.decisions
    if decisions is None or not decisions.height:
        return replace(studied, decisions=None), []
    path = f"{DECISIONS}/{_named(products)}.parquet"
    entry = dataset.write_part(destination, path, decisions)
    return replace(studied, decisions=None), [entry]


def _weigh(elasticities: Ref, prices: Ref, odds: Ref, config: PricingConfig, path: str) -> Any:
    """Weigh the logged decisions of one part; may run on a Dask worker."""
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import logged

    columns = ["product_id", "current_price", "proposed_price", "unit_cost", "elasticity"]
    changed = dataset.scan(prices, "prices.parquet").filter(pl.col("change") != 0).select(columns)
    drawn = dataset.scan(odds, ODDS).collect() if dataset.has_rows(odds) else None
    return logged.add_up(
        dataset.scan(elasticities, path).collect(), changed.collect(), config, drawn
    )


def _foretell(
    ref: Ref, destination: str, span: tuple[date, date], config: PricingConfig, products: list[str]
) -> tuple[Any, list[FileEntry]]:
    """Foretell one part's held-out window, and store its rows; may run on a Dask worker."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import evaluate

    first, start = span
    told = evaluate.foretell(_read_panel(ref, first, products), start, config)
    if told.rows is None:
        return told, []
    path = f"{RECENT}/{start}/{_named(products)}.parquet"
    entry = dataset.write_part(destination, path, told.rows)
    return replace(told, rows=None), [entry]


def _predict(fitted: Any, slope: float, start: date, uri: str) -> pl.DataFrame:
    """Predict one part's held-out window in all ways; may run on a Dask worker."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import evaluate

    return evaluate.predict(dataset.scan_files([uri]).collect(), fitted, slope, start)


def _named(products: list[str]) -> str:
    """Name a part after its products."""
    return hashlib.sha256("\n".join(products).encode()).hexdigest()[:12]


def _read_panel(ref: Ref, first: date, products: list[str]) -> pl.DataFrame:
    """Return the weeks of these products from the first whole one, with category and department."""
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import panel

    kept = dataset.scan(ref, f"{PANEL}/*.parquet").filter(
        (pl.col(panel.WEEK) >= first) & pl.col("product_id").is_in(products)
    )
    catalogue = dataset.scan(ref, CATALOGUE).collect()
    return panel.with_catalogue(kept.collect().sort(*panel.SERIES, panel.WEEK), catalogue)


def _told(lake: dict[str, Ref]) -> dict[str, pl.DataFrame]:
    """Return the tables that the shop has."""
    from ecom_tasks.artefacts import dataset

    return {
        name: dataset.scan(ref).collect() for name, ref in lake.items() if dataset.has_rows(ref)
    }


def _forecast(pinned: Ref) -> dict[str, Any]:
    """Return what an earlier release of inventory foretold; empty where there is none."""
    from ecom_tasks.artefacts import dataset

    made = dataset.manifest(pinned)
    if not made.inputs:
        return {}
    frame = dataset.scan(dataset.input_named(pinned, FORECASTS), "forecasts.parquet").collect()
    return {"forecasts": frame, "released": f"forecast {made.metrics['forecasts'][:10]}"}


def _rounded(frame: pl.DataFrame) -> pl.DataFrame:
    """Drop the last bits, which differ with the order of addition: same input, same bytes."""
    import polars as pl

    return frame.with_columns(pl.col(pl.Float64).round(6))


def _metrics(found: Any, scores: dict[str, Any], shop: dict[str, Any]) -> dict[str, Any]:
    """Gather what the manifest, metrics.json and the report tell."""
    import polars as pl

    from ecom_tasks.pricing.variation import ENOUGH

    enough = found.categories.filter(pl.col("variation") == ENOUGH)
    negative = enough.filter(pl.col("upper") < 0).height
    on_sale = found.products.join(found.prices, on="product_id", how="semi")
    return {
        "held_out": scores,
        "shop": shop,
        "categories": {
            "all": found.categories.height,
            "enough": enough.height,
            "negative": negative,
            "share_negative": round(negative / enough.height, 4) if enough.height else 0.0,
            "placebo_passed": int(enough["placebo_passed"].sum()),
        },
        "products_on_sale_by_grade": dict(on_sale["grade"].value_counts().sort("grade").rows()),
    }


def _assumptions(prices: pl.DataFrame, config: PricingConfig) -> list[str]:
    assumed = int(prices["assumed"].sum())
    if not assumed:
        return []
    return [
        f"The unit cost of {assumed} of {prices.height} products is assumed to be "
        f"{1 - config.assumed_margin:.0%} of the usual price: the source gives none."
    ]


def _upload(prices: pl.DataFrame) -> str:
    """Return changed prices as a shop system reads them: product, price, two decimals."""
    import polars as pl

    changed = prices.filter(pl.col("change") != 0)
    return changed.select("product_id", pl.col("proposed_price").round(2).alias("price")).write_csv(
        float_precision=2
    )


def _write_release(draft: Draft, found: Any) -> None:
    first = ["product_id", "category", "estimate", "lower", "upper", "weight_borrowed", "grade"]
    more = ["why", "own_estimate", "own_error", "weeks", "moved_weeks", "reliability"]
    draft.write_frame("elasticities.parquet", found.products.select(*first, *more))
    draft.write_frame("category_elasticities.parquet", found.categories)
    draft.write_frame("cross_elasticities.parquet", found.cross.filter("found"))
    draft.write_frame("price_tests.parquet", found.tests)
    draft.write_frame("promotions.parquet", found.promotions)
    draft.write_frame("discounts_by_segment.parquet", found.groups)
    draft.write_frame(OFF_POLICY, found.off_policy)
    draft.write_text("upload.csv", _upload(found.prices))
    draft.write_frame("prices.parquet", found.prices)
    draft.write_text("prices.csv", found.prices.write_csv())
    draft.write_json("metrics.json", found.metrics)
