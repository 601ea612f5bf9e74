"""Inventory, top to bottom: demand by week or day -> series -> forecasts -> order proposals.

Light to import, since the scheduler reads this file: heavy libraries load inside the tasks.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ecom_tasks.errors import DataContractError
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.run import Ref, Run, Step

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft
    from ecom_tasks.inventory.ensemble import Members
    from ecom_tasks.inventory.evaluate import Backtest
    from ecom_tasks.inventory.panel import Panel

log = logging.getLogger(__name__)
_HIERARCHY_PATHS = 200
_LIKENESS = "artefacts/recommendation"
_EMBEDDINGS = "product_embeddings.parquet"


def pin_features(run: Run) -> Ref:
    """Find the features of the day, so that every later task reads the same rows."""
    from ecom_tasks.artefacts import dataset

    return dataset.find(run, "features/all")


def pin_embeddings(run: Run) -> Ref:
    """Find which products are like which, in the recommendation in service before this day.

    That of the day may be under way; the same day run again finds the same.
    """
    from ecom_tasks.artefacts import dataset, release

    made = release.served_by_day(run.root, _LIKENESS, run.as_of)[:1]

    def build(draft: Draft) -> None:
        draft.metrics["recommendation"] = dataset.manifest(made[0]).version if made else ""
        if made and _EMBEDDINGS in dataset.paths(made[0]):
            draft.write_frame(_EMBEDDINGS, dataset.scan(made[0], _EMBEDDINGS).collect())

    return dataset.produce(run, "work/inventory/embeddings", build, inputs=made)


def build_series(run: Run, features: Ref) -> Ref:
    """Choose the best-selling products and lay out their sales, prices and planned promotions."""
    from ecom_tasks.artefacts import dataset

    config = InventoryConfig.of(run).for_forecasts()
    demand = dataset.input_named(features, "features/demand")
    calendar = dataset.input_named(features, "features/promotion_calendar")
    products, stock = (
        dataset.input_named(features, f"lake/{table}") for table in ("products", "stock")
    )
    country = config.country or _country(products)
    inputs = [demand, calendar, products, stock]
    if config.frequency == "daily":
        lines, promotions = (
            dataset.input_named(features, f"lake/{table}")
            for table in ("order_lines", "promotions")
        )
        inputs += [lines, promotions]

    def build(draft: Draft) -> None:
        from ecom_tasks.inventory import censored, series

        if not dataset.has_rows(demand):
            raise DataContractError(
                f"Nothing sellable was sold up to {run.as_of}",
                f"Deliver order lines of at least {config.periods_needed} {config.period}s",
            )
        if config.frequency == "daily":
            here = config.model_copy(update={"country": country})
            sold, planned = _by_day(run, lines, promotions, products, here)
        else:
            sold, planned = dataset.scan_each(demand), dataset.scan_each(calendar)
        panel = series.build(sold, planned, dataset.scan(products), run.as_of, config)
        closed = censored.closed_share(panel, dataset.scan_each(stock))
        judged = config.windows * config.horizon
        panel = censored.recover(panel, closed, config.improbable_run, judged=judged)
        keys, periods = series.to_frames(panel)
        draft.write_frame("series.parquet", keys)
        draft.write_frame(f"{config.period}s.parquet", periods)
        draft.metrics.update(
            series=panel.series,
            periods=panel.periods,
            promotions=sorted(panel.plans),
            country=country,
            periods_without_stock=int((~panel.known()).sum()),
            stock_counted=closed is not None,
        )
        log.info("%s series of %s %ss", panel.series, panel.periods, config.period)

    return dataset.produce(
        run,
        "work/inventory/series",
        build,
        inputs=inputs,
        config=config,
    )


def backtest(run: Run, series: Ref) -> Ref:
    """Forecast the last windows from what was known before them; judge beside plain methods."""
    from ecom_tasks.artefacts import dataset

    config = _config(run, series).for_forecasts()

    def build(draft: Draft) -> None:
        from ecom_tasks.inventory import evaluate, layout

        panel = _panel(series, config)
        judged = evaluate.backtest(panel, config)
        for window in judged.reviews:
            frame = layout.forecast_frame(
                panel, window.origin, window.mean, window.quantiles, config.quantiles
            )
            draft.write_frame(f"origin={window.origin:04d}.parquet", frame)
        scores = evaluate.score(panel, judged.tests, config)
        draft.write_json("scores.json", scores)
        draft.write_json("calibration.json", _calibrations(judged))
        draft.metrics.update(scores)
        name, plain = evaluate.best_baseline(scores)
        own = scores["model"][evaluate.HEADLINE]
        log.info("WRMSSE %s, best plain method: %s %.4f", own, name, plain)

    return dataset.produce(run, "work/inventory/backtest", build, inputs=[series], config=config)


def train_forecaster(run: Run, series: Ref) -> Ref:
    """Train on every week known and forecast the weeks ahead (not combined or calibrated yet)."""
    from ecom_tasks.artefacts import dataset

    config = _config(run, series).for_forecasts()

    def build(draft: Draft) -> None:
        from ecom_tasks.inventory import ensemble, forecast, layout, neural, whatif

        panel = _panel(series, config)
        others = ensemble.others(panel, panel.periods, config)
        network = neural.fit(panel, panel.periods, config) if config.network else None
        if network is not None:
            others |= ensemble.of_network(network, panel, panel.periods, config, slice(None))
        draft.write_frame("others.parquet", layout.centres_frame(panel, panel.periods, others))
        models = forecast.fit(panel, config)
        ahead = forecast.rows_ahead(panel, panel.periods, config)
        mean = forecast.predict_mean(models.mean, ahead, config.horizon)
        quantiles = forecast.predict_quantiles(models.quantiles, ahead, config.horizon)
        draft.write_frame("whatif.parquet", whatif.table(panel, models, config))
        if network is not None:
            from ecom_tasks.training import demand_network

            demand_network.save(network, draft.folder / "network.npz")
        models.mean.save_model(draft.folder / "mean.ubj")
        models.quantiles.save_model(draft.folder / "quantiles.ubj")
        draft.write_frame(
            "forecasts.parquet",
            layout.forecast_frame(panel, panel.periods, mean, quantiles, config.quantiles),
        )

    return dataset.produce(run, "work/inventory/forecaster", build, inputs=[series], config=config)


def propose_orders(
    run: Run, features: Ref, series: Ref, backtest: Ref, forecaster: Ref, embeddings: Ref
) -> Ref:
    """Combine and calibrate the forecasts; derive stock levels and order proposals from them."""
    from ecom_tasks.artefacts import dataset

    config = _config(run, series)
    lake = [
        dataset.input_named(features, f"lake/{table}") for table in ("products", "stock", "supply")
    ]

    demand = dataset.input_named(features, "features/demand")

    def build(draft: Draft) -> None:
        import polars as pl

        from ecom_tasks.inventory import (
            classes,
            echelon,
            ensemble,
            exceptions,
            layout,
            newcomers,
            reconcile,
            replenish,
            service,
            supply,
        )  # fmt: skip

        panel, judged = _panel(series, config), _backtest(series, backtest, config)
        products, stock, terms = (_rows(ref) for ref in lake)
        likeness = _rows(embeddings)
        new = newcomers.forecast(
            dataset.scan_each(demand), dataset.scan(lake[0]), panel.keys, run.as_of, config,
            None if likeness is None else likeness.collect(),
        )  # fmt: skip
        assert products is not None
        priced = panel.keys.with_columns(pl.Series("price", supply.last_price(panel)))
        agreed = supply.supply_terms(priced, terms, products, config)
        combined = ensemble.combined(
            panel, _members(panel, forecaster, config), judged.learnt, config
        )
        tree = reconcile.hierarchy(panel.keys)
        mean, quantiles = reconcile.adjusted(panel, tree, combined, config)
        paths = reconcile.paths_of(
            quantiles, config.quantiles, _shared_error(panel, judged, config),
            _HIERARCHY_PATHS, config.seed,
        )  # fmt: skip
        hierarchy = reconcile.node_forecasts(panel, tree, mean, paths, config.quantiles)
        if config.warehouse_lead_time_days:
            shared = _shared_error(panel, judged, config)
            warehouse = echelon.plans(quantiles, agreed, shared, config)
            agreed = echelon.with_wait(agreed, warehouse)
            draft.write_frame("warehouse.parquet", warehouse)
        correlation = judged.calibration.error_correlation
        levels = replenish.policy(mean, quantiles, agreed, correlation, config)
        counted = supply.stock_of(panel.keys, stock, run.as_of, config)
        limited = replenish.within_limits(replenish.propose(levels, counted), levels, config)
        lists = classes.with_stock(classes.classify(panel), levels, counted)
        listed = pl.concat([
            exceptions.stock_outs(levels, counted, quantiles, correlation, config),
            exceptions.overstocks(levels, lists),
            exceptions.misses(panel, judged.tests, levels, config),
        ])
        forecasts = layout.forecast_frame(panel, panel.periods, mean, quantiles, config.quantiles)
        draft.write_frame("forecasts.parquet", forecasts)
        draft.write_frame("policy.parquet", levels)
        draft.write_frame("orders.parquet", limited.orders)
        draft.write_frame("hierarchy.parquet", hierarchy)
        draft.write_frame("classes.parquet", lists)
        draft.write_frame("exceptions.parquet", listed)
        draft.write_frame("new_products.parquet", new)
        draft.metrics["service"] = service.judge(panel, judged.reviews, agreed, config)
        draft.assumptions += supply.assumptions(agreed, counted, config)
        draft.assumptions += supply.forecast_assumptions(panel, config)
        draft.assumptions += [limited.said] if limited.said else []

    return dataset.produce(
        run,
        "work/inventory/orders",
        build,
        inputs=[*lake, demand, series, backtest, forecaster, embeddings],
        config=config,
    )


def publish_release(run: Run, series: Ref, backtest: Ref, forecaster: Ref, orders: Ref) -> Ref:
    """Refuse a model that beats no plain method; else publish forecasts, orders and report."""
    from ecom_tasks.artefacts import dataset

    config = _config(run, series)

    def build(draft: Draft) -> None:
        from ecom_tasks.inventory import evaluate, layout, replenish, report

        scores: dict[str, Any] = dataset.read_json(backtest, "scores.json")
        baseline, plain = evaluate.best_baseline(scores)
        if baseline == "none" or scores["model"][evaluate.HEADLINE] is None:
            evaluate.gate(scores)  # raises: nothing could be judged, so there is nothing to keep
        with draft.gating():
            evaluate.gate(scores)
        panel, judged = _panel(series, config), _backtest(series, backtest, config)
        proposed = dataset.manifest(orders)
        tables = {
            name: dataset.scan(orders, f"{name}.parquet").collect()
            for name in (
                "forecasts", "policy", "orders", "hierarchy", "classes", "exceptions",
                "new_products",
            )
        }  # fmt: skip
        if config.warehouse_lead_time_days:
            tables["warehouse"] = dataset.scan(orders, "warehouse.parquet").collect()
        for table_name, table in tables.items():
            draft.write_frame(f"{table_name}.parquet", table)
        draft.write_text("orders.csv", replenish.buyers_csv(tables["orders"]))
        draft.write_frame("whatif.parquet", dataset.scan(forecaster, "whatif.parquet").collect())
        dataset.fetch(forecaster, draft.folder / "model", "*.ubj")
        if dataset.paths(forecaster, "*.npz"):
            dataset.fetch(forecaster, draft.folder / "model", "*.npz")
        draft.write_json("model/calibration.json", dataset.read_json(backtest, "calibration.json"))
        draft.metrics.update(scores, service=proposed.metrics["service"])
        draft.write_json("metrics.json", draft.metrics)
        draft.assumptions += proposed.assumptions
        mean, quantiles = layout.forecast_arrays(
            tables["forecasts"], panel.series, config.quantiles
        )
        ahead = evaluate.Window(panel.periods, mean, quantiles)
        facts = {
            "as_of": run.as_of,
            "scores": scores,
            "service": proposed.metrics["service"],
            "assumptions": draft.assumptions,
        }
        draft.write_text(
            "report.html", report.render(panel, [*judged.tests, ahead], tables, facts, config)
        )
        draft.evidence(evaluate.evidence(panel, judged.tests, baseline, config))
        covered = "share of actual sales within the central 80% interval"
        draft.limit(covered, scores["coverage"].get("0.8"), draft.limits.interval_coverage)
        spent = float(tables["orders"]["value"].sum())
        draft.limit("value of all orders", spent, (None, draft.limits.order_budget))
        draft.ask("value of all orders", spent, draft.limits.approve_order_value)
        weeks = replenish.weeks_of_demand(tables["orders"], tables["policy"])
        draft.ask("orders in weeks of demand", weeks, draft.limits.approve_order_weeks)
        draft.headline(
            metric=evaluate.HEADLINE,
            value=scores["model"][evaluate.HEADLINE],
            baseline_name=baseline,
            baseline=plain,
            higher_is_better=False,
            rows=tables["orders"].height,
            unit="order proposals",
        )

    made = dataset.produce(
        run,
        "artefacts/inventory",
        build,
        inputs=[series, backtest, forecaster, orders],
        config=config,
    )
    return dataset.release(run, made)


def flow(step: Step) -> Ref:
    """Features -> series -> backtest and forecaster -> orders -> release."""
    features = step(pin_features)
    embeddings = step(pin_embeddings)
    series = step(build_series, features)
    judged = step(backtest, series)
    forecaster = step(train_forecaster, series)
    orders = step(propose_orders, features, series, judged, forecaster, embeddings)
    return step(publish_release, series, judged, forecaster, orders)


def _config(run: Run, series: Ref) -> InventoryConfig:
    """Return the settings with the country that the series were made for."""
    from ecom_tasks.artefacts import dataset

    country = dataset.manifest(series).metrics["country"]
    return InventoryConfig.of(run).model_copy(update={"country": country})


def _country(products: Ref) -> str:
    """Return the country that the shop's source file names; empty where it names none."""
    from ecom_tasks.artefacts import dataset

    inputs = dataset.manifest(products).inputs
    sources = (Ref(ref) for name, ref in inputs.items() if name.startswith("sources/"))
    return next((dataset.manifest(ref).metrics.get("country", "") for ref in sources), "")


def _rows(ref: Ref) -> pl.LazyFrame | None:
    from ecom_tasks.artefacts import dataset

    return dataset.scan(ref) if dataset.has_rows(ref) else None


def _by_day(
    run: Run, lines: Ref, promotions: Ref, products: Ref, config: InventoryConfig
) -> tuple[list[pl.LazyFrame], list[pl.LazyFrame]]:
    """Return what sold on each day, and what is promoted on each day, in parts."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.features import demand

    goods, by_product = dataset.scan(products), "by_product/*.parquet"
    sold = [
        demand.build_daily(part, goods, run.as_of, config.country, config.paydays)
        for part in dataset.scan_each(lines, by_product)
    ]
    planned = [
        demand.promotion_days(part, goods, run.as_of, config.horizon)
        for part in dataset.scan_each(promotions, by_product)
    ]
    return sold, planned


def _panel(series: Ref, config: InventoryConfig) -> Panel:
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.inventory.series import from_frames

    keys, periods = (
        dataset.scan(series, f"{name}.parquet").collect()
        for name in ("series", f"{config.period}s")
    )
    return from_frames(keys, periods, config)


def _members(panel: Panel, forecaster: Ref, config: InventoryConfig) -> Members:
    """Read the forecasts of the weeks ahead back."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.inventory import ensemble, layout

    raw, others = (
        dataset.scan(forecaster, f"{name}.parquet").collect() for name in ("forecasts", "others")
    )
    mean, quantiles = layout.forecast_arrays(raw, panel.series, config.quantiles)
    centres = layout.centres_arrays(others, panel.series)
    centres |= ensemble.centres_of(mean, quantiles, config)
    return ensemble.Members(panel.periods, centres, quantiles)


def _shared_error(panel: Panel, judged: Backtest, config: InventoryConfig) -> float:
    """Return how errors of products in the same week went together in the test windows."""
    import numpy as np

    from ecom_tasks.inventory import evaluate, reconcile

    actual = np.concatenate(
        [evaluate.actual(panel, each.origin, config) for each in judged.tests], axis=1
    )
    quantiles = np.concatenate([each.quantiles for each in judged.tests], axis=1)
    return reconcile.shared_error(actual.astype(np.float64), quantiles, config.quantiles)


def _calibrations(judged: Backtest) -> dict[str, Any]:
    from dataclasses import asdict

    each = {str(window.origin): window.calibration for window in judged.reviews}
    return {
        "release": asdict(judged.calibration),
        "weights": asdict(judged.learnt.combination),
        "reviews": {origin: asdict(found) for origin, found in each.items() if found},
    }


def _backtest(series: Ref, backtest: Ref, config: InventoryConfig) -> Backtest:
    """Read the test windows back."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.inventory import layout
    from ecom_tasks.inventory.calibrate import Calibration
    from ecom_tasks.inventory.combine import Combination
    from ecom_tasks.inventory.ensemble import Learnt
    from ecom_tasks.inventory.evaluate import Backtest, Window

    found = dataset.read_json(backtest, "calibration.json")
    count = dataset.manifest(series).metrics["series"]
    reviews = []
    for origin in sorted(map(int, found["reviews"])):
        frame = dataset.scan(backtest, f"origin={origin:04d}.parquet").collect()
        mean, quantiles = layout.forecast_arrays(frame, count, config.quantiles)
        learnt = Calibration(**found["reviews"][str(origin)])
        reviews.append(Window(origin, mean, quantiles, learnt))
    return Backtest(
        reviews[:: config.horizon],
        reviews,
        Learnt(Combination(**found["weights"]), Calibration(**found["release"])),
    )
