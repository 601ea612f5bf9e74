"""Tables that page, sort and filter on the server: a frame and a request give a page of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    import polars as pl

ROWS = 25


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : of the frame's column.
    title : its heading.
    kind : `text`, `title`, `long` (text that needs room), `code`, `mono`, `date` (never broken),
        `badge`, `number`, `money`, `signed`, `share` (of one, signed), or `place`: a text that is
        left out where all rows say the same.
    link : where a cell leads, with `{name of a column}` in it; empty: nowhere.
    """

    name: str
    title: str
    kind: str = "text"
    link: str = ""


@dataclass(frozen=True)
class Choice:
    """A filter with the values that the whole table has."""

    name: str
    title: str


@dataclass(frozen=True)
class Grid:
    """One page of a table, ready for `grid.html`."""

    columns: Sequence[Column]
    rows: list[dict[str, Any]]
    total: int
    page: int
    pages: int
    sort: str
    descending: bool
    text: str
    search: str
    choices: list[tuple[Choice, list[str], str]]
    query: dict[str, str] = field(default_factory=dict)
    unfiltered: int = 0

    def link(self, **changes: Any) -> str:
        """Query of this table with some parts changed; a changed order begins at page 1."""
        kept = self.query | {name: str(value) for name, value in changes.items()}
        return "?" + urlencode({name: value for name, value in kept.items() if value})

    def order(self, column: str) -> str:
        """Query that sorts by the column: largest first, and the other way at a second click."""
        largest = "" if self.sort == column and self.descending else "1"
        return self.link(sort=column, down=largest or "0", page="")

    def href(self, column: Column, row: Mapping[str, Any]) -> str:
        return column.link.format(**{name: _quoted(value) for name, value in row.items()})


def _quoted(value: Any) -> str:
    from urllib.parse import quote

    return quote(str(value), safe="")


def chosen(
    table: pl.DataFrame,
    asked: Mapping[str, str],
    search: Sequence[str] = (),
    choices: Sequence[Choice] = (),
) -> pl.DataFrame:
    """Return the rows that a request asks for: `q` in a searched column, choices as given."""
    import polars as pl

    text = asked.get("q", "").strip().lower()
    if text and search:
        found = [
            pl.col(name).str.to_lowercase().str.contains(text, literal=True).fill_null(False)
            for name in search
        ]
        table = table.filter(pl.any_horizontal(found))
    for each in choices:
        if value := asked.get(each.name, ""):
            table = table.filter(pl.col(each.name).cast(pl.String).fill_null("") == value)
    return table


def grid(
    table: pl.DataFrame,
    columns: Sequence[Column],
    asked: Mapping[str, str],
    *,
    sort: str,
    search: Sequence[str] = (),
    choices: Sequence[Choice] = (),
) -> Grid:
    """Return the page of a table that a request asks for.

    Parameters
    ----------
    asked : `q`, `sort`, `down` (0 or 1), `page` and the choices; anything odd counts as not asked.
    sort : column that orders the table when nobody asks, the largest first; empty: as it is.
    search : text columns that `q` is looked for in.
    """
    rows = chosen(table, asked, search, choices)
    named = [column.name for column in columns]
    by = asked.get("sort", "") if asked.get("sort", "") in named else sort
    descending = asked.get("down", "1") != "0"
    pages = max(1, -(-rows.height // ROWS))
    number = asked.get("page", "1")
    page = min(max(1, int(number)), pages) if number.isdecimal() and len(number) < 9 else 1
    if by:
        rows = rows.sort(by, descending=descending, nulls_last=True, maintain_order=True)
    shown = rows.slice((page - 1) * ROWS, ROWS)
    offered = [
        (each, values, asked.get(each.name, ""))
        for each in choices
        if len(values := _values(table, each.name)) > 1
    ]
    told = [each for each in columns if each.kind != "place" or table[each.name].n_unique() > 1]
    query = {
        name: asked[name]
        for name in ("q", "sort", "down", *(each.name for each in choices))
        if asked.get(name)
    }
    return Grid(
        columns=told, rows=shown.to_dicts(), total=rows.height, page=page, pages=pages,
        sort=by, descending=descending, text=asked.get("q", ""),
        search=", ".join(column.title for column in columns if column.name in search),
        choices=offered, query=query, unfiltered=table.height,
    )  # fmt: skip


def _values(table: pl.DataFrame, name: str) -> list[str]:
    found = (str(value) for value in table[name].unique().to_list() if value not in {None, ""})
    return sorted(found)


def csv(table: pl.DataFrame) -> bytes:
    """Write rows for a spreadsheet: with a mark of its encoding, and no text that it would run."""
    import polars as pl

    text = pl.col(pl.String)
    safe = table.with_columns(
        pl.when(text.str.contains(r"^[=+\-@\t\r]")).then("'" + text).otherwise(text).name.keep()
    )
    return b"\xef\xbb\xbf" + safe.write_csv().encode()
