"""Bad and odd tables of interactions, through the command: a clear error or a defined result.

What the flow does with the same: products all ruled out, and one customer of one product with
longer lists than the catalogue, stand in `tests/flows/test_recommendation.py`; broken days of
order lines in `tests/flows/test_broken_days.py`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ecom_tasks import cli

GENERATORS = ["neighbours", "ease", "popular", "repeat"]
BASKETS = {"ann": "abcd", "bob": "abdc", "eve": "bcda", "joe": "acbd"}
GOOD = pl.DataFrame(
    [(who, what, at) for who, goods in BASKETS.items() for at, what in enumerate(goods)],
    schema=["who", "what", "at"],
    orient="row",
)
LATE = datetime.now(UTC).date() + timedelta(days=2)
ONE_PRODUCT = GOOD.with_columns(pl.lit("a").alias("what"))
ONE_CUSTOMER = GOOD.filter(who="ann")


def run(folder: Path, table: pl.DataFrame, protocol: str = "leave-one-out") -> tuple[int, Any]:
    """Return the command's exit code and what it wrote."""
    table.write_parquet(folder / "table.parquet")
    out = folder / "out.json"
    out.unlink(missing_ok=True)
    code = cli.main([
        "backtest", "recommendation", "--interactions", str(folder / "table.parquet"),
        "--customer", "who", "--product", "what", "--time", "at", "--protocol", protocol,
        "--share", "0.3", "--json", str(out), "--generators", *GENERATORS,
    ])  # fmt: skip
    return code, json.loads(out.read_text()) if out.exists() else None


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (GOOD.drop("what"), "has no column what"),
        (GOOD.with_columns(who=pl.when(pl.col("at") > 0).then("who")), "4 rows with nulls in who"),
        (GOOD.with_columns(at=pl.lit(LATE)), "16 rows later than today"),
        (GOOD.clear(), "has no rows"),
        (ONE_PRODUCT, "0 are to be found"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_words(
    table: pl.DataFrame, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, table) == (2, None)
    assert said in " ".join(capsys.readouterr().err.split())


def figures(found: dict[str, Any]) -> dict[str, Any]:
    """Return the figures without how long they took."""
    return {
        name: {key: value for key, value in values.items() if key != "seconds"}
        for name, values in found["generators"].items()
    }


def test_duplicate_events_change_nothing(tmp_path: Path) -> None:
    _, once = run(tmp_path, GOOD)
    code, twice = run(tmp_path, pl.concat([GOOD, GOOD.sample(fraction=0.5, seed=1)]))
    assert code == 0
    assert figures(twice) == figures(once)


def test_one_product_is_found_where_repeats_count(tmp_path: Path) -> None:
    code, found = run(tmp_path, ONE_PRODUCT, "time-split")
    assert (code, found["products"]) == (0, 1)
    assert found["generators"]["repeat"]["ndcg@10"] == 1


def test_one_customer_is_judged_alone(tmp_path: Path) -> None:
    code, found = run(tmp_path, ONE_CUSTOMER, "time-split")
    # b to d are not known before; only a is, and of it there is nothing to find.
    assert (code, found["customers"], found["model"]["ndcg@10"]) == (0, 1, 0)


def test_lists_are_no_longer_than_the_catalogue(tmp_path: Path) -> None:
    code, found = run(tmp_path, GOOD)
    # Four products, three of them owned: the last one is all that a list of any length holds.
    assert (code, found["products"]) == (0, 4)
    popular = found["generators"]["popular"]
    assert popular["recall@5"] == popular["recall@50"] == popular["ndcg@5"] == 1
