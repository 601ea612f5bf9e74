"""Elasticities from all weeks, and from those before each held-out window."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.steps import reading
from ecom_tasks.pricing.steps.together import TOGETHER
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft
    from ecom_tasks.artefacts.manifest import FileEntry

DECISIONS, RECENT = "decisions", "recent"


def estimate_elasticities(run: Run, panel: Ref, together: Ref) -> Ref:
    """Own-price elasticity of each product and category, with interval and grade of evidence."""
    from ecom_tasks.artefacts import dataset

    config = PricingConfig.of(run)

    def build(draft: Draft) -> None:
        import polars as pl

        from ecom_tasks.pricing import model, parts, promotions, trials

        dealt, first, last = reading.dealt(panel, config)
        each_config = parts.config_of_each(config, len(dealt))
        before = last + timedelta(weeks=1)
        work = partial(_study, panel, together, draft.destination, (first, before), each_config)
        studied = []
        for each, entries in parts.over(work, dealt, "elasticities"):
            studied.append(each)
            draft.add(entries)
        promotions.tell_apart([each.ran for each in studied])
        fitted = model.pool([each.told for each in studied], config)
        draft.write_frame("products.parquet", reading.rounded(fitted.products))
        draft.write_frame("categories.parquet", reading.rounded(fitted.categories))
        draft.write_frame("cross.parquet", reading.rounded(fitted.cross))
        usual = pl.concat([each.usual for each in studied])
        tests = trials.propose(fitted.products, usual, config)
        draft.write_frame("price_tests.parquet", reading.rounded(trials.table(tests)))
        scores = pl.concat([each.scorecard for each in studied]).sort("category", "mechanic")
        draft.write_frame("promotions.parquet", reading.rounded(scores))
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

        dealt, first, last = reading.dealt(panel, config)
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
        draft.write_frame("held_out.parquet", reading.rounded(predicted))
        draft.write_frame(
            "calibration.parquet", reading.rounded(evaluate.calibration(predicted, 8))
        )
        draft.write_json("scores.json", evaluate.score(predicted))

    return dataset.produce(run, "work/pricing/evaluation", build, inputs=[panel], config=config)


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
    studied = parts.study(reading.weeks(ref, first, products), before, config, pairs)
    decisions = studied.decisions
    if decisions is None or not decisions.height:
        return replace(studied, decisions=None), []
    path = f"{DECISIONS}/{reading.name_of(products)}.parquet"
    entry = dataset.write_part(destination, path, decisions)
    return replace(studied, decisions=None), [entry]


def _foretell(
    ref: Ref, destination: str, span: tuple[date, date], config: PricingConfig, products: list[str]
) -> tuple[Any, list[FileEntry]]:
    """Foretell one part's held-out window, and store its rows; may run on a Dask worker."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import evaluate

    first, start = span
    told = evaluate.foretell(reading.weeks(ref, first, products), start, config)
    if told.rows is None:
        return told, []
    path = f"{RECENT}/{start}/{reading.name_of(products)}.parquet"
    entry = dataset.write_part(destination, path, told.rows)
    return replace(told, rows=None), [entry]


def _predict(fitted: Any, slope: float, start: date, uri: str) -> pl.DataFrame:
    """Predict one part's held-out window in all ways; may run on a Dask worker."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import evaluate

    return evaluate.predict(dataset.scan_files([uri]).collect(), fitted, slope, start)
