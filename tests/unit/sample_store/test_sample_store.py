"""The simulated shop is what it says: its elasticities, its confounding, its tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ecom_tasks.sample_store import panel, tables, weeks, world
from ecom_tasks.tables import TABLES

SCALE = world.Scale(products=12, stores=4, weeks=6, customers=60, category_size=6, seed=3)


@pytest.fixture(scope="module")
def shop() -> world.World:
    return world.create(SCALE)


@pytest.fixture(scope="module")
def written(shop: world.World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    folder = tmp_path_factory.mktemp("shop")
    return folder, tables.write(shop, folder)


def test_elasticities_are_within_categories_and_pairs_agree_in_sign(shop: world.World) -> None:
    found = shop.elasticity
    same = shop.category[:, None] == shop.category[None, :]
    assert (found[~same] == 0).all()
    assert ((found.diagonal() >= world.NEVER_LESS) & (found.diagonal() <= world.NEVER_MORE)).all()
    off = found - np.diag(found.diagonal())
    assert (np.sign(off) == np.sign(off.T)).all()
    # Two neighbours whose price is felt by more than .3 each.
    assert (np.abs(off) > 0.3).sum(axis=1).tolist() == [2] * SCALE.products


def test_units_answer_to_prices_as_the_truth_says(shop: world.World) -> None:
    dearer = shop.base_price.copy()
    dearer[2] *= 1.1
    ratio = shop.usual_units(dearer) / shop.usual_units(shop.base_price)
    assert ratio == pytest.approx(1.1 ** shop.elasticity[:, 2])
    profit = (shop.usual_units(dearer) * (dearer - shop.cost)).sum()
    assert shop.profit(dearer) == pytest.approx(profit)
    both = np.column_stack([shop.base_price, dearer])
    assert shop.usual_units(both)[:, 1] == pytest.approx(shop.usual_units(dearer))


def test_expected_units_of_a_week_follow_the_formula(shop: world.World) -> None:
    still = replace(
        shop,
        lift=np.zeros_like(shop.lift),
        dip=np.zeros_like(shop.dip),
        elasticity=np.zeros_like(shop.elasticity),
    )
    # The same draws with and without answers to prices: their ratio is the answer alone.
    [first, *_], [flat, *_] = list(weeks.live(shop)), list(weeks.live(still))
    assert (first.price == flat.price).all()
    answer = shop.elasticity @ np.log(first.price / shop.base_price[:, None])
    lift = (first.promoted * shop.lift[:, None, :]).sum(axis=2)
    assert first.expected / flat.expected == pytest.approx(np.exp(answer + lift))


def test_prices_are_confounded_only_where_asked() -> None:
    def together(confounding: float) -> float:
        scale = replace(SCALE, products=40, weeks=30, confounding=confounding, category_size=20)
        shop = world.create(scale)
        usual = np.exp(shop.level[:, None] + shop.size + shop.taste.T[shop.category])
        pairs = []
        for week in weeks.live(shop):
            answer = shop.elasticity @ np.log(week.price / shop.base_price[:, None])
            lift = (week.promoted * shop.lift[:, None, :]).sum(axis=2)
            shift = np.log(week.expected / usual) - answer - lift
            pairs.append((shift.ravel(), np.log(week.regular_price).ravel()))
        shift, price = (np.array(each) for each in zip(*pairs, strict=True))
        shift, price = shift - shift.mean(axis=0), price - price.mean(axis=0)
        return float((shift * price).sum() / (shift**2).sum())

    assert together(0.5) == pytest.approx(0.5, abs=0.05)
    assert together(0.0) == pytest.approx(0.0, abs=0.05)


def test_the_same_seed_is_the_same_shop_and_another_is_not(shop: world.World) -> None:
    first = panel.simulate(shop)
    assert first.equals(panel.simulate(world.create(SCALE)))
    assert not first.equals(panel.simulate(world.create(replace(SCALE, seed=4))))


def test_a_longer_shop_begins_like_a_shorter_one(shop: world.World) -> None:
    longer = panel.simulate(world.create(replace(SCALE, weeks=8)))
    last = weeks.START.toordinal() + 7 * SCALE.weeks
    early = longer.filter(pl.col("week").dt.epoch("d") + 719163 < last)
    assert early.equals(panel.simulate(shop))


def test_nothing_is_sold_that_is_not_there(shop: world.World) -> None:
    for week in weeks.live(shop):
        assert (week.sold <= week.wanted).all()
        assert (week.on_hand >= 0).all()
        assert ((week.sold == week.wanted) | (week.on_hand == 0)).all()
        assert (week.price <= week.regular_price).all()


def test_order_lines_add_up_to_what_was_sold(shop: world.World, written: tuple[Path, int]) -> None:
    folder, count = written
    lines = pl.read_parquet(folder / "order_lines" / "*.parquet")
    assert lines.height == count
    sold = panel.simulate(shop).filter(pl.col("units") > 0)
    week = pl.col("ordered_at").dt.date().dt.truncate("1w").alias("week")
    summed = (
        lines
        .group_by("product_id", "location_id", week)
        .agg(pl.col("quantity").sum(), pl.col("unit_price").unique().implode().list.first())
        .sort("product_id", "location_id", "week")
    )
    assert summed["quantity"].to_list() == sold["units"].to_list()
    assert summed["unit_price"].explode().to_list() == sold["price"].to_list()
    home = pl.read_parquet(folder / "customers.parquet")
    joined = lines.join(home, on="customer_id")
    assert (joined["location_id"] == joined["region"]).all()


@pytest.mark.parametrize(
    "name",
    ["order_lines", "products", "customers", "supply", "promotions", "prices", "stock"],
)
def test_tables_have_the_contracts_columns_and_keys(written: tuple[Path, int], name: str) -> None:
    folder, _ = written
    place = folder / f"{name}.parquet"
    frame = pl.read_parquet(place if place.exists() else folder / name / "*.parquet")
    table = TABLES[name]
    needed = {column.name for column in table.columns if not column.optional}
    assert needed <= set(frame.columns) <= set(table.column_names)
    assert frame.height > 0
    assert frame.select(pl.struct(table.key).is_duplicated().sum()).item() == 0


def test_the_stock_is_counted_in_the_last_week(written: tuple[Path, int]) -> None:
    folder, _ = written
    counted = pl.read_parquet(folder / "stock" / "*.parquet")["snapshot_on"].unique().sort()
    # Weeks 1 and 5 of 0 to 5, each on its Sunday: as fresh as an ingestion of the last day asks.
    assert counted.to_list() == [weeks.START + timedelta(days=7 * week + 6) for week in (1, 5)]


def test_the_panel_is_written_as_it_is_in_memory(shop: world.World, tmp_path: Path) -> None:
    path = tmp_path / "panel.parquet"
    assert panel.write(shop, path) == 12 * 4 * 6
    assert pl.read_parquet(path).sort("product", "store", "week").equals(panel.simulate(shop))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"products": 0}, "products must be at least 1"),
        ({"units": 0.0}, "units must be above 0"),
        ({"customers": 3}, "3 customers are too few"),
    ],
)
def test_an_impossible_shop_is_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(SCALE, **wrong)


def test_costs_move_regular_prices() -> None:
    shop = world.create(world.Scale(products=4, stores=3, weeks=30, customers=50, confounding=0.0))
    series = ["product", "store"]
    margin = pl.col("regular_price").log() - pl.col("unit_cost").log()
    rows = panel.simulate(shop).with_columns((margin - margin.first().over(series)).alias("off"))
    assert rows["unit_cost"].n_unique() > 4 * 3
    # But for the cents of two weeks, a regular price is its cost times what the series adds.
    assert (rows["off"].abs() * rows["regular_price"]).max() < 0.5 / 100 + 0.5 / 100  # type: ignore[operator]
