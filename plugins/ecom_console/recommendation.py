"""Recommendation: what a customer is shown and why, a product's neighbours, and how lists fare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

from ecom_console import grids, overview, plots, published, render, rights
from ecom_console.grids import Choice, Column
from ecom_console.pricing import title_of, titled
from ecom_console.published import Version

if TYPE_CHECKING:
    import polars as pl

NAME = "artefacts/recommendation"
_ORDERS_SHOWN = 60
_PRODUCT = "recommendation/product?id={product_id}"
CUSTOMERS = (
    Column(
        "customer_id", "Customer (pseudonym)", "code", "recommendation/customer?id={customer_id}"
    ),
    Column("segment", "Segment", "badge"),
    Column("products", "Products in the list", "number"),
    Column("again", "Bought before", "number"),
    Column("best", "Best score", "number"),
)
PRODUCTS = (
    Column("title", "Product", "title", _PRODUCT),
    Column("lists", "Lists it is in", "number"),
    Column("first", "At the top", "number"),
    Column("mean_rank", "Mean place", "number"),
    Column("generator", "Mostly from", "badge"),
    Column("product_id", "Id", "code"),
)

router = APIRouter(prefix="/recommendation", dependencies=[rights.reads("recommendation")])


@router.get("", response_class=HTMLResponse)
def customers_page(request: Request) -> HTMLResponse:
    """Show who has a list, to look somebody up."""
    found = published.in_service(NAME)
    table = grids.grid(
        customers(found), CUSTOMERS, request.query_params, sort="best",
        search=("customer_id",), choices=[Choice("segment", "Segment")],
    )  # fmt: skip
    return _tab(request, found, "customers", table)


@router.get("/products", response_class=HTMLResponse)
def products_page(request: Request) -> HTMLResponse:
    """Show which products are in lists, and how often."""
    found = published.in_service(NAME)
    table = grids.grid(
        listed(found), PRODUCTS, request.query_params, sort="lists",
        search=("title", "product_id"), choices=[Choice("generator", "Mostly from")],
    )  # fmt: skip
    return _tab(request, found, "products", table)


@router.get("/quality", response_class=HTMLResponse)
def quality_page(request: Request) -> HTMLResponse:
    """Show how good the lists were, window by window and cohort by cohort."""
    found = published.in_service(NAME)
    return _tab(request, found, "quality", None)


@router.get("/customer", response_class=HTMLResponse)
def customer_page(request: Request, id: str) -> HTMLResponse:
    """Show one customer: the list with its reasons, and what they bought before."""
    found = published.in_service(NAME)
    known = customer(found, id.strip())
    if known is None:
        raise HTTPException(404, f"No list was made for a customer {id}")
    return render.page(
        request, "recommendation_customer.html", found=overview.facts(found), customer=known
    )


@router.get("/product", response_class=HTMLResponse)
def product_page(request: Request, id: str) -> HTMLResponse:
    """Show the neighbours of one product."""
    found = published.in_service(NAME)
    known = product(found, id.strip())
    if known is None:
        raise HTTPException(404, f"Recommendation has no product {id}")
    return render.page(
        request, "recommendation_product.html", found=overview.facts(found), product=known
    )


def _tab(request: Request, found: Version, tab: str, table: grids.Grid | None) -> HTMLResponse:
    metrics = found.made.metrics
    return render.page(
        request, "recommendation.html", found=overview.facts(found), grid=table, tab=tab,
        tiles=summary(found), windows=cohorts(metrics), metrics=metrics,
        ndcg=ndcg_figure(metrics) if tab == "quality" else None,
    )  # fmt: skip


def _lists(found: Version) -> list[str]:
    return [entry.path for entry in found.made.files if entry.path.startswith("recommendations/")]


def recommendations(found: Version) -> pl.DataFrame:
    """Return all lists in one table."""
    import polars as pl

    return published.derived(
        found, "recommendations",
        lambda: pl.concat([published.frame(found, path) for path in _lists(found)]),
    )  # fmt: skip


def customers(found: Version) -> pl.DataFrame:
    """Return a row for each customer with a list: segment, size of the list, best score."""
    import polars as pl

    def make() -> pl.DataFrame:
        counted = (
            recommendations(found)
            .group_by("customer_id")
            .agg(
                products=pl.len(),
                again=(pl.col("generator") == "repeat").sum(),
                best=pl.col("score").max(),
            )
        )
        segments = published.frame(found, "segments.parquet")
        return counted.join(segments, on="customer_id", how="left").sort("customer_id")

    return published.derived(found, "customers", make)


def listed(found: Version) -> pl.DataFrame:
    """Return a row for each product in lists: in how many, where, and by which generator."""
    import polars as pl

    def make() -> pl.DataFrame:
        counted = (
            recommendations(found)
            .group_by("product_id")
            .agg(
                lists=pl.len(),
                first=(pl.col("rank") == 1).sum(),
                mean_rank=pl.col("rank").mean(),
                generator=pl.col("generator").mode().sort().first(),
            )
        )
        return titled(found, counted.sort("product_id"))

    return published.derived(found, "listed products", make)


def summary(found: Version) -> dict[str, Any]:
    """Return the figures above the tables: how many, how much of the catalogue, how good."""
    products = published.ancestor(found, "lake/products")
    catalogue = published.titles(found).height if products else 0
    in_lists = listed(found).height
    return {
        "customers": customers(found).height,
        "rows": recommendations(found).height,
        "products": in_lists,
        "catalogue": catalogue,
        "coverage": in_lists / catalogue if catalogue else None,
        "headline": found.made.headline,
    }


def cohorts(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each window, cohort and contender, in the order of reading."""
    rows = []
    for window, parts in metrics.get("windows", {}).items():
        for cohort, judged in parts.items():
            for name, values in judged["contenders"].items():
                rows.append(
                    {"window": window, "cohort": _COHORTS.get(cohort, cohort), "contender": name,
                     "customers": judged["customers"]} | values
                )  # fmt: skip
    for window, judged in metrics.get("newcomers", {}).items():
        rows += [
            {"window": window, "cohort": "customers never seen", "contender": name,
             "customers": judged["customers"]} | values
            for name, values in judged["contenders"].items()
        ]  # fmt: skip
    return rows


_COHORTS = {"all": "all products", "new": "products new to the customer"}


def ndcg_figure(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """Return NDCG at 10 with its interval, by window, for each contender on all products."""
    windows = metrics.get("windows", {})
    if not windows:
        return None
    names = list(next(iter(windows.values()))["all"]["contenders"])
    colours = dict(zip(reversed(names), ("accent", "faint", "warm"), strict=False))
    periods = [window.replace(" to ", "<br>to ") for window in windows]
    traces, said = [], []
    for name in names:
        values = [part["all"]["contenders"][name] for part in windows.values()]
        heights = [value["ndcg_at_10"] for value in values]
        traces.append(
            plots.bars(name, periods, heights, colours.get(name, "soft"), error_y={
                "type": "data", "symmetric": False, "color": "text", "thickness": 1,
                "array": [value["ndcg_at_10_upper"] - value["ndcg_at_10"] for value in values],
                "arrayminus": [value["ndcg_at_10"] - value["ndcg_at_10_lower"] for value in values],
            })
        )  # fmt: skip
        said.append(f"{name} {', '.join(f'{height:.3f}' for height in heights)}")
    return plots.figure(
        f"NDCG at 10 on held-out weeks: {'; '.join(said)}", traces,
        y="NDCG at 10", barmode="group", hovermode="closest",
    )  # fmt: skip


def customer(found: Version, customer_id: str) -> dict[str, Any] | None:
    """Return a customer's list, new products and history; None where no list was made for them."""
    import polars as pl

    from ecom_tasks.artefacts.bucketing import bucket_number

    paths = _lists(found)
    if not paths:
        return None
    # Not the number of files: a bucket without customers has none.
    buckets = int(found.made.config.get("list_buckets", len(paths)))
    path = f"recommendations/bucket={bucket_number(customer_id, buckets):03}.parquet"
    mine = pl.col("customer_id") == customer_id
    rows = published.frame(found, path).filter(mine) if path in paths else pl.DataFrame()
    if rows.is_empty():
        return None
    segment = published.frame(found, "segments.parquet").filter(mine)["segment"].to_list()
    new = published.frame(found, "new_products.parquet").filter(mine)
    bought = orders(found, customer_id)
    return {
        "customer_id": customer_id,
        "segment": segment[0] if segment else "",
        "list": titled(found, rows.sort("rank")).to_dicts(),
        "new": titled(found, new.sort("rank")).to_dicts(),
        "orders": bought.head(_ORDERS_SHOWN).to_dicts(),
        "lines": bought.height,
        "order_count": bought["order_id"].n_unique() if bought.height else 0,
        "spent": float((bought["quantity"] * bought["unit_price"]).sum()) if bought.height else 0.0,
        "history": bought.height > 0,
    }


def orders(found: Version, customer_id: str) -> pl.DataFrame:
    """Return the lines that the customer bought, newest first, as the version's run knew them."""
    import polars as pl

    from ecom_tasks.artefacts.bucketing import bucket_number, file_of

    schema = {
        "order_id": pl.String,
        "product_id": pl.String,
        "title": pl.String,
        "quantity": pl.Float64,
        "unit_price": pl.Float64,
        "ordered_at": pl.Datetime,
    }
    lines = published.ancestor(found, "lake/order_lines")
    if lines is None:
        return pl.DataFrame(schema=schema)
    files = [entry.path for entry in lines.made.files if entry.path.startswith("by_customer/")]
    path = file_of("customer_id", bucket_number(customer_id, max(1, len(files))))
    if path not in files:
        return pl.DataFrame(schema=schema)
    mine = published.frame(lines, path).filter(pl.col("customer_id") == customer_id)
    newest = mine.sort("ordered_at", "order_id", "line_number", descending=True)
    return titled(found, newest).select(list(schema))


def product(found: Version, product_id: str) -> dict[str, Any] | None:
    """Return what a product is similar to and bought with; None where the release has nothing."""
    import polars as pl

    mine = pl.col("product_id") == product_id
    similar = published.frame(found, "similar_products.parquet").filter(mine).sort("rank")
    together = published.frame(found, "bought_together.parquet").filter(mine).sort("rank")
    in_lists = listed(found).filter(mine)
    if similar.is_empty() and together.is_empty() and in_lists.is_empty():
        return None
    return {
        "product_id": product_id,
        "title": title_of(found, product_id),
        "similar": _named(found, similar, "similar_product_id"),
        "together": _named(found, together, "with_product_id"),
        "lists": in_lists.to_dicts(),
    }


def _named(found: Version, rows: pl.DataFrame, other: str) -> list[dict[str, Any]]:
    renamed = rows.drop("product_id").rename({other: "product_id"})
    return titled(found, renamed).to_dicts()
