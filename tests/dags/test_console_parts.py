"""Parts of the console by themselves: tables, what is kept, drift, demand, lineage."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from ecom_console import demand, drift, graph, grids, published, release, render, whatif
from ecom_console.grids import Choice, Column
from ecom_console.published import Kept

from ecom_tasks.artefacts import dataset
from ecom_tasks.errors import ConfigError
from ecom_tasks.pricing.optimise import demand_factor
from ecom_tasks.run import Run
from tests.dags import console_shop

COLUMNS = (Column("name", "Name"), Column("n", "N", "number"), Column("shop", "Shop", "place"))
TABLE = pl.DataFrame({
    "name": [f"item {i}" for i in range(60)], "n": [None, *range(59)], "shop": ["all"] * 60,
    "kind": ["odd" if i % 2 else "even" for i in range(60)],
})  # fmt: skip
KINDS = [Choice("kind", "Kind")]


def shown(**asked: str) -> grids.Grid:
    return grids.grid(TABLE, COLUMNS, asked, sort="n", search=("name",), choices=KINDS)


def test_a_table_pages_from_the_largest_and_the_unknown_come_last() -> None:
    first, last = shown(), shown(page="3")
    assert [row["n"] for row in first.rows] == list(range(58, 58 - 25, -1))
    assert (first.page, first.pages, first.total) == (1, 3, 60)
    assert [row["n"] for row in last.rows] == [*range(8, -1, -1), None]
    assert [row["n"] for row in shown(down="0").rows][:2] == [0, 1]
    assert shown(down="0", page="3").rows[-1]["n"] is None


@pytest.mark.parametrize("page", ["0", "-1", "99", "x", "1" * 20, "²", ""])
def test_odd_pages_are_pages(page: str) -> None:
    assert 1 <= shown(page=page).page <= 3


def test_a_table_filters_and_searches() -> None:
    odd = shown(kind="odd", q=" ITEM 1")
    assert {row["name"] for row in odd.rows} == {
        "item 1",
        *(f"item {n}" for n in (11, 13, 15, 17, 19)),
    }
    assert (odd.total, odd.unfiltered) == (6, 60)
    assert odd.choices == [(KINDS[0], ["even", "odd"], "odd")]
    # A point is a point, not any letter.
    assert shown(q="item.1").rows == []
    # What nobody offers is not sorted by, and a hostile name is no column.
    assert shown(sort="kind").sort == "n"


def test_links_keep_what_was_asked_and_a_new_order_begins_at_page_one() -> None:
    found = shown(kind="odd", q="item", page="2")
    assert found.link(page=1) == "?q=item&kind=odd&page=1"
    assert found.order("n") == "?q=item&kind=odd&sort=n&down=0"
    assert found.order("name") == "?q=item&kind=odd&sort=name&down=1"


def test_a_place_that_all_rows_share_is_left_out() -> None:
    assert [column.name for column in shown().columns] == ["name", "n"]


def test_a_link_cannot_leave_its_place() -> None:
    column = Column("name", "Name", link="product?id={name}")
    assert shown().href(column, {"name": "a&b=/../c"}) == "product?id=a%26b%3D%2F..%2Fc"


def test_a_spreadsheet_runs_nothing() -> None:
    data = grids.csv(pl.DataFrame({"t": ["=1+1", "-x", "@a", "+b", "fine"], "n": [-1, 2, 3, 4, 5]}))
    assert data.decode("utf-8-sig").splitlines() == [
        "t,n",
        "'=1+1,-1",
        "'-x,2",
        "'@a,3",
        "'+b,4",
        "fine,5",
    ]


def test_what_is_kept_has_a_bound_and_the_longest_unused_goes() -> None:
    kept, loads = Kept(100), []

    def get(key: str) -> str:
        def load() -> tuple[str, int]:
            loads.append(key)
            return key.upper(), 40

        return kept.get(key, load)

    assert [get(key) for key in "abaca"] == ["A", "B", "A", "C", "A"]
    assert loads == ["a", "b", "c"]
    assert kept.bytes == 80
    get("b")  # it was the longest unused, and went for c
    assert loads == ["a", "b", "c", "b"]


def test_the_bound_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "_kept", None)
    monkeypatch.setenv("ECOM_CONSOLE_CACHE_MIB", "2")
    assert published.kept().most_bytes == 2 * 1024 * 1024
    monkeypatch.setattr(published, "_kept", None)
    monkeypatch.setenv("ECOM_CONSOLE_CACHE_MIB", "lots")
    with pytest.raises(ConfigError, match="CACHE_MIB"):
        published.kept()


@pytest.fixture
def shop(run: Run, monkeypatch: pytest.MonkeyPatch) -> dict[str, published.Version]:
    monkeypatch.setenv("ECOM_ROOT", run.root)
    monkeypatch.setattr(published, "_kept", None)
    return {name: published.by_ref(ref) for name, ref in console_shop.shop(run).items()}


def test_a_table_is_read_once(
    shop: dict[str, published.Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = published.frame(shop["pricing"], "prices.parquet")

    def again(*_: object) -> bytes:
        raise AssertionError("read again")

    monkeypatch.setattr(published, "read", again)
    assert published.frame(shop["pricing"], "prices.parquet") is first


def test_ancestors_are_found_through_the_manifests(shop: dict[str, published.Version]) -> None:
    found = published.ancestor(shop["inventory"], "lake/products")
    assert found == shop["products"]
    assert published.ancestor(shop["inventory"], "lake/stock") is None


def test_lineage_stands_left_to_right(shop: dict[str, published.Version]) -> None:
    drawn = graph.lineage(shop["recommendation"])
    place = {box["name"]: (box["x"], box["y"]) for box in drawn["boxes"]}
    assert (
        place["lake/products"][0]
        < place["lake/order_lines"][0]
        < place["artefacts/recommendation"][0]
    )
    assert len(drawn["lines"]) == 3
    assert len(set(place.values())) == len(place)
    assert [box["name"] for box in drawn["boxes"] if box["own"]] == ["artefacts/recommendation"]
    assert drawn["width"] == max(x for x, _ in place.values()) + graph.BOX[0]


def test_demand_is_that_of_the_optimiser(shop: dict[str, published.Version]) -> None:
    pricing = shop["pricing"]
    known = demand.position(pricing, "p1")
    assert known is not None
    prices = np.array([0.1, 1.2, 1.5, 1.59, 9.0])
    answer = demand.answer(pricing, known, prices)
    largest = pricing.made.config["largest_response"]
    ends = demand_factor(prices / 1.5, np.array([-2.5, -1.5]), largest)
    assert answer.low == pytest.approx(ends.min(axis=1))
    assert answer.high == pytest.approx(ends.max(axis=1))
    assert answer.expected[2] == 1
    assert (answer.low <= answer.expected + 1e-9).all()
    assert (answer.expected <= answer.high + 1e-9).all()
    # Between the two ends of +-1.96 errors the mean of the spread lies near the estimate's own.
    assert answer.expected[3] == pytest.approx(1.06**-2.0, rel=0.002)
    # Nobody buys more than `largest_response` times as much.
    assert answer.high[0] == pytest.approx(largest)


def test_drift_tells_what_moved() -> None:
    rng = np.random.default_rng(3)
    before = pl.DataFrame({"price": rng.normal(10, 1, 4000), "shop": ["a", "b"] * 2000,
                           "order_id": range(4000), "gone": [None] * 4000})  # fmt: skip
    now = pl.DataFrame({"price": rng.normal(13, 1, 2000), "shop": ["b", "a"] * 1000,
                        "order_id": range(2000), "gone": [1.0] * 2000})  # fmt: skip
    found = {row["column"]: row for row in drift.columns(before, now).to_dicts()}
    assert found.keys() == {"price", "shop"}
    assert found["price"]["reading"] == "moved"
    assert found["shop"]["psi"] == pytest.approx(0)
    assert found["shop"]["reading"] == "stable"
    same = drift.columns(before, before.sample(2000, seed=1)).to_dicts()
    assert {row["reading"] for row in same} == {"stable"}
    missing = now.with_columns(
        pl.when(pl.int_range(2000) < 500).then(None).otherwise("price").alias("price")
    )
    told = {row["column"]: row for row in drift.columns(before, missing).to_dicts()}
    assert (told["price"]["missing_before"], told["price"]["missing_now"]) == (0, 0.25)


def test_drift_compares_the_last_weeks_with_those_before(
    shop: dict[str, published.Version],
) -> None:
    orders = shop["orders"]
    before, now = drift.windows(orders, "by_customer/bucket=000.parquet", "ordered_at")
    assert before["quantity"].to_list() == [5.0]  # 40 days before the last day
    assert now["quantity"].to_list() == [2.0, 1.0]  # 3 days before
    assert drift.of_table(shop["products"]) is None


def test_stock_lasts_through_uneven_weeks() -> None:
    assert whatif.cover([10.0, 20.0], 0) == 0
    assert whatif.cover([10.0, 20.0], 5) == 0.5
    assert whatif.cover([10.0, 20.0], 20) == 1.5
    assert whatif.cover([10.0, 20.0], 45) == 3  # 30 in the two weeks, then 15 a week


def test_figures_are_read_as_people_do() -> None:
    said = [
        render.figure(value) for value in (None, 1234567, 3.0, 12.3456, 0.000123456, 1234.56, True)
    ]
    assert said == [render.UNKNOWN, "1,234,567", "3", "12.35", "0.0001235", "1,235", "yes"]
    assert [render.size(n) for n in (999, 1500, 2_500_000, 3_100_000_000)] == [
        "999 B",
        "1.5 kB",
        "2.5 MB",
        "3.1 GB",
    ]
    past = datetime.now().astimezone() - timedelta(hours=49)
    assert render.ago(past.isoformat()) == "2 days ago"


def test_versions_are_compared_part_by_part(
    shop: dict[str, published.Version], run: Run, another_day: Run
) -> None:
    later = published.by_ref(console_shop.pricing(another_day, console_shop.lake(another_day)))
    told = release.compared(shop["pricing"], later)
    assert told.select("part", "what").rows() == [("data", "lake/products")]
    assert str(run.as_of) in told["first"][0]
    assert release.compared(None, later).is_empty()
    assert dataset.manifest(shop["products"].ref).version in told["first"][0]  # type: ignore[arg-type]


def test_the_newest_day_is_found_without_reading_all(
    run: Run, another_day: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOM_ROOT", run.root)
    monkeypatch.setattr(published, "_kept", None)
    refs = [console_shop.pricing(each, console_shop.lake(each), value)
            for each, value in ((run, 0.4), (another_day, 0.3))]  # fmt: skip
    name, known = "artefacts/pricing", published.numbers("artefacts/pricing")
    assert len(known) == 2
    read: list[str] = []
    original = published.by_ref
    monkeypatch.setattr(published, "by_ref", lambda ref: (read.append(ref), original(ref))[1])
    newest = published.of_newest_day(name, known)
    assert newest is not None
    assert newest.ref == refs[1]
    assert read == [refs[1]]
    # A draft of a later day is none.
    later = published.of_newest_day(name, [*known, "2024-05-01-0000000000000000"])
    assert later == newest
    assert published.of_newest_day(name, []) is None
