"""What was measured, held against its limits: one row a question, with what to do."""

from __future__ import annotations

from typing import Any

import polars as pl

from ecom_tasks.monitoring.config import MonitoringConfig
from ecom_tasks.monitoring.realised import lower_by_chance

NOTHING_YET, FINE, SHOWN, WARNING, ALERT = (
    "nothing to judge yet",
    "fine",
    "shown",
    "warning",
    "alert",
)
SCHEMA: dict[str, pl.DataType] = {
    "domain": pl.String(), "what": pl.String(), "where": pl.String(), "value": pl.Float64(),
    "limit": pl.Float64(), "verdict": pl.String(), "retrain": pl.Boolean(),
    "release": pl.String(), "said": pl.String(),
}  # fmt: skip
_DOMAINS = ("recommendation", "pricing", "inventory")
_MOST_ALERTS = 50
_TRAIN = "Models are trained anew by themselves"
_FEATURES = "today's features"


def judge(facts: dict[str, Any], drift: pl.DataFrame, config: MonitoringConfig) -> pl.DataFrame:
    """Answer each question.

    Parameters
    ----------
    facts : `judged` (domain -> version) and `realised` (domain -> figures), as measured
    drift : domain, table (`predictions`: of the two newest releases), release and the columns of
        `drift.SCHEMA`

    Returns
    -------
    DataFrame
        domain, what, where, value and the limit that it was held against (null where there is
        none), verdict, retrain (whether new training may help), release, said (what it means and
        what to do). Alerts come first.
    """
    rows: list[dict[str, Any]] = []
    for domain in _DOMAINS:
        release = facts["judged"].get(domain)
        if release is None:
            rows.append(_row(
                domain, "release to judge", "channel production", verdict=NOTHING_YET,
                said=f"No release of {config.judged_after_days} days ago was in service. Nothing "
                "need be done",
            ))  # fmt: skip
        figures = facts["realised"].get(domain)
        if figures is not None:
            found = _REALISED[domain](figures, config)
            rows += [each | {"release": release} for each in found]
        rows += _drifted(drift.filter(domain=domain), config)
    order = {verdict: at for at, verdict in enumerate((ALERT, WARNING, FINE, SHOWN, NOTHING_YET))}
    table = pl.DataFrame(rows, schema=SCHEMA, orient="row").with_columns(
        pl.col("value", "limit").round(6)
    )
    first = pl.col("verdict").replace_strict(order, return_dtype=pl.Int64)
    return table.sort(first, maintain_order=True)


def alerts(found: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the findings that somebody must be told of, at most fifty."""
    return found.filter(verdict=ALERT).head(_MOST_ALERTS).to_dicts()


def in_words(finding: dict[str, Any]) -> str:
    """Say what, where, value, limit and remedy in one line."""
    return (
        f"{finding['domain']}: {finding['what']} of {finding['where']} is {finding['value']:.3g}, "
        f"limit {finding['limit']:.3g}. {finding['said']}"
    )


def _row(domain: str, what: str, where: str, **facts: object) -> dict[str, Any]:
    """Return a finding; what `facts` leave out is not known, or not asked."""
    row = dict.fromkeys(SCHEMA) | {"verdict": SHOWN, "said": "", "retrain": False} | facts
    row["retrain"] = row["retrain"] and row["verdict"] == ALERT
    return row | {"domain": domain, "what": what, "where": where}


def _above(value: float | None, warning: float, alert: float) -> tuple[str, float]:
    """Return the verdict on a figure that should be small, and the limit it was held against."""
    if value is None:
        return SHOWN, warning
    if value > alert:
        return ALERT, alert
    return (WARNING, warning) if value > warning else (FINE, warning)


def _lists(figures: dict[str, Any], config: MonitoringConfig) -> list[dict[str, Any]]:
    where = f"orders from {figures['since']} to {figures['until']}"
    left = (
        f"{figures['new_customers']:,} customers who had no list and {figures['left_out']:,} "
        "purchases of products too new or too rare to be listed are left out"
    )
    if not figures["customers"] or not figures["promised"]:
        said = f"Nobody who has a list bought a product that could be in one. {left}"
        return [_row("recommendation", "hit rate at 10", where, said=said)]
    # The worst window promises least: seasons move the rate more than chance does.
    window, promised = min(
        figures["promised"].items(), key=lambda each: each[1]["hit_rate_at_10"]
    )  # fmt: skip
    before, now = promised["hit_rate_at_10"], figures["hit_rate"]
    p = lower_by_chance(now, figures["customers"], before, promised["customers"])
    limit = before * (1 - config.hit_rate_alert)
    verdict = FINE
    if p < config.chance:
        verdict = ALERT if now < limit else WARNING
    said = (
        f"Of {figures['customers']:,} customers with a list who bought since, {now:.1%} "
        f"({figures['hit_rate_lower']:.1%} to {figures['hit_rate_upper']:.1%}) bought one of its "
        f"first ten; the release's own evaluation, {window}, promised {before:.1%}. So low by "
        f"chance: p = {p:.2g}, one-sided test of two shares. {left}"
    )
    if verdict in {ALERT, WARNING}:
        said += f". {_TRAIN}; see whether the shop or its catalogue changed, or rules cut the lists"
    ndcg = min(each["ndcg_at_10"] for each in figures["promised"].values())
    below = figures["ndcg_upper"] < ndcg
    return [
        _row("recommendation", "hit rate at 10", where, value=now, limit=limit, verdict=verdict,
             said=said, retrain=True),
        _row("recommendation", "NDCG at 10", where, value=figures["ndcg"], limit=ndcg,
             verdict=WARNING if below else FINE,
             said=f"Interval {figures['ndcg_lower']:.4f} to {figures['ndcg_upper']:.4f}; the limit "
             "is the lowest of the release's own evaluation"),
    ]  # fmt: skip


def _forecasts(figures: dict[str, Any], config: MonitoringConfig) -> list[dict[str, Any]]:
    promised = figures["promised"]
    where = f"{figures['forecasts']:,} forecasts"
    rows = []
    if promised["wape"] and figures["wape"] is not None:
        times = figures["wape"] / promised["wape"]
        verdict, limit = _above(times, config.wape_warning, config.wape_alert)
        rows.append(_row(
            "inventory", "WAPE", where, value=figures["wape"], limit=limit * promised["wape"],
            verdict=verdict, retrain=True,
            said=f"{times:.2f} times the {promised['wape']:.3f} of the backtest"
            + _remedy(verdict, "look at the departments and weeks it comes from"),
        ))  # fmt: skip
    if figures["bias"] is not None:
        verdict, limit = _above(abs(figures["bias"]), config.bias_warning, config.bias_alert)
        direction = "much" if figures["bias"] > 0 else "little"
        rows.append(_row(
            "inventory", "bias", where, value=figures["bias"], limit=limit, verdict=verdict,
            retrain=True,
            said=f"{abs(figures['bias']):.1%} of what sold was forecast too {direction}; the "
            f"backtest had {promised['bias']:+.1%}"
            + _remedy(verdict, "a season, a price or empty shelves may be behind it"),
        ))  # fmt: skip
    if figures["coverage"] is not None:
        low, high = config.coverage
        inside = low <= figures["coverage"] <= high
        verdict = FINE if inside else ALERT
        told = (
            "" if promised["coverage"] is None else f"; the backtest had {promised['coverage']:.1%}"
        )
        rows.append(_row(
            "inventory", "coverage of the central 80% interval", where,
            value=figures["coverage"], limit=high if figures["coverage"] > high else low,
            verdict=verdict, retrain=True,
            said=f"May lie within {low:.0%} to {high:.0%}{told}"
            + _remedy(verdict, "safety stocks rest on these intervals: order with care"),
        ))  # fmt: skip
    return rows


def _prices(figures: dict[str, Any], config: MonitoringConfig) -> list[dict[str, Any]]:
    where = f"{figures['followed']:,} price changes followed"
    said = (
        f"Of {figures['proposed']:,} proposed changes {figures['not_followed']:,} were not "
        f"followed. Products at their old price sold {figures['level']:.2f} times what they did, "
        f"over {figures['weeks']} weeks"
    )
    if not figures["followed"]:
        return [_row("pricing", "units after price changes", where, said=said)]
    ratio = figures["units"] / figures["expected"] if figures["expected"] else None
    verdict, limit = _above(figures["outside"], config.outside_warning, config.outside_alert)
    if figures["followed"] < config.followed_least:
        verdict = SHOWN
        said += f". Fewer than {config.followed_least} say little"
    told = f"Together they sold {ratio:.2f} times what was expected. " if ratio is not None else ""
    return [
        _row("pricing", "share of products with units outside what was expected", where,
             value=figures["outside"], limit=limit, verdict=verdict, retrain=True,
             said=told + said + _remedy(verdict, "see which products in realised_prices")),
    ]  # fmt: skip


_REALISED = {"recommendation": _lists, "inventory": _forecasts, "pricing": _prices}


def _remedy(verdict: str, look: str) -> str:
    if verdict == ALERT:
        return f". {_TRAIN}; {look}"
    return f". Look: {look}" if verdict == WARNING else ""


def _drifted(drift: pl.DataFrame, config: MonitoringConfig) -> list[dict[str, Any]]:
    """Judge the columns; a table has one row for all that did not move."""
    rows = []
    for (domain, table, release), columns in drift.group_by(
        "domain", "table", "release", maintain_order=True
    ):
        found = [
            each
            for column in columns.iter_rows(named=True)
            for each in _column(str(domain), str(table), column, config)
        ]
        what = "predictions" if table == "predictions" else f"features/{table}"
        calm = sum(each["verdict"] == FINE for each in found if each["what"] == _INDEX)
        told = [each for each in found if each["verdict"] in {ALERT, WARNING}]
        grow = sum(f"{table}.{name}" in config.growing for name in columns["column"])
        summary = _row(
            str(domain), "columns that have not drifted", what, value=float(calm),
            verdict=SHOWN, said=f"Of {columns.height}, {grow} of which grow with the history and "
            "are not judged; all are in drift.parquet",
        )  # fmt: skip
        rows += [each | {"release": release} for each in [*told, summary]]
    return rows


_INDEX = "population stability index"


def _column(
    domain: str, table: str, column: dict[str, Any], config: MonitoringConfig
) -> list[dict[str, Any]]:
    name = f"{table}.{column['column']}"
    if name in config.growing:
        return []
    predicted = table == "predictions"
    where = f"the last releases' {column['column']}" if predicted else f"{name} in {_FEATURES}"
    chance = column["psi_by_chance"] or 0.0
    verdict, limit = _above(
        column["psi"], max(config.stability_warning, chance), max(config.stability_alert, chance)
    )
    # Two releases differ: training once more would only make a third.
    trained = _TRAIN if verdict == ALERT else "Look"
    look = f"{trained}; is it the shop, the season or the delivery?"
    if predicted:
        look = "Compare the two newest releases (`diff`); `rollback` serves the older one"
    rows = [
        _row(domain, _INDEX, where, value=column["psi"], limit=limit, verdict=verdict, said=look,
             retrain=not predicted)
    ]  # fmt: skip
    more = column["missing_now"] - column["missing_before"]
    verdict, limit = _above(more, config.missing_warning, config.missing_alert)
    # A model trained on a hole would learn the hole.
    rows.append(_row(
        domain, "rise of the share of missing values", where, value=more, limit=limit,
        verdict=verdict, said="See whether the delivery lacks the column, and ingest it again",
    ))  # fmt: skip
    fresh, most = column["new_share"], config.new_categories_warning
    rows.append(_row(
        domain, "share of rows in new categories", where, value=fresh, limit=most,
        verdict=WARNING if fresh > most else FINE,
        said=f"New: {column['new_categories']}. Were they renamed, or are they new in the shop?",
    ))  # fmt: skip
    return rows
