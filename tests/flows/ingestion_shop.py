"""A small shop as files: a CSV of order lines a day, a catalogue, and the source file for both."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path

DAYS = 42
STORES = 8
ORDERS_A_DAY = 20
LINES_AN_ORDER = 4
LINES_A_DAY = ORDERS_A_DAY * LINES_AN_ORDER
PRODUCTS = 30
LAST_DAY = date(2024, 3, 31)  # a Sunday
Row = dict[str, object]

SOURCE = '''
name = "corner-shop"
assumptions = ["tills are set to local time"]

[inputs.orders]
path = "orders/*.csv"

[inputs.articles]
path = "articles.csv"

[tables.order_lines]
sql = """
SELECT
  order_no AS order_id,
  line AS line_number,
  customer AS customer_id,
  article AS product_id,
  qty AS quantity,
  price AS unit_price,
  sold_at AS ordered_at,
  store AS location_id,
FROM orders
"""

[tables.products]
sql = """
SELECT article AS product_id, name AS title, grp AS category, FROM articles
"""
'''


def price_of(article: int) -> float:
    return 1.0 + article / 10


def lines_of(day: date) -> list[Row]:
    """Return the order lines of a day: every store sells, one customer in five is a guest."""
    random_of_day = random.Random(day.toordinal())
    rows: list[Row] = []
    for order in range(ORDERS_A_DAY):
        sold_at = datetime.combine(day, time(9)) + timedelta(minutes=20 * order)
        customer = "" if order % 5 == 0 else f"c{random_of_day.randrange(50)}@example.org"
        for line, article in enumerate(random_of_day.sample(range(PRODUCTS), LINES_AN_ORDER), 1):
            rows.append({
                "order_no": f"{day:%y%m%d}{order:03}",
                "line": line,
                "customer": customer,
                "article": f"a{article}",
                "qty": random_of_day.randint(1, 3),
                "price": price_of(article),
                "sold_at": sold_at.isoformat(sep=" "),
                "store": f"s{order % STORES}",
            })  # fmt: skip
    return rows


def write_csv(path: Path, rows: Sequence[Row], columns: Iterable[str] | None = None) -> None:
    names = list(columns or rows[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(names), *(",".join(str(row[name]) for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def orders_file(folder: Path, day: date) -> Path:
    return folder / "orders" / f"{day.isoformat()}.csv"


def articles() -> list[Row]:
    return [
        {"article": f"a{number}", "name": f"Article {number}", "grp": f"Food/Group {number % 3}"}
        for number in range(PRODUCTS)
    ]


def write_shop(folder: Path, last_day: date = LAST_DAY, days: int = DAYS) -> Path:
    """Write `days` days of the shop and return the path of its source file."""
    for age in range(days):
        day = last_day - timedelta(days=age)
        write_csv(orders_file(folder, day), lines_of(day))
    write_csv(folder / "articles.csv", articles())
    source = folder / "shop.toml"
    source.write_text(SOURCE, encoding="utf-8")
    return source


def rewrite(folder: Path, day: date, changes: Mapping[str, object]) -> None:
    """Deliver a day again with some columns changed: a value, or a function of the row."""
    rows = [
        row
        | {name: change(row) if callable(change) else change for name, change in changes.items()}
        for row in lines_of(day)
    ]
    write_csv(orders_file(folder, day), rows)
