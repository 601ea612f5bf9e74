"""The console in a browser: every page on real artefacts, at both widths and in both themes."""

from __future__ import annotations

import re
from typing import Any

import polars as pl
import pytest

from ecom_tasks.artefacts.store import open_store
from tests.browser.conftest import SHOTS, Site

pytest.importorskip("playwright", reason="make browser-test installs what these tests need")
PRODUCT = "995242"
PAGES = {
    "overview": "/",
    "data": "/data",
    "data-table": "/data/table/order_lines",
    "releases": "/releases",
    "release": "/releases/pricing/{pricing}",
    "recommendation": "/recommendation",
    "recommendation-quality": "/recommendation/quality",
    "recommendation-customer": "/recommendation/customer?id={customer}",
    "recommendation-product": "/recommendation/product?id={product}",
    "pricing": "/pricing",
    "pricing-categories": "/pricing/categories",
    "pricing-promotions": "/pricing/promotions",
    "pricing-product": "/pricing/product?id={product}",
    "inventory": "/inventory",
    "inventory-exceptions": "/inventory/exceptions",
    "inventory-product": "/inventory/product?id={product}",
    "whatif": "/whatif?id={product}&price=1.29&promotion=mailer&stock=500",
}
LOOKS = [(1280, False), (390, True), (1280, True), (390, False)]


def table(site: Site, domain: str, path: str) -> pl.DataFrame:
    """A table of the release in service, read past the console."""
    made = site.production(domain)
    store = open_store(site.root)
    return pl.read_parquet(store.read(f"{made.name}/v/{made.version}/{path}").data)


@pytest.fixture
def names(site: Site) -> dict[str, str]:
    """What the addresses of pages are about: real versions, a real customer, a real product."""
    bucket = table(site, "recommendation", "recommendations/bucket=003.parquet")
    orders = table(site, "inventory", "orders.parquet")["product_id"].to_list()
    priced = table(site, "pricing", "prices.parquet")["product_id"].to_list()
    product = PRODUCT if PRODUCT in orders else next(each for each in orders if each in priced)
    return {"pricing": site.production("pricing").version, "product": product,
            "customer": bucket["customer_id"][0]}  # fmt: skip


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_every_page_opens_without_a_fault(
    site: Site, visit: Any, names: dict[str, str], width: int, dark: bool  # noqa: FBT001
) -> None:  # fmt: skip
    visitor = visit("admin", width=width, dark=dark)
    page, look = visitor.page, f"{width}-{'dark' if dark else 'light'}"
    SHOTS.mkdir(parents=True, exist_ok=True)
    for name, path in PAGES.items():
        page.goto(site.console + path.format(**names))
        plots = page.locator(".plot")
        for index in range(plots.count()):
            plots.nth(index).locator(".main-svg").first.wait_for(state="attached")
            assert plots.nth(index).get_attribute("aria-label")
        # A table may scroll, the page itself may not.
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate("document.documentElement.classList.contains('dark')") is dark
        page.screenshot(path=SHOTS / f"{name}-{look}.png", full_page=name != "release")
    assert visitor.faults == []
    assert visitor.hosts == {site.url.partition("//")[2]}


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(
    site: Site, visit: Any, names: dict[str, str], dark: bool  # noqa: FBT001
) -> None:  # fmt: skip
    from axe_playwright_python.sync_playwright import Axe

    visitor = visit("admin", dark=dark)
    serious = []
    for name, path in PAGES.items():
        visitor.page.goto(site.console + path.format(**names))
        for found in Axe().run(visitor.page).response["violations"]:
            if found["impact"] in {"serious", "critical"}:
                places = [node["html"][:160] for node in found["nodes"][:2]]
                serious.append((name, found["id"], places))
    assert serious == []


def test_airflow_shows_the_console_in_its_menu(site: Site, visit: Any) -> None:
    visitor = visit("admin", dark=True)
    visitor.page.goto(f"{site.url}/plugin/console")
    frame = visitor.page.frame_locator("iframe[title='Shop console']")
    frame.get_by_role("heading", name="Overview", level=1).wait_for()
    # It follows Airflow's own theme.
    assert frame.locator("html.dark").count() == 1
    frame.get_by_role("link", name="Inventory", exact=True).first.click()
    frame.get_by_role("heading", name="Inventory", level=1).wait_for()
    visitor.page.screenshot(path=SHOTS / "airflow.png")


def test_the_keyboard_leads_everywhere(site: Site, visit: Any) -> None:
    page = visit("admin").page
    page.goto(f"{site.console}/inventory")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.outerHTML.slice(0, 200)"))
    told = "\n".join(seen)
    assert all(
        part in told for part in ("/pricing", 'name="q"', "<select", "<button", "sort=value")
    )
    page.goto(f"{site.console}/pricing")
    page.get_by_label("Search").focus()
    page.keyboard.type("yogurt")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("q=yogurt"))


def tile(page: Any, name: str) -> str:
    return str(page.locator(f".tile:has(dt:text-is('{name}')) dd").inner_text()).splitlines()[0]


def test_figures_are_those_of_the_manifests(site: Site, visit: Any) -> None:
    page = visit("admin").page
    page.goto(f"{site.console}/")
    for domain in ("recommendation", "pricing", "inventory"):
        made = site.production(domain)
        card = page.locator(f"section[aria-labelledby='{domain}']")
        assert made.headline is not None
        assert float(card.locator(".big").inner_text()) == pytest.approx(made.headline.value, 1e-3)
        assert made.version in card.inner_text()
        assert f"{made.headline.rows:,} {made.headline.unit}" in card.inner_text()
    page.goto(f"{site.console}/pricing")
    proposals = site.production("pricing").metrics["proposals"]
    assert tile(page, "Proposed changes") == f"{proposals['products']:,}"
    assert f"{proposals['products']:,} rows" in page.locator(".pager").inner_text()
    page.goto(f"{site.console}/inventory")
    service = site.production("inventory").metrics["service"]["model"]
    assert tile(page, "Demand met") == f"{service['fill_rate']:.1%}"
    orders = table(site, "inventory", "orders.parquet")
    assert tile(page, "Order proposals") == f"{orders.height:,}"
    first = page.locator("tbody tr").first.inner_text()
    assert f"{orders['value'].max():,.2f}" in first
    page.goto(f"{site.console}/data")
    lines = page.locator("tbody tr", has_text="order_lines").first.inner_text()
    store = open_store(site.root)
    lake = site.production("pricing").as_of.isoformat()
    from ecom_tasks.artefacts import release

    pointer = release.read_pointer(store, "lake/order_lines", lake)
    assert pointer is not None
    counts = release.read_manifest(store, pointer.name, pointer.version).metrics
    assert f"{counts['rows_published']:,}" in lines
    assert f"{counts['rows_quarantined']:,}" in lines


def test_tables_filter_sort_page_and_go_into_a_file(site: Site, visit: Any) -> None:
    page = visit("admin").page
    page.goto(f"{site.console}/pricing")
    prices = table(site, "pricing", "prices.parquet").filter(pl.col("change") != 0)
    strong = prices.filter(pl.col("grade") == "strong")
    page.locator("select[name=grade]").select_option("strong")
    page.get_by_role("button", name="Filter").click()
    assert f"{strong.height:,} rows of" in page.locator(".pager").inner_text()
    page.get_by_role("link", name="Next").click()
    assert "page 2 of" in page.locator(".pager").inner_text()
    page.get_by_role("columnheader", name="Change").get_by_role("link").click()
    largest = f"{strong['change'].max():+.1%}"
    assert page.locator("tbody tr").first.locator("td").nth(3).inner_text() == largest
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    file = pl.read_csv(download.value.path(), infer_schema_length=None)
    assert file.height == strong.height
    assert file["profit_change"].sum() == pytest.approx(strong["profit_change"].sum())


def test_a_customer_is_looked_up(site: Site, visit: Any, names: dict[str, str]) -> None:
    page = visit("admin").page
    page.goto(f"{site.console}/recommendation")
    page.get_by_label("Look a customer up by pseudonym").fill(names["customer"])
    page.get_by_role("button", name="Show the list").click()
    listed = table(site, "recommendation", "recommendations/bucket=003.parquet")
    mine = listed.filter(pl.col("customer_id") == names["customer"]).sort("rank")
    shown = page.get_by_role("region", name="The list").locator("tbody tr")
    assert shown.count() == mine.height
    assert shown.first.locator("td").nth(2).inner_text() == mine["reason"][0]
    assert page.get_by_role("region", name="What they bought").locator("tbody tr").count() > 0


def test_what_if_answers_from_the_published_models(
    site: Site, visit: Any, names: dict[str, str]
) -> None:
    page = visit("admin").page
    page.goto(f"{site.console}/whatif?id={names['product']}")
    ahead = table(site, "inventory", "forecasts.parquet")
    units = ahead.filter(pl.col("product_id") == names["product"])["mean"].sum()
    row = page.locator("tr[data-figure=units] td")
    assert float(row.nth(0).inner_text().replace(",", "")) == pytest.approx(units, abs=0.06)
    usual = float(row.nth(1).inner_text().replace(",", ""))
    page.get_by_label("Price").fill("0.99")
    page.get_by_label("Stock").fill("1000")
    page.get_by_role("button", name="Show").click()
    assert float(row.nth(1).inner_text().replace(",", "")) > usual
    assert "weeks" in page.locator("tr[data-figure=cover]").inner_text()


def test_a_file_is_downloaded_and_is_what_the_manifest_attests(site: Site, visit: Any) -> None:
    import hashlib
    from pathlib import Path

    page = visit("admin").page
    made = site.production("pricing")
    page.goto(f"{site.console}/releases/pricing/{made.version}")
    with page.expect_download() as download:
        page.get_by_role("link", name="upload.csv").click()
    data = Path(download.value.path()).read_bytes()
    (entry,) = [each for each in made.files if each.path == "upload.csv"]
    assert hashlib.sha256(data).hexdigest() == entry.sha256
    assert entry.sha256 in page.content()
    report = page.frame_locator("iframe.report")
    report.get_by_role("heading", level=1).wait_for()


def moved(page: Any, button: str) -> None:
    """Press the button, and wait until the page says that the workers have done it."""
    with page.expect_navigation():
        page.get_by_role("button", name=button).click()
    page.get_by_text("Done.", exact=True).wait_for(timeout=90_000)


def test_who_only_looks_is_denied(site: Site, visit: Any) -> None:
    visitor = visit("vera")
    page, before = visitor.page, site.pointer("pricing")
    page.goto(f"{site.console}/releases/pricing/{site.pending}")
    assert "waits for approval" in page.content()
    assert page.locator("form[method=post]").count() == 0
    answer = page.request.post(
        f"{site.console}/releases/pricing/{site.pending}/move", form={"action": "approve"}
    )
    assert answer.status == 403
    page.screenshot(path=SHOTS / "denied.png")
    assert site.pointer("pricing") == before


def test_a_release_is_approved_rolled_back_and_promoted(site: Site, visit: Any) -> None:
    visitor = visit("admin")
    page, before = visitor.page, site.pointer("pricing")
    page.goto(f"{site.console}/")
    assert "Waits for approval" in page.content()
    page.get_by_role("link", name=site.pending).first.click()
    page.screenshot(path=SHOTS / "approval.png")
    moved(page, "Approve")
    after = site.pointer("pricing")
    assert (after.version, after.sequence) == (site.pending, before.sequence + 1)
    assert (after.history[0].by, after.history[0].reason) == ("admin", "approved")
    assert "admin" in page.get_by_role("region", name="Moves").inner_text()
    page.goto(f"{site.console}/releases/pricing/{before.version}")
    # Against the version in service, the one thing that differs is told.
    assert "gate.approve_price_move" in page.get_by_role("region", name="Differences").inner_text()
    moved(page, "Put into service")
    after = site.pointer("pricing")
    assert (after.version, after.history[0].reason) == (before.version, "promoted")
    moved(page, "Roll back")
    after = site.pointer("pricing")
    assert (after.version, after.history[0].reason) == (site.pending, "rolled back")
    page.goto(f"{site.console}/releases/pricing/{site.pending}")
    moved(page, "Roll back")
    assert site.pointer("pricing").version == before.version
    assert [move.by for move in site.pointer("pricing").history[:4]] == ["admin"] * 4
    assert visitor.faults == []


def test_without_a_login_there_is_nothing(site: Site, browser: Any) -> None:
    context = browser.new_context()
    answer = context.new_page().goto(f"{site.console}/inventory")
    assert answer.status == 401
    context.close()
