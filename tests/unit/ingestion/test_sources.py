"""What a source file may say, and how it is told what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecom_tasks.errors import ConfigError
from ecom_tasks.ingestion.load import inputs_of_table
from ecom_tasks.ingestion.sources import SHIPPED, load_source, require_tables
from ecom_tasks.tables import TABLES

GOOD = """
name = "my-shop"
data = "files"

[inputs.orders]
path = "orders.csv"

[tables.order_lines]
sql = "SELECT 1 FROM orders"

[tables.products]
sql = "SELECT 1 FROM orders"
"""


def written(folder: Path, text: str) -> str:
    path = folder / "shop.toml"
    path.write_text(text)
    return str(path)


def test_a_file_is_read_and_its_data_lies_beside_it(tmp_path: Path) -> None:
    source = load_source(written(tmp_path, GOOD))
    assert source.name == "my-shop"
    assert source.base == str(tmp_path / "files")
    assert source.input("orders").file_format == "csv"
    require_tables(source)


@pytest.mark.parametrize("given", ["s3://bucket/prefix", "/elsewhere"])
def test_the_command_line_says_where_the_data_lies(tmp_path: Path, given: str) -> None:
    assert load_source(written(tmp_path, GOOD), given).base == given


def test_a_bucket_in_the_file_is_taken_as_it_is(tmp_path: Path) -> None:
    text = GOOD.replace('"files"', '"s3://bucket/shop"')
    assert load_source(written(tmp_path, text)).base == "s3://bucket/shop"


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.toml")))
def test_shipped_sources_are_found_by_name_and_use_every_input(name: str) -> None:
    source = load_source(name)
    assert source.name == name
    require_tables(source)
    used = {
        each
        for table in source.specification.tables
        for each in inputs_of_table(source, TABLES[table])
    }
    assert used == set(source.specification.inputs)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "my-shop"', "name = my-shop", r"is no TOML: .*line 2"),
        ('name = "my-shop"', "", r"\[name\] is missing"),
        ('name = "my-shop"', 'name = "My Shop"', r"\[name\] String should match"),
        ("order_lines", "orderlines", "no table 'orderlines'; did you mean 'order_lines'"),
        ("sql", "SQL", r"\[tables.order_lines.SQL\] is not known here"),
        ("orders.csv", "orders.dat", "tells no format: add format = csv, excel, json, parquet"),
        ("orders.csv", "orders", "tells no format"),
        ('path = "orders.csv"', "", "give either path"),
        ('path = "orders.csv"', 'path = "a.csv"\nquery = "select 1"', "give either path"),
        ('path = "orders.csv"', 'query = "select 1"', "needs either url or connection"),
        ('path = "orders.csv"', 'query = "q"\nurl = "sqlite://"\nconnection = "c"', "needs either"),
        ('path = "orders.csv"', 'path = "a.csv"\nurl = "sqlite://"', "are for a query"),
        ('path = "orders.csv"', 'query = "q"\nurl = "pg://u:secret@h/d"', "holds a password"),
        ("[inputs.orders]", '[inputs."my orders"]', "must be a name of small letters"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        load_source(written(tmp_path, GOOD.replace(old, new, 1)))
    assert "shop.toml" in caught.value.reason
    assert "secret" not in str(caught.value)


def test_a_password_from_the_environment_is_fine(tmp_path: Path) -> None:
    place = 'query = "q"\nurl = "postgresql://reader:${SHOP_PASSWORD}@host/shop"'
    source = load_source(written(tmp_path, GOOD.replace('path = "orders.csv"', place)))
    assert source.input("orders").is_database


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("online-retial", "did you mean 'online-retail'"),
        ("nowhere.toml", "There is no source 'nowhere.toml'"),
        ("", "No source is named"),
    ],
)
def test_an_unknown_source_is_told_what_there_is(name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        load_source(name)
    assert "complete-journey, online-retail" in caught.value.hint


def test_a_source_without_products_is_refused(tmp_path: Path) -> None:
    text = GOOD[: GOOD.index("[tables.products]")]
    with pytest.raises(ConfigError, match="maps no products"):
        require_tables(load_source(written(tmp_path, text)))


@pytest.mark.parametrize(
    ("path", "format_"),
    [("a.CSV", "csv"), ("a.csv.gz", "csv"), ("x/*.parquet", "parquet"), ("a.ndjson", "json"),
     ("a.v2.xlsx", "excel"), ("s3://b/k/a.jsonl.gz", "json")],
)  # fmt: skip
def test_the_ending_tells_the_format(tmp_path: Path, path: str, format_: str) -> None:
    source = load_source(written(tmp_path, GOOD.replace("orders.csv", path)))
    assert source.input("orders").file_format == format_
