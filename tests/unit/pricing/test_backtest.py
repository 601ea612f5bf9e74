"""The backtest of any panel: what is read, what is refused, what is told."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ecom_tasks.cli import main
from ecom_tasks.errors import ConfigError, DataContractError
from ecom_tasks.pricing import panel_file, plain
from ecom_tasks.pricing.panel_file import Columns
from ecom_tasks.sample_store import panel, world

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
COLUMNS = Columns("sku", "week", "price", "units", "shop")


def rows(**changed: object) -> pl.DataFrame:
    """Two products in two shops over three weeks."""
    frame = pl.DataFrame({
        "sku": ["a"] * 6 + ["b"] * 6,
        "shop": (["x"] * 3 + ["y"] * 3) * 2,
        "week": [1, 2, 3] * 4,
        "price": [1.0, 2.0, 3.0] * 4,
        "units": [5.0, 0.0, 2.0] * 4,
    })
    return frame.with_columns(pl.lit(value).alias(name) for name, value in changed.items())


def at(row: int, column: str, value: float | None) -> pl.DataFrame:
    """Rows with one value changed."""
    frame = rows()
    values = frame[column].to_list()
    values[row] = value
    return frame.with_columns(pl.Series(column, values))


def test_numbers_count_weeks_and_days_of_weeks_stay() -> None:
    read = panel_file.check(rows(), COLUMNS)
    assert read.period_days == 7
    weeks = read.weeks.collect()["week_starts_on"].unique().sort()
    assert weeks.diff().drop_nulls().to_list() == [timedelta(weeks=1)] * 2
    day = rows().with_columns(
        pl.lit(date(2024, 1, 7)) + pl.duration(weeks=pl.col("week")).alias("week")
    ).with_columns(week=pl.lit(date(2024, 1, 7)) + pl.duration(weeks=pl.col("week")))  # fmt: skip
    sundays = panel_file.check(day, COLUMNS).weeks.collect()["week_starts_on"].unique().sort()
    assert sundays.to_list() == [date(2024, 1, 8), date(2024, 1, 15), date(2024, 1, 22)]


def test_months_are_periods_too_and_said() -> None:
    months = rows().with_columns(week=pl.date(2024, pl.col("week"), 1))
    read = panel_file.check(months, COLUMNS)
    assert read.period_days in {29, 30, 31}
    weeks = read.weeks.collect()["week_starts_on"].unique().sort()
    assert weeks.diff().drop_nulls().to_list() == [timedelta(weeks=1)] * 2
    assert any("days apart" in each for each in read.assumptions)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (at(0, "price", 0.0), "prices are not above zero"),
        (at(0, "price", -1.0), "prices are not above zero"),
        (at(0, "price", float("nan")), "prices are not above zero"),
        (at(0, "units", -1.0), "units are below zero"),
        (at(0, "price", None), "lack product, location, price or units"),
        (at(0, "week", 2), "share product, location and period"),
        (at(0, "week", None), "1 rows have no week"),
        (rows(week=None), "12 rows have no week"),
        (rows(units=0.0), "all units are zero"),
        (rows(week="soon"), "text that is no day"),
        (rows().head(0), "no rows"),
    ],
)
def test_what_no_shop_can_have_sold_is_refused(broken: pl.DataFrame, said: str) -> None:
    with pytest.raises(DataContractError, match=said):
        panel_file.check(broken, COLUMNS)


def test_the_same_row_twice_is_found_some_products_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(panel_file, "_AT_ONCE", 3)
    panel_file.check(rows(), COLUMNS)
    for row in range(12):
        again = pl.concat([rows(), rows()[row]])
        with pytest.raises(DataContractError, match="2 rows share product") as refused:
            panel_file.check(again, COLUMNS)
        assert len(refused.value.examples) == 2


def test_a_product_of_two_categories_is_refused() -> None:
    columns = Columns("sku", "week", "price", "units", "shop", category="kind")
    kinds = rows(kind="tea").with_columns(kind=pl.Series(["tea"] * 11 + ["coffee"]))
    assert panel_file.check(rows(kind="tea"), columns).sizes["rows"].to_list() == [6, 6]
    with pytest.raises(DataContractError, match="1 products are of more than one category"):
        panel_file.check(kinds, columns)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ConfigError, match="no column cost"):
        panel_file.check(rows(), Columns("sku", "week", "cost", "units"))


def test_promotions_that_say_the_same_are_refused_and_idle_ones_left_out() -> None:
    promoted = rows(idle=1.0).with_columns(
        first=pl.col("week") == 2, second=(pl.col("week") != 2), other=pl.col("week") == 3
    )
    columns = Columns("sku", "week", "price", "units", "shop", promotions=("idle", "first"))
    read = panel_file.check(promoted, columns)
    assert "promotion: first" in read.weeks.collect_schema().names()
    assert "promotion: idle" not in read.weeks.collect_schema().names()
    assert "promotion idle is the same in all rows and says nothing" in read.assumptions
    both = Columns("sku", "week", "price", "units", "shop", promotions=("first", "other", "second"))
    with pytest.raises(DataContractError, match="second is perfectly collinear with first in"):
        panel_file.check(promoted, both)


def test_plain_slopes_are_those_of_their_levels() -> None:
    frame = pl.DataFrame({
        "product": ["a", "a", "b", "b"], "price": [1.0, 2.0, 1.0, 2.0],
        "units": [8.0, 2.0, 80.0, 40.0],
    })  # fmt: skip
    each = plain.log_log(frame, ["product"], ["product"])
    assert each["estimate"].to_list() == pytest.approx([-2.0, -1.0])
    assert plain.log_log(frame, ["product"], [])["estimate"][0] == pytest.approx(-1.5)
    still = frame.with_columns(price=pl.lit(1.0))
    assert plain.log_log(still, ["product"], [])["estimate"].to_list() == [None]


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_the_textbooks_figure_is_reproduced() -> None:
    # Log sales on log price with an intercept a brand: -3.14 (Taddy 2019).
    frame = pl.read_parquet(SHARED / "orange-juice-dominicks" / "oj_taddy_bds.parquet")
    slope = plain.log_log(frame.rename({"sales": "units"}), ["brand"], [])["estimate"][0]
    assert slope == pytest.approx(-3.14, abs=0.005)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, world.World]:  # type: ignore[type-arg]
    folder = tmp_path_factory.mktemp("backtest")
    shop = world.create(world.Scale(products=16, stores=12, weeks=60, category_size=16, seed=5))
    frame = panel.simulate(shop)
    # One product whose price never moves.
    still = pl.col("product") == "P00003"
    frame = frame.with_columns(pl.when(still).then(2.0).otherwise("price").alias("price"))
    frame.write_parquet(folder / "panel.parquet")
    code = main([
        "backtest", "pricing", "--panel", str(folder / "panel.parquet"), "--product", "product",
        "--location", "store", "--time", "week", "--price", "price", "--units", "units",
        "--promo", "price_cut", "display", "--promo", "mailer",
        "--json", str(folder / "found.json"), "--html", str(folder / "found.html"),
        "--set", "pricing.trees=30",
    ])  # fmt: skip
    assert code == 0
    assert (folder / "found.html").read_text().count("<svg") >= 2
    return json.loads((folder / "found.json").read_text()), shop


def test_the_command_tells_of_every_product(judged: tuple[dict, world.World]) -> None:  # type: ignore[type-arg]
    found, shop = judged
    assert {"pooled", "products", "seconds", "peak_memory_bytes"} <= set(found)
    assert [row["product"] for row in found["products"]] == shop.product_ids
    for row in found["products"]:
        assert row["grade"] in {"strong", "weak", "cannot tell"}
        assert 0 <= row["weight_borrowed"] <= 1
    moved = [row for row in found["products"] if row["product"] != "P00003"]
    truth = dict(zip(shop.product_ids, shop.elasticity.diagonal(), strict=True))
    covered = [row["lower"] <= truth[row["product"]] <= row["upper"] for row in moved]
    assert np.mean(covered) >= 12 / 15
    error = np.mean([(row["estimate"] - truth[row["product"]]) ** 2 for row in moved]) ** 0.5
    fixed = found["pooled"]["plain_log_log_fixed_effects"]
    assert error < abs(fixed - np.mean(list(truth.values()))) / 2
    assert found["pooled"]["placebo"]["passed"]


def test_one_price_only_is_no_answer_but_a_test(judged: tuple[dict, world.World]) -> None:  # type: ignore[type-arg]
    found, _ = judged
    [still] = [row for row in found["products"] if row["product"] == "P00003"]
    assert still["grade"] == "cannot tell"
    assert "price moved in fewer than" in still["why"]
    assert still["weight_borrowed"] == 1.0
    [test] = [each for each in found["price_tests"] if each["product_id"] == "P00003"]
    assert test["low"] < 2.0 < test["high"]
    assert test["enough"]


def test_a_panel_of_still_prices_is_told_whole(tmp_path: Path) -> None:
    frame = pl.concat([rows(price=2.0).with_columns(pl.col("week") + 3 * n) for n in range(10)])
    frame.write_parquet(tmp_path / "still.parquet")
    out = tmp_path / "found.json"
    code = main([
        "backtest", "pricing", "--panel", str(tmp_path / "still.parquet"), "--product", "sku",
        "--time", "week", "--price", "price", "--units", "units", "--location", "shop",
        "--json", str(out),
    ])  # fmt: skip
    found = json.loads(out.read_text())
    assert code == 0
    assert found["pooled"]["grades"] == {"cannot tell": 2}
    assert "Prices moved too little" in found["pooled"]["refused"]
    assert len(found["price_tests"]) == 2


def test_bad_rows_end_the_command_and_write_nothing(tmp_path: Path) -> None:
    at(0, "price", -1.0).write_parquet(tmp_path / "bad.parquet")
    out = tmp_path / "found.json"
    code = main([
        "backtest", "pricing", "--panel", str(tmp_path / "bad.parquet"), "--product", "sku",
        "--time", "week", "--price", "price", "--units", "units", "--location", "shop",
        "--json", str(out),
    ])  # fmt: skip
    assert code == 2
    assert not out.exists()
