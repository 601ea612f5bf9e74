"""The release's one page: how buyers answer to prices, what is proposed, what cannot be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ecom_tasks.figures import BLUE, GREY, ORANGE, Figure
from ecom_tasks.metrics.off_policy import DOUBLY_ROBUST
from ecom_tasks.pricing import instruments, logged
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.evaluate import BASELINES, CONTENDERS, ELASTICITIES, NO_RESPONSE
from ecom_tasks.pricing.evidence import CANNOT_TELL, STRONG, WEAK
from ecom_tasks.pricing.optimise import demand_factor
from ecom_tasks.pricing.variation import ENOUGH
from ecom_tasks.reports import Section, page

_COLOURS = {STRONG: BLUE, WEAK: ORANGE, CANNOT_TELL: GREY}
_CATEGORIES_SHOWN = 40
_CURVES_SHOWN = 4
_CHANGES_SHOWN = 20


@dataclass(frozen=True)
class Findings:
    """What the page shows; see `model.Fitted`, `evaluate` and `optimise.propose_all`."""

    products: pl.DataFrame
    categories: pl.DataFrame
    prices: pl.DataFrame
    calibration: pl.DataFrame
    cross: pl.DataFrame
    tests: pl.DataFrame
    promotions: pl.DataFrame
    groups: pl.DataFrame
    off_policy: pl.DataFrame
    metrics: dict[str, Any]
    assumptions: list[str]


def render(title: str, found: Findings, config: PricingConfig) -> str:
    """Return the page as self-contained HTML."""
    return page(
        title,
        _verdict(found.metrics),
        [
            _held_out(found),
            _forest(found, config),
            _curves(found, config),
            _changes(found),
            _logs(found, config),
            _guardrails(found),
            _neighbours(found),
            _promotions(found),
            _unknown(found),
            _tests(found),
            *_instrument(found.products, config),
            _groups(found),
            _method(found, config),
        ],
    )


def _verdict(metrics: dict[str, Any]) -> str:
    moved, counts, value = (
        metrics["held_out"]["moved_prices"],
        metrics["categories"],
        metrics["proposals"],
    )
    better = 1 - moved[ELASTICITIES] / moved[NO_RESPONSE]
    return (
        f"In held-out weeks whose price had moved, elasticities foretell units {better:.1%} better "
        f"than a model that ignores price. In {counts['negative']} of the {counts['enough']} "
        "categories with enough price variation the whole interval lies below zero; for the others "
        f"we cannot tell. {value['products']} prices are proposed, expected to change profit by "
        f"{value['expected']:+,.0f} a week ({value['lower']:+,.0f} to {value['upper']:+,.0f}), if "
        "buyers go on answering as they did."
    )


def _held_out(found: Findings) -> Section:
    told = found.calibration
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    change = told["price_change"].to_numpy() * 100
    axes.axhline(0, color=GREY, linewidth=1)
    axes.plot(change, told["told"].to_numpy() * 100, color=BLUE, label="foretold")
    axes.plot(change, told["seen"].to_numpy() * 100, "o", color=ORANGE, label="seen")
    axes.set_xlabel("price, % off what season and promotion foretold")
    axes.set_ylabel("units, % off no response")
    axes.legend(frameon=False)
    scores = found.metrics["held_out"]
    table = pl.DataFrame({
        "model": CONTENDERS,
        "price had moved": [scores["moved_prices"][name] for name in CONTENDERS],
        "all weeks": [scores["all_prices"][name] for name in CONTENDERS],
    })
    return Section(
        "Does it hold in weeks that taught nothing?",
        "Each dot is an eighth of the held-out product-weeks whose price had moved, ordered by how "
        "far. The table has the mean Poisson deviance a product-week, lower is better; the gate "
        f"compares the first row with {' and '.join(map(repr, BASELINES))}.",
        figure,
        table,
    )


def _forest(found: Findings, config: PricingConfig) -> Section:
    enough = found.categories.filter(
        (pl.col("variation") == ENOUGH) & pl.col("estimate").is_not_null()
    )
    shown = (
        enough
        .sort("products_enough", "category", descending=[True, False])
        .head(_CATEGORIES_SHOWN)
        .sort("estimate", "category", descending=[True, False])
    )
    figure = Figure(figsize=(7, 0.6 + 0.2 * max(shown.height, 3)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=1)
    for place, row in enumerate(shown.iter_rows(named=True)):
        colour = _COLOURS[row["grade"]]
        axes.plot([row["lower"], row["upper"]], [place, place], color=colour)
        axes.plot(row["estimate"], place, "o", color=colour, markersize=4)
    axes.set_yticks(range(shown.height), [name[:44] for name in shown["category"]], fontsize=7)
    axes.set_ylim(-1, shown.height)
    axes.set_xlabel(f"own-price elasticity, {config.confidence:.0%} interval")
    return Section(
        "How buyers of each category answer",
        f"The {shown.height} categories with the most products whose price moved enough, of "
        f"{enough.height}. Blue: strong evidence. Orange: next week's price seems to explain this "
        "week's demand, so the answer may be something else. Grey: cannot tell. At -2, a price 1% "
        "higher sells 2% less.",
        figure,
    )


def _curves(found: Findings, config: PricingConfig) -> Section:
    shown = (
        found.prices
        .filter((pl.col("change") != 0) & (pl.col("grade") == STRONG))
        .sort("profit_change", "product_id", descending=[True, False])
        .head(_CURVES_SHOWN)
        .join(found.products.select("product_id", "estimate", "error"), on="product_id")
    )
    if shown.is_empty():
        return Section("Demand and profit of some products", "No strong evidence on any product.")
    figure = Figure(figsize=(7, 2.1 * shown.height), layout="constrained")
    grid = figure.subplots(shown.height, 2, squeeze=False)
    ratio = np.linspace(1 - 2 * config.largest_step, 1 + 2 * config.largest_step, 41)
    for (left, right), row in zip(grid, shown.iter_rows(named=True), strict=True):
        answers = row["estimate"] + row["error"] * np.array([-1.96, 0.0, 1.96])
        units = row["weekly_units"] * demand_factor(ratio, answers, config.largest_response)
        price = ratio * row["current_price"]
        profit = units * (price - row["unit_cost"])[:, None]
        for axes, curve, name in ((left, units, "units a week"), (right, profit, "profit a week")):
            axes.fill_between(price, curve[:, 0], curve[:, 2], color=BLUE, alpha=0.2, linewidth=0)
            axes.plot(price, curve[:, 1], color=BLUE)
            axes.axvline(row["current_price"], color=GREY)
            axes.axvline(row["proposed_price"], color=ORANGE)
            axes.set_ylabel(name, fontsize=8)
        left.set_title(f"{row['product_id']}, {row['category'][:40]}", fontsize=8, loc="left")
    return Section(
        "Demand and profit of some products",
        "The proposals with strong evidence that are worth most. Grey: price today; orange: "
        "proposed; the band is the elasticity's interval.",
        figure,
    )


def _changes(found: Findings) -> Section:
    shown = (
        found.prices
        .filter(pl.col("change") != 0)
        .sort("profit_change", "product_id", descending=[True, False])
        .head(_CHANGES_SHOWN)
        .select(
            "product_id",
            "category",
            pl.col("current_price").alias("now"),
            pl.col("proposed_price").alias("proposed"),
            pl.col("profit_change").round(2).alias("profit a week"),
            pl.col("profit_change_lower").round(2).alias("at least"),
            "reason",
            pl.col("binding_guardrail").alias("held back by"),
        )
    )
    return Section("Proposed changes that are worth most", table=shown)


def _logs(found: Findings, config: PricingConfig) -> Section:
    title = "What proposed prices would have earned in weeks that are known"
    judged = found.off_policy
    whole = judged.filter(pl.col("scope") == logged.ALL)
    if whole.is_empty():
        return Section(title, "No price changes, or of none that does is a week logged.")
    best = whole.filter(pl.col("method") == DOUBLY_ROBUST).row(0, named=True)
    counts = found.metrics["off_policy"]["products_by_verdict"]
    products = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    section = (
        f"{_judgement(best, config)} Of the {sum(counts.values())} products that change: "
        f"{products}. Compared are weeks without a promotion in which both prices were likely "
        f"enough (at least {config.log_least_odds:.0%}; {best['compared_share']:.0%} of those "
        f"weeks were), each product with its neighbours' prices as they were. IPS and SNIPS count "
        f"only weeks whose price lay within {config.log_band:.1%} of the one in question; direct "
        "trusts the elasticities, and its interval knows nothing of their error; doubly robust "
        "corrects them by those weeks, and is what is believed. Intervals: blocks of "
        f"{config.log_block_weeks} weeks drawn again. Cannot tell: fewer than "
        f"{config.log_least_decisions} equally weighted decisions at such prices, or odds that do "
        "not add up."
    )
    told = pl.concat([
        whole.sort("method"),
        judged
        .filter((pl.col("scope") == "category") & (pl.col("method") == DOUBLY_ROBUST))
        .sort("effective_decisions", "name", descending=[True, False])
        .head(_CATEGORIES_SHOWN // 2),
    ])
    table = told.select(
        pl.col("name").alias("products"), "method", "decisions", "effective_decisions",
        pl.col("value_now").alias("at today's price"), pl.col("value").alias("at proposed"),
        "change", pl.col("change_lower").alias("at least"), pl.col("change_upper").alias("at most"),
        "verdict",
    )  # fmt: skip
    return Section(title, section, _value_plot(told, config), table)


def _judgement(best: dict[str, Any], config: PricingConfig) -> str:
    """Say in words what the logs tell of all proposals together."""
    if best["verdict"] == CANNOT_TELL:
        return f"Whether the proposed prices earn more cannot be told from the logs: {best['why']}."
    now = best["value_now"]
    said = (
        f"{best['change'] / now:+.1%} profit ({best['change_lower'] / now:+.1%} to "
        f"{best['change_upper'] / now:+.1%}, {config.confidence:.0%} interval)"
        if now > 0
        else f"{best['change']:+.3f} profit a decision"
    )
    meaning = {
        logged.BETTER: "more than today's prices, beyond chance",
        logged.WORSE: "less than today's prices, beyond chance: look at them before they are used",
        logged.SAME: "which is no difference that can be told",
    }[best["verdict"]]
    return (
        f"In {best['decisions']:,.0f} logged weeks of products and places, proposed prices would "
        f"have earned {said}: {meaning}."
    )


def _value_plot(told: pl.DataFrame, config: PricingConfig) -> Figure | None:
    """Draw the change of profit with its interval, as a share of what today's prices earn."""
    shown = told.filter(
        (pl.col("value_now") > 0)
        & pl.col("change_lower").is_not_null()
        & ((pl.col("verdict") != CANNOT_TELL) | (pl.col("scope") == logged.ALL))
    ).reverse()
    if shown.is_empty():
        return None
    figure = Figure(figsize=(7, 0.8 + 0.22 * max(shown.height, 3)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=1)
    names = []
    for place, row in enumerate(shown.iter_rows(named=True)):
        names.append(row["method"] if row["scope"] == logged.ALL else row["name"][:44])
        decided = row["verdict"] in {logged.BETTER, logged.WORSE}
        colour = BLUE if decided else GREY
        ends = [row[name] / row["value_now"] * 100 for name in ("change_lower", "change_upper")]
        axes.plot(ends, [place, place], color=colour)
        axes.plot(row["change"] / row["value_now"] * 100, place, "o", color=colour, markersize=4)
    axes.set_yticks(range(shown.height), names, fontsize=7)
    axes.set_ylim(-1, shown.height)
    axes.set_xlabel(f"profit at proposed prices, % off today's, {config.confidence:.0%} interval")
    return figure


def _guardrails(found: Findings) -> Section:
    told = found.prices.filter(pl.col("grade") != CANNOT_TELL)
    named = pl.col("binding_guardrail")
    outcome = (
        pl
        .when(named.str.contains(" x "))
        .then(pl.lit("keeps its price: two rules collide"))
        .when((pl.col("change") == 0) & (named == ""))
        .then(pl.lit("keeps its price: no sure gain"))
        .when(pl.col("change") == 0)
        .then(pl.lit("keeps its price: no allowed ending"))
        .when(named == "")
        .then(pl.lit("free to its best price"))
        .otherwise(pl.lit("held back by ") + named)
    )
    table = (
        told
        .group_by(outcome.alias("outcome"))
        .agg(pl.len().alias("products"), pl.col("change").mean().alias("mean change"))
        .sort("products", "outcome", descending=[True, False])
    )
    checked = found.metrics["proposals"]["products"]
    return Section(
        "Rules that bind",
        f"Each of the {checked} proposals was checked again against every rule before publishing: "
        f"none breaks one. {_robustness(found.prices)}",
        table=table,
    )


def _robustness(prices: pl.DataFrame) -> str:
    """Say how far the margin may be off before raises stop paying."""
    raised = prices.filter(pl.col("change") > 0).select(
        (1 - pl.col("break_even_cost") / pl.col("current_price")).alias("margin")
    )["margin"]
    least = raised.quantile(0.05)
    if least is None:
        return ""
    return (
        f"{raised.len()} of them are raises. What they earn depends on the unit cost; 95% of them "
        f"pay as long as the margin is below {least:.0%} of today's price."
    )


def _neighbours(found: Findings) -> Section:
    told = found.cross.filter("found").sort(pl.col("estimate").abs(), "product_id", descending=True)
    if told.is_empty():
        return Section("Whose price moves whose units", "No cross effect was found beyond chance.")
    risen = told.filter(pl.col("estimate") > 0).height
    return Section(
        "Whose price moves whose units",
        f"{told.height} effects were found, {risen} of them between substitutes (above zero: units "
        "of the first rise when the other gets dearer). Prices of their categories are chosen "
        "together.",
        table=told.select("product_id", pl.col("other_id").alias("price of"), "category",
                          "estimate", "lower", "upper", "signs_agree"),
    )  # fmt: skip


def _promotions(found: Findings) -> Section:
    if found.promotions.is_empty():
        return Section("What promotions brought", "No promotion ran often enough to be judged.")
    return Section(
        "What promotions brought",
        "Lift: units of a week under the mechanic over the same week without, the price taken off. "
        "Dip: the week after. Incremental units are those of all its weeks, dip counted; others of "
        "the category: what their units lose (cannibalisation) or gain (halo) while it runs.",
        table=found.promotions,
    )


def _groups(found: Findings) -> Section:
    return Section(
        "What groups of customers paid",
        "Prices do not know who buys. Discount: share off regular prices, which differs with what "
        "is bought and when. Beside others: paid over what all paid for the same product, place "
        "and week, less 1; what is left there are coupons and quantity discounts.",
        table=found.groups,
    )


def _tests(found: Findings) -> Section:
    if found.tests.is_empty():
        return Section("Price tests that would tell", "None is needed.")
    return Section(
        "Price tests that would tell",
        "For the best sellers of which history cannot tell. Locations change between the two "
        "prices in turn (with one location, the price itself does).",
        table=found.tests.select("product_id", "low", "high", "locations", "weeks", "design",
                                 "power", "enough"),
    )  # fmt: skip


def _unknown(found: Findings) -> Section:
    on_sale = found.products.join(found.prices, on="product_id", how="semi")
    table = (
        on_sale
        .filter(pl.col("grade") == CANNOT_TELL)
        .group_by(pl.col("why").alias("because"))
        .agg(pl.len().alias("products"))
        .sort("products", "because", descending=[True, False])
    )
    placebo = found.metrics["shop"]["placebo"]
    passed = found.metrics["categories"]["placebo_passed"]
    unclear = found.categories.filter(
        (pl.col("variation") == ENOUGH) & (pl.col("grade") == CANNOT_TELL)
    )
    names = ", ".join(unclear.sort("category")["category"]) or "none"
    return Section(
        "What cannot be told",
        "These products on sale keep their price. Placebo: the slope of this week's demand on next "
        f"week's price is {placebo['estimate']:.2f} ({placebo['lower']:.2f} to "
        f"{placebo['upper']:.2f}) over the shop, beside an elasticity of "
        f"{found.metrics['shop']['elasticity']['estimate']:.2f}; it should be near zero. By "
        f"category, {passed} of the {found.metrics['categories']['enough']} with enough price "
        f"variation pass. Categories with enough price variation that cannot be told: {names}.",
        table=table,
    )


def _instrument(products: pl.DataFrame, config: PricingConfig) -> list[Section]:
    """Say for which products the instrument was used, and where it was too weak."""
    if config.instrument == "none":
        return []
    asked = products.filter(pl.col("first_stage_f").is_not_null())
    used = asked.filter(pl.col("instrument").is_not_null())
    weak = asked.filter(pl.col("instrument").is_null()).sort("first_stage_f", "product_id")
    missing = products.filter(pl.col("variation") == instruments.MISSING).height
    return [
        Section(
            "What moved prices and not demand",
            f"pricing.instrument is {config.instrument}: {used.height} products are learnt from "
            f"the part of their price that goes with it. For {weak.height} it moves the price too "
            f"little (first-stage F below {instruments.LEAST_F:.0f}): of these we cannot tell, nor "
            f"of {missing} products without one. The table has the weakest.",
            None,
            pl
            .concat([weak, used.sort("first_stage_f", "product_id")])
            .select("product_id", "category", "first_stage_f", "instrument", "own_estimate", "why")
            .head(_CHANGES_SHOWN),
        )
    ]


def _method(found: Findings, config: PricingConfig) -> Section:
    return Section(
        "How to read this",
        "Elasticities come from how weekly units moved with weekly shelf prices after boosted "
        "trees took out season, trend, promotion, last week's price and how the category ran "
        "(double machine learning, cross-fitted). Thin products borrow from their category. They "
        f"describe short price moves of the past; steps stay within {config.largest_step:.0%} for "
        "that reason. Not considered: rivals' prices. Prices depend on product, place and week "
        "only, never on a customer. " + " ".join(found.assumptions),
    )
