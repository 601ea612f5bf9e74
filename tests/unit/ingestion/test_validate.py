"""The suites: what is right passes, and each expectation fails where it should."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from ecom_tasks.errors import ConfigError, DataContractError
from ecom_tasks.ingestion import suites, verdict
from ecom_tasks.ingestion.config import IngestionConfig
from ecom_tasks.ingestion.verdict import Result
from ecom_tasks.tables import TABLES
from tests.unit.ingestion import lakes
from tests.unit.ingestion.lakes import AS_OF, Rows, at

PARAMETERS = suites.parameters(IngestionConfig(), AS_OF)
SUITES = suites.load_suites(PARAMETERS)
ASPECTS = {"completeness", "uniqueness", "range", "referential integrity", "freshness", "volume",
           "distribution"}  # fmt: skip


def validated(folder: Path, tables: dict[str, Rows]) -> list[Result]:
    from ecom_tasks.ingestion import validate

    lake = lakes.write_lake(folder / "lake", tables)
    (folder / "out").mkdir()
    return validate.validate(lake, SUITES, datetime.combine(AS_OF, time(), UTC), folder / "out")


def failed(results: list[Result]) -> set[tuple[str, str, str, str]]:
    return {
        (each.table, each.aspect, each.column, each.severity)
        for each in results
        if not each.success
    }


def all_expectations() -> set[tuple[str, str, str, str]]:
    found = set()
    for table, suite in SUITES.items():
        for each in suite:
            kwargs, meta = each["kwargs"], each["meta"]
            column = meta.get("column") or kwargs.get("column") or ", ".join(kwargs["column_list"])
            found.add((table, meta["aspect"], column, each["severity"]))
    return found


def spoil(rows: Rows, **changes: Any) -> Rows:
    """Change the first row."""
    return [rows[0] | changes, *rows[1:]]


def spoil_all(rows: Rows, **changes: Any) -> Rows:
    return [row | changes for row in rows]


def without_last_days(rows: Rows, column: str, days: int) -> Rows:
    last = at(0) - timedelta(days=days)
    limit = last if isinstance(rows[0][column], datetime) else last.date()
    return [row for row in rows if row[column] <= limit]


def missing_values() -> dict[str, Rows]:
    """Null in every column that may not be null, and every row twice."""
    tables = {}
    for name, good in lakes.GOOD.items():
        rows = good()
        required = [column.name for column in TABLES[name].columns if not column.nullable]
        spoilt = [row | {column: None} for row, column in zip(rows, required, strict=False)]
        tables[name] = [*rows, *rows, *spoilt]
    return tables


def out_of_range() -> dict[str, Rows]:
    lines, tomorrow = lakes.order_lines(), at(-1)
    late = {"order_id": "late", "ordered_at": tomorrow}
    return {
        "order_lines": [
            *spoil(lines, quantity=0.0, unit_price=-1.0, product_id="unknown", customer_id="ann"),
            lines[0] | late, lines[0] | late | {"line_number": 2},
        ],
        "products": [
            *spoil(lakes.products(), regular_price=0.0, unit_cost=-1.0, category="a//b",
                   launched_on=AS_OF + timedelta(days=500)),
            lakes.products()[0] | {"product_id": "dear", "unit_cost": 100.0},
        ],
        "events": [
            *spoil(lakes.events(), product_id="unknown", customer_id="ann"),
            lakes.events()[0] | {"event_id": "late", "occurred_at": tomorrow},
            *(lakes.events()[0] | {"event_id": f"x{n}", "event_type": f"t{n}"} for n in range(99)),
        ],
        "customers": spoil(lakes.customers(), customer_id="ann", signed_up_on=tomorrow.date(),
                           birth_year=1850),
        "exclusions": spoil(lakes.exclusions(), customer_id="ann", product_id="unknown"),
        "promotions": [
            *spoil(lakes.promotions(), mechanic="magic", depth=20.0, product_id="unknown"),
            lakes.promotions()[1] | {"ends_on": AS_OF - timedelta(days=60), "location_id": "x"},
            lakes.promotions()[2] | {"ends_on": AS_OF + timedelta(days=600), "location_id": "x"},
            lakes.promotions()[3] | {"announced_on": tomorrow.date(), "location_id": "x"},
        ],
        "prices": [
            *spoil(lakes.prices(), regular_price=-1.0, competitor_price=-1.0, unit_cost=-1.0,
                   product_id="unknown"),
            lakes.prices()[1] | {"competitor_price": 500.0, "unit_cost": 50.0, "location_id": "x"},
            lakes.prices()[1] | {"valid_from": tomorrow.date()},
        ],
        "stock": [
            *spoil_all(lakes.stock(), on_hand=-1.0, on_order=-1.0),
            lakes.stock()[0] | {"product_id": "unknown", "snapshot_on": tomorrow.date()},
        ],
        "supply": [
            *spoil_all(lakes.supply(), lead_time_days=400.0, lead_time_days_std=-1.0,
                       minimum_order_quantity=-1.0, holding_cost_rate=20.0, unit_cost=300.0),
            lakes.supply()[0] | {"product_id": "unknown", "lead_time_days": 0.0},
        ],
    }  # fmt: skip


def stale() -> dict[str, Rows]:
    return {
        "order_lines": spoil_all(
            without_last_days(lakes.order_lines(), "ordered_at", 8), customer_id=None),
        "products": spoil_all(lakes.products(), sellable=False),
        "events": without_last_days(lakes.events(), "occurred_at", 8),
        "customers": [{"customer_id": lakes.person(1000 + n), "region": f"r{n}"}
                      for n in range(2000)],
        "exclusions": [row | {"customer_id": lakes.person(1000 + n)}
                       for n, row in enumerate(lakes.exclusions())],
        "promotions": spoil_all(
            lakes.promotions(), location_id="elsewhere", starts_on=AS_OF - timedelta(days=300),
            ends_on=AS_OF - timedelta(days=290)),
        "prices": [row | {"valid_from": AS_OF - timedelta(days=100), "product_id": "p0"}
                   for row in lakes.prices()],
        "stock": [row | {"snapshot_on": row["snapshot_on"] - timedelta(days=8)}
                  for row in lakes.stock()],
        "supply": lakes.supply()[:4],
    }  # fmt: skip


def strange_newest_day() -> dict[str, Rows]:
    """The newest day has few rows, high prices, one store, one event type, empty shelves."""

    def newest(rows: Rows, column: str, keep: int, **changes: Any) -> Rows:
        today = [row for row in rows if row[column] in {at(0), AS_OF}]
        before = [row for row in rows if row[column] not in {at(0), AS_OF}]
        return before + spoil_all(today[::2][:keep], **changes)

    return {
        "order_lines": newest(lakes.order_lines(), "ordered_at", 5, unit_price=400.0, discount=-1.0,
                              location_id="s0", customer_id=None),
        "products": spoil_all(lakes.products(), category="One"),
        "events": newest(lakes.events(), "occurred_at", 5),
        "promotions": [row for row in lakes.promotions()
                       if row["starts_on"] <= AS_OF - timedelta(days=7)],
        "prices": [row | {"regular_price": 500.0 if row["valid_from"].month == 3
                          and row["valid_from"].day == 30 else 5.0} for row in lakes.prices() * 2],
        "stock": newest(lakes.stock(), "snapshot_on", 10, on_hand=0.0),
    }  # fmt: skip


def test_what_is_right_meets_every_expectation(tmp_path: Path) -> None:
    results = validated(tmp_path, {name: good() for name, good in lakes.GOOD.items()})
    assert failed(results) == set()
    assert len(results) == sum(map(len, SUITES.values()))
    report = (tmp_path / "out" / "report.html").read_text()
    assert f"{len(results)} expectations: 0 critical ones and 0 others were not met" in report
    pages = sorted((tmp_path / "out").rglob("*.html"))
    assert len(pages) == 2 + 2 * len(TABLES)  # of each table its suite and its result
    front = (tmp_path / "out" / "data_docs" / "index.html").read_text()
    for page in pages:
        text = page.read_text()
        assert not re.search(r"<(script|link|img)\b[^>]*http|url\([^)]*http", text), page
        assert page.name in {"index.html", "report.html"} or f"/{page.name}" in front


BROKEN: list[Callable[[], dict[str, Rows]]] = [
    missing_values, out_of_range, stale, strange_newest_day,
]  # fmt: skip


def test_every_expectation_can_fail(tmp_path: Path) -> None:
    seen: set[tuple[str, str, str, str]] = set()
    for broken in BROKEN:
        results = validated(tmp_path / broken.__name__, broken())
        assert not [each for each in results if "could not be evaluated" in each.observed]
        assert all(len(each.rows) <= 5 for each in results)
        seen |= failed(results)
    assert all_expectations() - seen == set()


def test_the_same_tables_give_the_same_pages(tmp_path: Path) -> None:
    seen = []
    for name in ("first", "second"):
        lines = spoil(lakes.order_lines(), unit_price=-1.5)
        validated(tmp_path / name, {"order_lines": lines, "products": lakes.products()})
        out = tmp_path / name / "out"
        seen.append({file.relative_to(out): file.read_bytes() for file in out.rglob("*.html")})
    assert len(seen[0]) == 6
    assert seen[0] == seen[1]


def test_a_failure_shows_what_was_observed_and_the_rows(tmp_path: Path) -> None:
    lines = spoil(lakes.order_lines(), unit_price=-1.5)
    results = validated(tmp_path, {"order_lines": lines, "products": lakes.products()})
    [failure] = [each for each in results if not each.success]
    assert str(failure) == (
        "order_lines.unit_price: range (expect_column_values_to_be_between): observed "
        f"1 of {len(lines):,} rows at fault, expected 0 or above"
    )
    [row] = failure.rows
    assert (row["order_id"], row["unit_price"]) == ("0-0", -1.5)
    assert row["ordered_at"] == "2024-03-31T12:00:00"


def test_two_lines_of_one_number_are_found_also_above_64(tmp_path: Path) -> None:
    lines = lakes.order_lines()
    for number, row in zip((1, 65, 129, 129, -1, 63), lines, strict=False):
        row |= {"order_id": "long", "line_number": number}
    results = validated(tmp_path, {"order_lines": lines, "products": lakes.products()})
    [failure] = [each for each in results if not each.success]
    assert (failure.aspect, failure.observed) == ("uniqueness", "1 rows at fault")
    assert failure.rows == [{"order_id": "long", "line_number": 129}]


def test_each_query_of_a_suite_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ecom_tasks.ingestion import validate

    asked: list[str] = []
    engine = validate.engine.SqlAlchemyExecutionEngine
    execute = engine.execute_query

    def counted(self: Any, query: Any) -> Any:
        asked.append(str(query))
        return execute(self, query)

    monkeypatch.setattr(engine, "execute_query", counted)
    validated(tmp_path, {name: good() for name, good in lakes.GOOD.items()})
    assert sum("HAVING count(*) > 1" in query and "line_number" in query for query in asked) == 1


def test_a_suite_that_great_expectations_does_not_know_is_named(tmp_path: Path) -> None:
    from ecom_tasks.ingestion import validate

    lake = lakes.write_lake(tmp_path, {"products": lakes.products()})
    odd = {"type": "expect_good_luck", "kwargs": {}, "severity": "critical", "meta": {}}
    with pytest.raises(ConfigError, match=r"suite of products .* expect_good_luck"):
        validate.validate(lake, {"products": [odd]}, datetime(2024, 3, 31, tzinfo=UTC), tmp_path)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_suite_covers_every_aspect_that_its_table_has(table: str) -> None:
    covered = {each["meta"]["aspect"] for each in SUITES[table]}
    lacking = {
        # A customer list may have any size; the catalogue is what the other tables refer to.
        "customers": {"volume"},
        "exclusions": {"distribution", "freshness", "range", "volume"},
        "products": {"referential integrity"},
        "promotions": {"distribution"},
        "supply": {"freshness"},  # terms have no date
        "events": {"range"},
    }
    assert ASPECTS - covered == lacking.get(table, set())
    assert {each["severity"] for each in SUITES[table]} == {"warning", "critical"}
    assert all(each["meta"]["expected"] for each in SUITES[table])


def test_parameters_are_filled_in_with_their_type() -> None:
    told = [each for each in SUITES["order_lines"] if each["meta"]["aspect"] == "freshness"]
    days = {each["kwargs"].get("min_value") for each in told}
    assert {"2024-03-29", "2024-03-24"} <= days
    assert "$" not in str(SUITES)


def write_suite(folder: Path, text: str, name: str = "order_lines") -> str:
    (folder / f"{name}.json").write_text(text)
    return str(folder)


def test_a_shop_adds_expectations_of_its_own(tmp_path: Path) -> None:
    folder = write_suite(
        tmp_path,
        '{"name": "x", "expectations": [{"type": "t", "severity": "warning", '
        '"kwargs": {"min_value": "$fewest_rows_to_judge"}}]}',
    )
    further = suites.load_suites(PARAMETERS, folder)
    assert further["order_lines"][:-1] == SUITES["order_lines"]
    assert further["order_lines"][-1]["kwargs"] == {"min_value": 50}
    assert suites.fingerprint(folder) != suites.fingerprint()


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ("{", "order_lines", "is not understood"),
        ('{"name": "x"}', "order_lines", r"is not understood: KeyError\('expectations'\)"),
        ('{"expectations": [{"type": "t", "kwargs": {}, "severity": "fatal"}]}', "order_lines",
         "severity 'fatal' is none of warning, critical"),
        ('{"expectations": [{"type": "t", "kwargs": {"a": "$nothing"}, "severity": "warning"}]}',
         "order_lines", r"uses \$nothing, which is no parameter"),
        ("{}", "orders", "is named after no table"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_suite_is_told(
    tmp_path: Path, text: str, name: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        suites.load_suites(PARAMETERS, write_suite(tmp_path, text, name))


def test_a_missing_suite_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(suites, "SHIPPED", tmp_path)
    with pytest.raises(ConfigError, match="no expectation suite for order_lines"):
        suites.load_suites(PARAMETERS)


def result(table: str, severity: str, *, success: bool) -> Result:
    return Result(
        table=table, expectation="e", severity=severity, success=success, aspect="range",
        column="c", expected="1", observed="2", rows=[{"c": 2}],
    )  # fmt: skip


def test_a_warning_is_logged_and_the_day_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    verdict.judge([result("a", "warning", success=False)], "docs")
    assert [record.message for record in caplog.records] == [
        "a.c: range (e): observed 2, expected 1", "  c=2"
    ]  # fmt: skip


def test_a_critical_failure_ends_the_day_and_names_the_others() -> None:
    results = [result(name, "critical", success=name == "ok") for name in ("ok", "a", "b")]
    with pytest.raises(DataContractError) as caught:
        verdict.judge(results, "the report")
    assert caught.value.reason == (
        "a.c: range (e): observed 2, expected 1. Also b.c: range (e): observed 2, expected 1"
    )
    assert caught.value.examples == [{"c": 2}]
    assert "the report" in caught.value.hint
    assert verdict.counts(results) == {"expectations": 3, "critical_failures": 2, "warnings": 0}
