"""Trying out a source: each mistake is explained, and a source that is right has none."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ecom_tasks.cli import main
from ecom_tasks.ingestion.check import check_source

ORDERS = "no,pos,buyer,article,pieces,price,sold\n"
GOOD_ORDERS = ORDERS + "".join(
    f"{n},1,ann{n}@example.org,a,{n},1.5,2024-03-{n:02}\n" for n in range(1, 29)
)
GOOD_ARTICLES = "article,name\na,Apple\nb,Pear\n"
SOURCE = '''
name = "my-shop"

[inputs.orders]
path = "orders.csv"

[inputs.articles]
path = "articles.csv"

[tables.order_lines]
sql = """
SELECT
  no AS order_id,
  pos AS line_number,
  buyer AS customer_id,
  article AS product_id,
  pieces AS quantity,
  price AS unit_price,
  sold AS ordered_at
FROM orders
"""

[tables.products]
sql = "SELECT article AS product_id, name AS title, 'Fruit' AS category FROM articles"
'''


def shop(
    folder: Path, source: str = SOURCE, orders: str = GOOD_ORDERS, articles: str = GOOD_ARTICLES
) -> str:
    (folder / "shop.toml").write_text(source)
    (folder / "orders.csv").write_text(orders)
    (folder / "articles.csv").write_text(articles)
    return str(folder / "shop.toml")


def findings(path: str) -> list[str]:
    return [str(each) for each in check_source(path)]


def test_a_good_source_has_no_findings_and_needs_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("ECOM_PSEUDONYM_KEY")
    with caplog.at_level(logging.INFO):
        assert findings(shop(tmp_path)) == []
    assert [record.message for record in caplog.records] == [
        "products: 2 rows, of which 0 would go to quarantine",
        "order_lines: 28 rows, of which 0 would go to quarantine",
    ]


def test_an_unknown_column_is_told_with_line_and_close_names(tmp_path: Path) -> None:
    [told] = findings(shop(tmp_path, SOURCE.replace("pieces AS", "peices AS")))
    assert told.startswith(
        "[tables.order_lines]: order_lines: column 'peices' is not in the data; "
    )
    assert "did you mean 'pieces'?" in told
    assert "(line 6: peices AS quantity,)" in told
    assert "orders has no, pos, buyer, article, pieces, price, sold" in told


def test_a_wrong_type_is_told_with_examples_but_no_customer(tmp_path: Path) -> None:
    orders = GOOD_ORDERS.replace(",1.5,", ",EUR 1.50,")
    [told] = findings(shop(tmp_path, orders=orders))
    assert "observed 28 of 28 rows (100.0%)" in told
    assert "28 wrong type: unit_price. A run would put these rows into quarantine" in told
    assert "detail=\"unit_price: 'EUR 1.50'\"" in told
    assert told.count("\n") == 5
    assert "example.org" not in told


def test_a_missing_and_a_misspelt_column_of_the_contract_are_told_together(tmp_path: Path) -> None:
    [told] = findings(shop(tmp_path, SOURCE.replace("AS ordered_at", "AS orderd_at")))
    assert (
        "order_lines.ordered_at (datetime: the shop's local time, without zone) is missing" in told
    )
    assert "order_lines.orderd_at is no column of the contract; did you mean 'ordered_at'?" in told


def test_an_empty_table_is_told(tmp_path: Path) -> None:
    [told] = findings(shop(tmp_path, orders=ORDERS))
    assert told.startswith("[tables.order_lines]: order_lines: observed 0 rows")


def test_a_key_that_is_not_unique_is_told(tmp_path: Path) -> None:
    [told] = findings(shop(tmp_path, SOURCE.replace("no AS order_id", "1 AS order_id")))
    assert "27 duplicate key" in told
    assert "order_id='1', line_number=1" in told


def test_an_unknown_product_is_told(tmp_path: Path) -> None:
    [told] = findings(shop(tmp_path, articles="article,name\nA,Apple\n"))
    assert "28 unknown product" in told
    assert "product_id='a'" in told


def test_a_missing_table_a_missing_file_and_a_broken_file_are_told(tmp_path: Path) -> None:
    path = shop(tmp_path, SOURCE[: SOURCE.index("[tables.products]")])
    [told] = findings(path)
    assert "maps no products" in told
    path = shop(tmp_path)
    (tmp_path / "articles.csv").unlink()
    [told] = findings(path)
    assert told.startswith("articles: Input 'articles' has no file 'articles.csv'")
    path = shop(tmp_path, SOURCE.replace("articles.csv", "articles.parquet"))
    (tmp_path / "articles.parquet").write_text("no parquet")
    [told] = findings(path)
    assert "Input 'articles' cannot be read" in told


def test_several_faults_are_told_at_once(tmp_path: Path) -> None:
    source = SOURCE.replace("pieces AS", "peices AS").replace("name AS title", "nam AS title")
    assert len(findings(shop(tmp_path, source))) == 2


def test_the_command_prints_the_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-source", shop(tmp_path)]) == 0
    assert "The source is fine." in capsys.readouterr().out
    assert main(["check-source", shop(tmp_path, orders=ORDERS)]) == 2
    assert "1 finding" in capsys.readouterr().out
