"""What if: another price or a promotion for a product, by the models that are in service.

Units are the published forecast; a price changes them by the published elasticity, a promotion by
the uplift that was published with the forecast. Nothing is trained or guessed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from ecom_console import demand, inventory, plots, pricing, published, render, rights
from ecom_console.published import Version
from ecom_tasks.artefacts.release import PRODUCTION

if TYPE_CHECKING:
    pass

_LARGEST_PRICE = 1e6
_FOUND = 20

router = APIRouter(prefix="/whatif", dependencies=[rights.reads("pricing", "inventory")])


@router.get("", response_class=HTMLResponse)
def page(  # noqa: PLR0913  (the fields of the form)
    request: Request, id: str = "", location: str = "",
    price: str = "", promotion: str = "", stock: str = "", q: str = "",
) -> HTMLResponse:  # fmt: skip
    """Ask for a product, then show what a change would bring."""
    prices = published.in_channel(pricing.NAME, PRODUCTION)
    stocks = published.in_channel(inventory.NAME, PRODUCTION)
    missing = [name for name, each in (("pricing", prices), ("inventory", stocks)) if each is None]
    if prices is None or stocks is None:
        return render.page(request, "whatif.html", missing=missing)
    shared: dict[str, Any] = {
        "missing": [],
        "id": id,
        "q": q,
        "found": products(stocks, q) if q or not id else [],
    }
    if not id:
        return render.page(request, "whatif.html", scenario=None, **shared)
    wrong, new_price = number(price, "price")
    wrong_stock, own_stock = number(stock, "stock")
    known = start(prices, stocks, id, location)
    if known is None or wrong or wrong_stock:
        reason = wrong or wrong_stock or f"Inventory forecasts no product {id}"
        return render.page(
            request, "whatif.html", status=404 if known is None else 422, scenario=None,
            reason=reason, **shared,
        )  # fmt: skip
    made = scenario(prices, known, new_price, promotion, own_stock)
    return render.page(
        request, "whatif.html", scenario=made, known=known, price=price, promotion=promotion,
        stock=stock, location=known["location_id"], ahead=ahead_figure(made), **shared,
    )  # fmt: skip


def number(text: str, name: str) -> tuple[str, float | None]:
    """Read a field of the form: what is wrong with it, and its value; empty counts as not given."""
    if not text.strip():
        return "", None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return f"The {name} {text!r} is no number", None
    if not (0 < value < _LARGEST_PRICE or (name == "stock" and value == 0)):
        return f"The {name} {text!r} is out of range", None
    return "", value


def products(found: Version, text: str) -> list[dict[str, Any]]:
    """Return products whose title or id has the text, those that sell for most first."""
    from ecom_console import grids

    rows = grids.chosen(inventory.orders(found), {"q": text}, inventory.SEARCH)
    wanted = ["product_id", "location_id", "title", "weekly_demand"]
    return (
        rows.sort("value", descending=True, nulls_last=True).select(wanted).head(_FOUND).to_dicts()
    )


def start(
    prices: Version, stocks: Version, product_id: str, location_id: str
) -> dict[str, Any] | None:
    """Return how a product stands today: price, forecast, stock; None where none is forecast.

    Without a location, the first that the release has for the product.
    """
    import polars as pl

    rows = inventory.orders(stocks).filter(pl.col("product_id") == product_id)
    if location_id:
        rows = rows.filter(pl.col("location_id") == location_id)
    if rows.is_empty():
        return None
    order = rows.row(0, named=True)
    mine = (pl.col("product_id") == product_id) & (pl.col("location_id") == order["location_id"])
    weeks = inventory.in_time(published.frame(stocks, "forecasts.parquet").filter(mine)).sort(
        "week_starts_on"
    )
    promotions = published.frame(stocks, "whatif.parquet").filter(mine)
    on_hand = order["on_hand"]
    return {
        "product_id": product_id,
        "location_id": order["location_id"],
        "title": order["title"] or product_id,
        "position": demand.position(prices, product_id),
        "weeks": weeks.to_dicts(),
        "promotions": {row["promotion"]: row for row in promotions.to_dicts()},
        "stock": None if on_hand is None else on_hand + (order["on_order"] or 0.0),
    }


def scenario(
    prices: Version, known: dict[str, Any], price: float | None, promotion: str, stock: float | None
) -> dict[str, Any]:
    """Return units, revenue, profit and stock cover as forecast, and with the change.

    The promotion is for the first week ahead, as its uplift was published; the price for all weeks.
    The 80% interval of the change adds what is not known of the elasticity and of the uplift, as
    if they erred together, which is the wider of the honest choices.

    Parameters
    ----------
    known : see `start`.
    stock : units on hand and on order, instead of what the release knows.
    """
    position = known["position"]
    today = position["current_price"] if position else None
    asked = price if price is not None and position else today
    factor = _factor(prices, position, asked) if position else (1.0, 1.0, 1.0)
    added = _added(known, promotion)
    usual = [float(week["mean"]) for week in known["weeks"]]
    changed = [_week(units, added if i == 0 else _NOTHING, factor) for i, units in enumerate(usual)]
    cost = position["unit_cost"] if position else None
    left = stock if stock is not None else known["stock"]
    return {
        "weeks": [week["week_starts_on"].isoformat() for week in known["weeks"]],
        "usual": usual,
        "changed": changed,
        "price": (today, asked),
        "now": _totals(usual, today, cost, left),
        "then": _totals([each[0] for each in changed], asked, cost, left),
        "low": _totals([each[1] for each in changed], asked, cost, left),
        "high": _totals([each[2] for each in changed], asked, cost, left),
        "stock": left,
        "promotion": promotion if promotion in known["promotions"] else "",
        "outside": position is not None and asked is not None
        and abs(asked / position["current_price"] - 1) > _FAR,
    }  # fmt: skip


_NOTHING = (0.0, 0.0, 0.0)
_FAR = 0.25
"""A price further from today's than this lies beyond what most products' data ever showed."""


def _factor(prices: Version, position: dict[str, Any], price: float | None) -> tuple[float, ...]:
    import numpy as np

    answer = demand.answer(prices, position, np.array([price], dtype=float))
    return float(answer.expected[0]), float(answer.low[0]), float(answer.high[0])


def _added(known: dict[str, Any], promotion: str) -> tuple[float, float, float]:
    row = known["promotions"].get(promotion)
    if row is None:
        return _NOTHING
    return float(row["uplift"]), float(row["uplift_q10"]), float(row["uplift_q90"])


def _week(units: float, added: tuple[float, ...], factor: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(max(0.0, units + more) * times for more, times in zip(added, factor, strict=True))


def _totals(
    units: list[float], price: float | None, cost: float | None, stock: float | None
) -> dict[str, float | None]:
    total = sum(units)
    weekly = total / len(units) if units else 0.0
    priced = price is not None and cost is not None
    return {
        "units": total,
        "revenue": total * price if price is not None else None,
        "profit": total * (price - cost)
        if priced and price is not None and cost is not None
        else None,
        "cover": None if stock is None else cover(units, stock) if weekly else None,
    }


def cover(units: list[float], stock: float) -> float:
    """Return for how many weeks a stock lasts; beyond the forecast, at the mean of its weeks."""
    weeks = 0.0
    for each in units:
        if stock < each:
            return weeks + stock / each
        stock -= each
        weeks += 1
    return weeks + stock / (sum(units) / len(units))


def ahead_figure(made: dict[str, Any]) -> dict[str, Any]:
    """Return units a week as forecast, and with the change."""
    expected, low, high = ([round(each[part], 3) for each in made["changed"]] for part in range(3))
    same = all(abs(a - b) < 1e-9 for a, b in zip(expected, made["usual"], strict=True))
    traces = [plots.line("as forecast", made["weeks"], [round(u, 3) for u in made["usual"]], "text",
                         mode="lines+markers")]  # fmt: skip
    if not same:
        traces += [
            *plots.band("interval of the change", made["weeks"], low, high),
            plots.line("with the change", made["weeks"], expected, "accent", mode="lines+markers"),
        ]
    said = ", ".join(f"{units:.1f}" for units in expected)
    return plots.figure(
        f"Units a week with the change: {said}", traces,
        yaxis={"title": {"text": "units"}, "rangemode": "tozero"},
        xaxis={"tickvals": made["weeks"]},
    )  # fmt: skip
