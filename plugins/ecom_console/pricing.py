"""Pricing: which prices are proposed and why, how buyers answer, and what binds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from ecom_console import demand, grids, overview, plots, published, render, rights
from ecom_console.grids import Choice, Column
from ecom_console.inventory import attachment
from ecom_console.published import Version

if TYPE_CHECKING:
    import polars as pl

NAME = "artefacts/pricing"
_PRODUCT = "pricing/product?id={product_id}"
CHANGES = (
    Column("title", "Product", "title", _PRODUCT),
    Column("current_price", "Price", "money"),
    Column("proposed_price", "Proposed", "money"),
    Column("change", "Change", "share"),
    Column("profit_change", "Profit a week", "signed"),
    Column("units_change", "Units a week", "signed"),
    Column("elasticity", "Elasticity", "number"),
    Column("grade", "Evidence", "badge"),
    Column("binding_guardrail", "Binding guardrail"),
    Column("reason", "Why", "long"),
    Column("category", "Category"),
    Column("product_id", "Id", "code"),
)
CHANGE_FILTERS = (
    Choice("move", "Proposal"),
    Choice("grade", "Evidence"),
    Choice("binding_guardrail", "Guardrail"),
)
CATEGORIES = (
    Column("category", "Category", "title"),
    Column("estimate", "Elasticity", "number"),
    Column("lower", "95% from", "number"),
    Column("upper", "to", "number"),
    Column("grade", "Evidence", "badge"),
    Column("products_enough", "Products moved enough", "number"),
    Column("products", "Products", "number"),
    Column("placebo", "Placebo", "number"),
    Column("why", "Why", "long"),
)
PROMOTIONS = (
    Column("category", "Category", "title"),
    Column("mechanic", "Promotion", "badge"),
    Column("lift", "Sales times", "number"),
    Column("lift_lower", "95% from", "number"),
    Column("lift_upper", "to", "number"),
    Column("dip", "Dip after", "share"),
    Column("others", "On its neighbours", "share"),
    Column("incremental_units", "Added units", "number"),
    Column("incremental_margin", "Added margin", "signed"),
    Column("weeks", "Product weeks", "number"),
)
TESTS = (
    Column("title", "Product", "title", _PRODUCT),
    Column("low", "Low price", "money"),
    Column("high", "High price", "money"),
    Column("design", "Design"),
    Column("weeks", "Weeks", "number"),
    Column("power", "Chance to tell", "number"),
    Column("enough", "Enough", "number"),
    Column("weekly_units", "Units a week", "number"),
    Column("product_id", "Id", "code"),
)
SEARCH = ("title", "category", "product_id")

router = APIRouter(prefix="/pricing", dependencies=[rights.reads("pricing")])


@router.get("", response_class=HTMLResponse)
def changes_page(request: Request) -> HTMLResponse:
    """Show the proposed prices; those that change, unless somebody asks for all."""
    found = published.in_service(NAME)
    asked = _asked(request)
    table = grids.grid(
        changes(found), CHANGES, asked, sort="profit_change", search=SEARCH, choices=CHANGE_FILTERS
    )
    return _tab(request, found, "changes", table)


@router.get("/categories", response_class=HTMLResponse)
def categories_page(request: Request) -> HTMLResponse:
    """Show how the buyers of each category answer prices."""
    found = published.in_service(NAME)
    table = grids.grid(
        published.frame(found, "category_elasticities.parquet"), CATEGORIES, request.query_params,
        sort="products_enough", search=("category",), choices=[Choice("grade", "Evidence")],
    )  # fmt: skip
    return _tab(request, found, "categories", table)


@router.get("/promotions", response_class=HTMLResponse)
def promotions_page(request: Request) -> HTMLResponse:
    """Show what promotions brought, by category and kind."""
    found = published.in_service(NAME)
    table = grids.grid(
        published.frame(found, "promotions.parquet"), PROMOTIONS, request.query_params,
        sort="incremental_margin", search=("category",), choices=[Choice("mechanic", "Promotion")],
    )  # fmt: skip
    return _tab(request, found, "promotions", table)


@router.get("/tests", response_class=HTMLResponse)
def tests_page(request: Request) -> HTMLResponse:
    """Show the price tests that would teach most."""
    found = published.in_service(NAME)
    rows = titled(found, published.frame(found, "price_tests.parquet"))
    table = grids.grid(
        rows, TESTS, request.query_params, sort="power", search=("title", "product_id")
    )
    return _tab(request, found, "tests", table)


@router.get("/changes.csv")
def changes_csv(request: Request) -> Response:
    """Hand out the proposals that the filters leave."""
    found = published.in_service(NAME)
    rows = grids.chosen(changes(found), _asked(request), SEARCH, CHANGE_FILTERS)
    return attachment(rows.sort("product_id"), "prices.csv")


@router.get("/product", response_class=HTMLResponse)
def product_page(request: Request, id: str) -> HTMLResponse:
    """Show one product: its demand and profit by price, and what is known of its buyers."""
    found = published.in_service(NAME)
    known = demand.position(found, id)
    if known is None:
        raise HTTPException(404, f"Pricing has no product {id}")
    return render.page(
        request, "pricing_product.html", found=overview.facts(found), product=known,
        title=title_of(found, id), **curves(found, known), neighbours=neighbours(found, id),
        past=history(found, id),
    )  # fmt: skip


def _asked(request: Request) -> dict[str, str]:
    asked = dict(request.query_params)
    return asked if asked else {"move": "change"}


def _tab(request: Request, found: Version, tab: str, table: grids.Grid) -> HTMLResponse:
    return render.page(
        request, "pricing.html", found=overview.facts(found), grid=table, tab=tab,
        metrics=found.made.metrics, assumptions=found.made.assumptions,
        grades=grades(found.made.metrics),
    )  # fmt: skip


def titled(found: Version, table: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with the titles of their products; the id where there is none."""
    import polars as pl

    names = published.titles(found).select("product_id", "title")
    joined = table.join(names, on="product_id", how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("title", "product_id").alias("title"))


def changes(found: Version) -> pl.DataFrame:
    """Return all proposals, with titles, and whether each is a `change` or `keep`s the price."""
    import polars as pl

    def make() -> pl.DataFrame:
        moved = pl.when(pl.col("change") != 0).then(pl.lit("change")).otherwise(pl.lit("keep"))
        rows = titled(found, published.frame(found, "prices.parquet"))
        return rows.with_columns(moved.alias("move"))

    return published.derived(found, "changes", make)


def grades(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """Return how many products have which evidence."""
    counts = metrics.get("products_on_sale_by_grade")
    if not counts:
        return None
    names = [name for name in ("strong", "weak", "cannot tell") if name in counts]
    said = ", ".join(f"{name} {counts[name]:,}" for name in names)
    values = [counts[name] for name in names]
    bars = plots.bars("products", values, names, orientation="h", text=[f"{v:,}" for v in values],
                      textposition="outside", cliponaxis=False)  # fmt: skip
    return plots.figure(
        f"Products by evidence: {said}", [bars], hovermode="closest",
        yaxis={"autorange": "reversed"},
        xaxis={"range": [0, 1.25 * max(values, default=1)]},
    )  # fmt: skip


def title_of(found: Version, product_id: str) -> str:
    import polars as pl

    titles = published.titles(found).filter(pl.col("product_id") == product_id)["title"]
    return str(titles[0] or product_id) if len(titles) else product_id


def curves(found: Version, known: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of units and of profit by price, today's and the proposed price marked.

    Profit is units times price less cost; its band is that of units.
    """
    answer = demand.answer(found, known, demand.grid_of_prices(known))
    prices = [round(float(price), 4) for price in answer.price]
    units = {
        name: known["weekly_units"] * getattr(answer, name) for name in ("expected", "low", "high")
    }
    margin = answer.price - known["unit_cost"]
    profit = {name: values * margin for name, values in units.items()}
    drawn = {}
    for name, of in (("units", units), ("profit", profit)):
        low, high = _ends(of["low"], of["high"])
        best = float(answer.price[of["expected"].argmax()])
        drawn[name] = plots.figure(
            f"{name.capitalize()} a week by price, expected and 95% interval"
            + (f"; most at a price of {best:.2f}" if name == "profit" else ""),
            [
                *plots.band("95 of 100", prices, low, high),
                plots.line("expected", prices, _plain(of["expected"])),
                *_marks(known, prices, of["expected"]),
            ],
            y=f"{name} a week", hovermode="x",
            xaxis={"title": {"text": "price"}, "tickformat": ",.2f"},
        )  # fmt: skip
    return drawn


def _plain(values: Any) -> list[float]:
    return [round(float(value), 4) for value in values]


def _ends(first: Any, second: Any) -> tuple[list[float], list[float]]:
    """Return the lower and the upper of two curves: below its cost, fewer units lose less."""
    import numpy as np

    return _plain(np.minimum(first, second)), _plain(np.maximum(first, second))


def _marks(known: dict[str, Any], prices: list[float], values: Any) -> list[dict[str, Any]]:
    def at(price: float) -> float:
        return round(float(values[prices.index(round(price, 4))]), 4)

    current, proposed = known["current_price"], known["proposed_price"]
    marks = [plots.dots("today", [current], [at(current)], "text")]
    if proposed != current:
        marks.append(plots.dots("proposed", [proposed], [at(proposed)], "warm",
                                marker={"symbol": "diamond", "size": 11}))  # fmt: skip
    return marks


def neighbours(found: Version, product_id: str) -> list[dict[str, Any]]:
    """Return the products whose price was found to move this one's units, the strongest first."""
    import polars as pl

    table = published.frame(found, "cross_elasticities.parquet")
    mine = table.filter((pl.col("product_id") == product_id) & pl.col("found"))
    names = published.titles(found).select(other_id="product_id", title="title")
    return (
        mine
        .join(names, on="other_id", how="left")
        .sort(pl.col("estimate").abs(), "other_id", descending=[True, False])
        .head(10)
        .to_dicts()
    )


def history(found: Version, product_id: str) -> dict[str, Any] | None:
    """Return units and the average price of each week, over all locations; None where gone."""
    import polars as pl

    from ecom_tasks.artefacts.bucketing import bucket_number, file_of

    weeks = published.ancestor(found, "features/demand")
    if weeks is None:
        return None
    files = [entry.path for entry in weeks.made.files if entry.path.startswith("by_product/")]
    # Of the lines every bucket has a file; of the weeks an empty one has none.
    lines = published.ancestor(found, "lake/order_lines")
    every = [each.path for each in lines.made.files] if lines else []
    buckets = sum(each.startswith("by_product/") for each in every) or len(files)
    path = file_of("product_id", bucket_number(product_id, buckets))
    if path not in files:
        return None
    sold = (
        published
        .frame(weeks, path)
        .filter(pl.col("product_id") == product_id)
        .group_by("week_starts_on")
        .agg(pl.col("units").sum(), pl.col("sales").sum())
        .sort("week_starts_on")
    )
    if sold.is_empty():
        return None
    price = sold["sales"] / sold["units"].replace(0, None)
    dates = [day.isoformat() for day in sold["week_starts_on"]]
    paid = [None if value is None else round(value, 3) for value in price]
    return plots.figure(
        f"Units and average price paid in {sold.height} weeks",
        [
            plots.bars("units", dates, sold["units"], "accent-soft"),
            plots.line("price paid", dates, paid, "warm", yaxis="y2", mode="lines+markers",
                       marker={"size": 4, "color": "warm"}),
        ],
        y="units",
        yaxis2={"overlaying": "y", "side": "right", "showgrid": False, "rangemode": "tozero",
                "tickformat": ",.2f", "title": {"text": "price"}},
    )  # fmt: skip
