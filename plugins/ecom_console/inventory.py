"""Inventory: what to order, what stands out, and what the policy costs beside the textbook's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from ecom_console import grids, overview, plots, published, render, rights
from ecom_console.grids import Choice, Column
from ecom_console.published import Version

if TYPE_CHECKING:
    import polars as pl

NAME = "artefacts/inventory"
HISTORY_WEEKS = 26
_KEY = ["product_id", "location_id"]
_PRODUCT = "inventory/product?id={product_id}&location={location_id}"
ORDERS = (
    Column("title", "Product", "title", _PRODUCT),
    Column("location_id", "Location", "place"),
    Column("order_quantity", "Order, units", "number"),
    Column("quantity_before_stock", "Before stock", "number"),
    Column("value", "Value", "money"),
    Column("on_hand", "On hand", "number"),
    Column("weekly_demand", "Sells a week", "number"),
    Column("safety_stock", "Safety stock", "number"),
    Column("abc", "Value class"),
    Column("xyz", "Steadiness"),
    Column("lead_time_days", "Lead time, days", "number"),
    Column("product_id", "Id", "code"),
)
EXCEPTIONS = (
    Column("exception", "Exception", "badge"),
    Column("title", "Product", "title", _PRODUCT),
    Column("location_id", "Location", "place"),
    Column("units", "Units", "number"),
    Column("value", "Value", "money"),
    Column("reason", "Why", "long"),
    Column("product_id", "Id", "code"),
)
CLASSES = (
    Choice("abc", "Value class"),
    Choice("xyz", "Steadiness"),
    Choice("location_id", "Location"),
)
KINDS = (Choice("exception", "Exception"), Choice("location_id", "Location"))
SEARCH = ("title", "product_id")

router = APIRouter(prefix="/inventory", dependencies=[rights.reads("inventory")])


@router.get("", response_class=HTMLResponse)
def orders_page(request: Request) -> HTMLResponse:
    """Show the proposed orders, and how the policy fares."""
    found = published.in_service(NAME)
    table = grids.grid(
        orders(found), ORDERS, request.query_params, sort="value", search=SEARCH, choices=CLASSES
    )
    return render.page(
        request, "inventory.html", found=overview.facts(found), grid=table, tab="orders",
        cost=cost_figure(found.made.metrics), **summary(found),
    )  # fmt: skip


@router.get("/exceptions", response_class=HTMLResponse)
def exceptions_page(request: Request) -> HTMLResponse:
    """Show what stands out: missed forecasts, overstock, and the like."""
    found = published.in_service(NAME)
    table = grids.grid(
        published.frame(found, "exceptions.parquet"), EXCEPTIONS, request.query_params,
        sort="value", search=SEARCH, choices=KINDS,
    )  # fmt: skip
    return render.page(
        request, "inventory.html", found=overview.facts(found), grid=table, tab="exceptions",
        cost=None, **summary(found),
    )  # fmt: skip


@router.get("/orders.csv")
def orders_csv(request: Request) -> Response:
    """Hand out the orders that the filters leave."""
    found = published.in_service(NAME)
    rows = grids.chosen(orders(found), request.query_params, SEARCH, CLASSES)
    return attachment(rows, "orders.csv")


@router.get("/exceptions.csv")
def exceptions_csv(request: Request) -> Response:
    """Hand out the exceptions that the filters leave."""
    found = published.in_service(NAME)
    table = published.frame(found, "exceptions.parquet")
    return attachment(grids.chosen(table, request.query_params, SEARCH, KINDS), "exceptions.csv")


@router.get("/product", response_class=HTMLResponse)
def product_page(request: Request, id: str, location: str = "all") -> HTMLResponse:
    """Show one product: its past, its forecast as a fan, and why so much is ordered."""
    found = published.in_service(NAME)
    known = product(found, id, location)
    if known is None:
        raise HTTPException(404, f"Inventory has no product {id} at location {location}")
    return render.page(
        request, "inventory_product.html", found=overview.facts(found), product=known,
        fan=fan(found, id, location),
    )  # fmt: skip


def attachment(rows: pl.DataFrame, name: str) -> Response:
    """Answer with a file for a spreadsheet."""
    headers = render.headers("default-src 'none'")
    headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return Response(grids.csv(rows), media_type="text/csv; charset=utf-8", headers=headers)


def orders(found: Version) -> pl.DataFrame:
    """Return the order proposals with the class and the policy of each product."""

    def make() -> pl.DataFrame:
        policy = published.frame(found, "policy.parquet")
        classes = published.frame(found, "classes.parquet")
        extra = ["weekly_demand", "safety_stock", "reorder_point", "base_stock_level"]
        return (
            published
            .frame(found, "orders.parquet")
            .join(policy.select(*_KEY, *extra), on=_KEY, how="left", maintain_order="left")
            .join(classes.select(*_KEY, "abc", "xyz"), on=_KEY, how="left", maintain_order="left")
        )

    return published.derived(found, "orders", make)


def summary(found: Version) -> dict[str, Any]:
    """Return the figures that stand above the tables."""
    metrics = found.made.metrics
    service = metrics.get("service", {})
    table = orders(found)
    unknown = table["order_quantity"].null_count()
    return {
        "tiles": {
            "products": table.height,
            "value": float(table["value"].sum() or 0.0),
            "exceptions": published.frame(found, "exceptions.parquet").height,
            "fill_rate": service.get("model", {}).get("fill_rate"),
            "target": found.made.config.get("service_level"),
            "textbook_fill_rate": service.get("textbook", {}).get("fill_rate"),
            "coverage": metrics.get("coverage", {}).get("0.8"),
            "wape": metrics.get("model", {}).get("wape"),
            "bias": metrics.get("model", {}).get("bias"),
            "cost": service.get("model", {}).get("total_cost"),
            "textbook_cost": service.get("textbook", {}).get("total_cost"),
        },
        "stock_unknown": unknown,
        "assumptions": found.made.assumptions,
    }


def cost_figure(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what each policy would have cost over the test weeks, part by part."""
    service = metrics.get("service", {})
    policies = [name for name in ("model", "textbook") if name in service]
    if not policies:
        return None
    names = [{"model": "this policy", "textbook": "textbook"}[name] for name in policies]
    parts = (("holding", "accent"), ("ordering", "faint"), ("shortage", "warm"), ("waste", "bad"))
    traces = [
        plots.bars(
            part, names, [service[name].get(f"{part}_cost", 0.0) for name in policies], colour
        )
        for part, colour in parts
    ]
    least = service.get("clairvoyant", {}).get("total_cost")
    totals = [service[name]["total_cost"] for name in policies]
    said = ", ".join(f"{name} {total:,.0f}" for name, total in zip(names, totals, strict=True))
    layout: dict[str, Any] = {"barmode": "stack", "hovermode": "closest", "bargap": 0.45}
    if least:
        said += f"; who knows the future would pay {least:,.0f}"
        layout["shapes"] = [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": least, "y1": least,
             "line": {"color": "text", "dash": "dot", "width": 1}}
        ]  # fmt: skip
        layout["annotations"] = [
            {"xref": "paper", "x": 1, "y": least, "text": "who knows the future",
             "xanchor": "right", "yanchor": "bottom", "showarrow": False}
        ]  # fmt: skip
    return plots.figure(f"Costs over the test weeks: {said}", traces, y="cost", **layout)


def product(found: Version, product_id: str, location_id: str) -> dict[str, Any] | None:
    """Return all that the release says of a product; None where it is not in it."""
    import polars as pl

    mine = (pl.col("product_id") == product_id) & (pl.col("location_id") == location_id)
    order = orders(found).filter(mine)
    if order.is_empty():
        return None
    promotions = published.frame(found, "whatif.parquet").filter(mine)
    exceptions = published.frame(found, "exceptions.parquet").filter(mine)
    return {
        "order": order.row(0, named=True),
        "policy": published.frame(found, "policy.parquet").filter(mine).row(0, named=True),
        "promotions": promotions.to_dicts(),
        "exceptions": exceptions.to_dicts(),
        "weeks": in_time(published.frame(found, "forecasts.parquet").filter(mine)).to_dicts(),
    }


def in_time(frame: pl.DataFrame) -> pl.DataFrame:
    """Call the first day of a period `week_starts_on` also where periods are days."""
    return frame.rename({"day": "week_starts_on"}) if "day" in frame.columns else frame


def history(found: Version, product_id: str, location_id: str) -> pl.DataFrame:
    """Return what was sold in the last weeks: week_starts_on, units; empty where it is gone.

    A column for each kind of promotion says how much of the week's shops had it.
    """
    import polars as pl

    series = published.ancestor(found, "work/inventory/series")
    if series is None:
        return pl.DataFrame(schema={"week_starts_on": pl.Date, "units": pl.Float32})
    keys = published.frame(series, "series.parquet").with_row_index("row")
    mine = (pl.col("product_id") == product_id) & (pl.col("location_id") == location_id)
    rows = keys.filter(mine)["row"].to_list()
    kept = {entry.path for entry in series.made.files}
    weeks = in_time(
        published.frame(series, "weeks.parquet" if "weeks.parquet" in kept else "days.parquet")
    )
    past = (pl.col("row").is_in(rows)) & (pl.col("week_starts_on") <= found.made.as_of)
    known = (
        weeks.filter(past & (pl.col("observed") > 0))
        if "observed" in weeks.columns
        else weeks.filter(past)
    )
    return known.sort("week_starts_on").tail(HISTORY_WEEKS)


def fan(found: Version, product_id: str, location_id: str) -> dict[str, Any]:
    """Return units a week: what was sold, then the forecast with its 50% and 90% intervals."""
    import polars as pl

    mine = (pl.col("product_id") == product_id) & (pl.col("location_id") == location_id)
    ahead = in_time(published.frame(found, "forecasts.parquet").filter(mine)).sort("week_starts_on")
    past = history(found, product_id, location_id)
    dates = [day.isoformat() for day in ahead["week_starts_on"]]
    sold = [day.isoformat() for day in past["week_starts_on"]]
    traces = [
        *plots.band("90 of 100", dates, ahead["q05"], ahead["q95"], "accent-softer"),
        *plots.band("50 of 100", dates, ahead["q25"], ahead["q75"], "accent-soft"),
        plots.line("sold", sold, past["units"], "text"),
        plots.line("forecast", dates, ahead["mean"], "accent", mode="lines+markers"),
    ]
    weekly = ", ".join(f"{value:.0f}" for value in ahead["mean"])
    return plots.figure(
        f"Units a week: {len(sold)} weeks of history, then a forecast of {weekly}",
        traces,
        y="units",
        yaxis={"title": {"text": "units"}, "rangemode": "tozero"},
    )
