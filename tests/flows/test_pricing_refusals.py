"""Bad input to pricing: nothing is published, last week's release stays, the error says what to do.

One shop of two stores, whose release of the week before is in service; each case delivers the next
week with one fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ecom_tasks.artefacts import dataset, release
from ecom_tasks.errors import MAX_EXAMPLES, ConfigError, DataContractError, EcomError
from ecom_tasks.features.tasks import flow as features_flow
from ecom_tasks.pricing import tasks
from ecom_tasks.run import Ref, Run, run_locally
from tests import builders
from tests.unit.pricing import simulated

WEEKS = 44
LAST_WEEK = simulated.START + timedelta(days=7 * WEEKS - 1)
TODAY = LAST_WEEK + timedelta(weeks=1)
Tables = dict[str, pl.DataFrame]
QUICK: dict[str, Any] = {
    "pricing": {"trees": 5, "test_windows": 1, "permutations": 3, "elasticity_draws": 3},
    "features": {"snapshots": 1},
}


def shop() -> Tables:
    """Tables of the contract with everything right: twelve products of two categories."""
    panel, _ = simulated.panel(11, products=12, weeks=WEEKS, units=20.0)
    week = pl.col("week_starts_on").cast(pl.Datetime("us")).dt.offset_by("12h")
    lines = panel.select(
        order_id="week " + pl.col("week_starts_on").cast(pl.String),
        customer_id=pl.lit("someone"),
        product_id="product_id",
        quantity="units",
        unit_price=pl.col("price").round(2),
        ordered_at=week,
        location_id=pl.lit("north"),
    )
    names = panel.select("product_id", "category").unique().sort("product_id")
    mailed = panel.filter(pl.col("mailer") > 0).select("product_id", "week_starts_on")
    return {
        "order_lines": builders.order_lines(lines.to_dicts()),
        "products": builders.products(
            names["product_id"].to_list(),
            category=[f"{name}/shelf" for name in names["category"]],
            unit_cost=[1.5] * names.height,
        ),
        "promotions": builders.promotions([
            builders.promotion(
                product, first, first + timedelta(days=6), mechanic="mailer",
                announced_on=first,
            )
            for product, first in mailed.iter_rows()
        ]),
    }  # fmt: skip


def lines_with(tables: Tables, **columns: pl.Expr) -> Tables:
    return tables | {"order_lines": tables["order_lines"].with_columns(**columns)}


def deliver(run: Run, tables: Mapping[str, pl.DataFrame]) -> None:
    builders.publish_lake(run, tables)
    run_locally(features_flow, run)


@pytest.fixture(scope="module")
def tables() -> Tables:
    return shop()


@pytest.fixture(scope="module")
def last_week(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Ref]:
    """Last week's run and its release, which is in service."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECOM_DASK", "threads")
        run = Run("last week", LAST_WEEK, (tmp_path_factory.mktemp("shop") / "store").as_uri())
        run = replace(run, overrides=QUICK)
        deliver(run, tables)
        return run, run_locally(tasks.flow, run)


def refused(run: Run, kept: Ref, kind: type[EcomError]) -> EcomError:
    """Run the flow, which must fail; nothing of the day is there, and the old release serves."""
    with pytest.raises(kind) as error:
        run_locally(tasks.flow, run)
    store = dataset.open_store(run.root)
    pointer = release.read_pointer(store, "artefacts/pricing", release.PRODUCTION)
    assert pointer is not None
    assert store.uri(pointer.manifest) == kept
    if run.as_of != LAST_WEEK:
        with pytest.raises(DataContractError, match="No artefacts/pricing"):
            dataset.find(run, "artefacts/pricing")
    assert error.value.hint
    assert len(error.value.examples) <= MAX_EXAMPLES
    return error.value


# What is wrong, and what the error must say of what, where and what to do.
WRONG: list[tuple[str, Callable[[Tables], Tables], list[str]]] = [
    (
        "prices of zero",
        lambda tables: lines_with(tables, unit_price=pl.lit(0.0)),
        ["features/demand", "rows sold without a price above zero", "order_lines.unit_price"],
    ),
    (
        "negative prices",
        lambda tables: lines_with(tables, unit_price=-pl.col("unit_price")),
        ["features/demand", "rows sold without a price above zero", "order_lines.unit_price"],
    ),
    (
        "negative units",
        lambda tables: lines_with(tables, quantity=-pl.col("quantity")),
        ["features/demand", "rows more returned than sold", "order_lines.quantity"],
    ),
    (
        "units of zero",
        lambda tables: lines_with(tables, quantity=pl.lit(0.0)),
        ["features/demand", "order_lines.quantity"],
    ),
    (
        "one price only",
        lambda tables: lines_with(tables, unit_price=pl.lit(2.49)),
        ["Prices moved too little", "12 products: price moved in fewer than 6 weeks", "price test"],
    ),
    (
        "collinear promotions",
        lambda tables: tables | {"promotions": pl.concat([
            tables["promotions"], tables["promotions"].with_columns(mechanic=pl.lit("display")),
        ])},
        ["Promotion mailer is perfectly collinear with display", "promotions.mechanic"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "told"), [each[1:] for each in WRONG], ids=[w[0] for w in WRONG])
def test_bad_rows_publish_nothing(
    fault: Callable[[Tables], Tables],
    told: list[str],
    tables: Tables,
    last_week: tuple[Run, Ref],
) -> None:
    run, kept = last_week
    today = replace(run, as_of=TODAY)
    deliver(today, fault(tables))
    error = refused(today, kept, DataContractError)
    for part in told:
        assert part in str(error)


def test_missing_costs_publish_nothing_where_none_may_be_assumed(
    tables: Tables, last_week: tuple[Run, Ref]
) -> None:
    run, kept = last_week
    asked = QUICK | {"pricing": QUICK["pricing"] | {"missing_cost": "refuse"}}
    today = replace(run, as_of=TODAY, overrides=asked)
    unknown = pl.when(pl.col("product_id") > "p008").then(None).otherwise("unit_cost")
    known = tables["products"].with_columns(unknown.alias("unit_cost"))
    deliver(today, tables | {"products": known})
    error = refused(today, kept, DataContractError)
    assert "products.unit_cost is missing, or not above zero, for 3 of 12 products" in str(error)
    assert "pricing.missing_cost" in error.hint
    assert [row["product_id"] for row in error.examples] == ["p009", "p010", "p011"]


RULES = {
    "a circle": (
        """ladders = [{lower = "p000", higher = "p001"}, {lower = "p001", higher = "p002"},
                      {lower = "p002", higher = "p000"}]""",
        ["rules.toml: ladders go round in a circle: p000 < p001 < p002 < p000"],
    ),
    "two rules of one product": (
        'same_price = [["p000", "p001"]]\n[[ladders]]\nlower = "p000"\nhigher = "p001"\n'
        "at_least = 1.5",
        ["rules.toml: ladder p000 < p001 and same_price ['p000', 'p001'] collide"],
    ),
    # Only together with prices and steps of the day does it show that these two leave nothing.
    "two rules that today's prices make collide": (
        'most_changes = 0\n[[ladders]]\nlower = "p000"\nhigher = "p001"\nat_least = 1.05',
        ["ladder p000 < p001 and most_changes 0 collide"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "told"), RULES.values(), ids=RULES)
def test_rules_that_contradict_each_other_publish_nothing(
    text: str, told: list[str], last_week: tuple[Run, Ref], tmp_path: Path
) -> None:
    run, kept = last_week
    path = tmp_path / "rules.toml"
    path.write_text(text)
    ruled = QUICK | {"pricing": QUICK["pricing"] | {"guardrails": str(path)}}
    error = refused(replace(run, overrides=ruled), kept, ConfigError)
    for part in told:
        assert part in str(error)
    assert "Loosen" in error.hint


def test_limits_that_contradict_each_other_publish_nothing(last_week: tuple[Run, Ref]) -> None:
    run, kept = last_week
    limits = QUICK | {"pricing": QUICK["pricing"] | {"floor": 1.2, "ceiling": 1.1}}
    error = refused(replace(run, overrides=limits), kept, ConfigError)
    assert "floor 1.2 and ceiling 1.1" in str(error)


def test_a_few_bad_rows_are_left_out_and_counted(
    tables: Tables, last_week: tuple[Run, Ref]
) -> None:
    run, _ = last_week
    today = replace(run, as_of=TODAY)
    first = pl.col("ordered_at") < datetime.combine(simulated.START, datetime.min.time()) + (
        timedelta(weeks=1)
    )
    free = pl.when(first & (pl.col("product_id") < "p003")).then(0.0).otherwise("unit_price")
    deliver(today, lines_with(tables, unit_price=free))
    panel = tasks.build_panel(today, tasks.pin_features(today))
    counted = dataset.manifest(panel).metrics["rows of demand without a usable price"]
    assert counted["sold without a price above zero"] == 3
    assert (dataset.scan(panel, "panel/*.parquet").collect()["price"] > 0).all()
