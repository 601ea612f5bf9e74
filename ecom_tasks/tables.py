"""The data contract: name, type and key of every table that enters the system.

A shop needs only `order_lines` and `products`; every further table makes the models better, and
a missing one is reported, never guessed. The features' tables stand in `features/tables.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Type = Literal["string", "float", "int", "bool", "date", "datetime"]


@dataclass(frozen=True)
class Column:
    """One column of the contract.

    `nullable` speaks of values, `optional` of the whole column: an optional column that the shop
    lacks is added, filled with nulls. `positive` means above zero, `not_negative` zero or above.
    """

    name: str
    type: Type
    description: str
    nullable: bool = False
    optional: bool = False
    positive: bool = False
    not_negative: bool = False


@dataclass(frozen=True)
class Table:
    """One table of the contract.

    Parameters
    ----------
    key : columns that identify a row.
    buckets : entity columns by whose hash the rows are written, one full copy for each, so that
        no later step shuffles. Empty: one file.
    happened_at : the column that says when a row became known. Rows after the run's `as_of` are
        not read. None: the table is a snapshot.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    buckets: tuple[str, ...] = ()
    happened_at: str | None = None
    required: bool = False

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]


def _optional(name: str, type_: Type, description: str, *, positive: bool = False) -> Column:
    return Column(name, type_, description, nullable=True, optional=True, positive=positive)


ORDER_LINES = Table(
    "order_lines",
    key=("order_id", "line_number"),
    columns=(
        Column("order_id", "string", "order, basket or invoice"),
        Column("line_number", "int", "position within the order, from 1"),
        Column("customer_id", "string", "pseudonymised; null for a guest", nullable=True),
        Column("product_id", "string", "see products"),
        Column("quantity", "float", "units, above zero, also where returned", positive=True),
        Column(
            "unit_price", "float", "paid per unit, store currency; 0 for a gift", not_negative=True
        ),
        Column("ordered_at", "datetime", "the shop's local time, without zone"),
        _optional("location_id", "string", "store, warehouse or region"),
        _optional("channel", "string", "web, app, store, ..."),
        _optional("discount", "float", "taken off the whole line, store currency, not negative"),
        _optional("regular_price", "float", "shelf price per unit without discount"),
        _optional("returned", "bool", "true: the line takes the goods back; null: false"),
    ),
    buckets=("customer_id", "product_id"),
    happened_at="ordered_at",
    required=True,
)
PRODUCTS = Table(
    "products",
    key=("product_id",),
    columns=(
        Column("product_id", "string", "article number"),
        Column("title", "string", "what a customer would call it"),
        Column("category", "string", "path from general to special, separated by /"),
        _optional("sellable", "bool", "false: booked as a product but no good (fuel, postage)"),
        _optional("brand", "string", "brand or maker"),
        _optional("size", "string", "package size as printed"),
        _optional("regular_price", "float", "list price per unit", positive=True),
        _optional("unit_cost", "float", "purchase cost per unit", positive=True),
        _optional("image_uri", "string", "where its picture lies"),
        _optional("description", "string", "free text"),
        _optional("launched_on", "date", "first day on sale"),
    ),
    required=True,
)
EVENTS = Table(
    "events",
    key=("event_id",),
    columns=(
        Column("event_id", "string", "unique"),
        Column("customer_id", "string", "pseudonymised; null for a guest", nullable=True),
        Column("product_id", "string", "null for a search", nullable=True),
        Column("event_type", "string", "view, add_to_cart, purchase, ..."),
        Column("occurred_at", "datetime", "the shop's local time, without zone"),
        _optional("session_id", "string", "visit"),
        _optional("channel", "string", "web, app, ..."),
        _optional("query", "string", "text searched for"),
    ),
    buckets=("customer_id", "product_id"),
    happened_at="occurred_at",
)
CUSTOMERS = Table(
    "customers",
    key=("customer_id",),
    columns=(
        Column("customer_id", "string", "pseudonymised"),
        _optional("region", "string", "coarse place, never an address"),
        _optional("segment", "string", "the shop's own segment"),
        _optional("signed_up_on", "date", "first day as a customer"),
        _optional("birth_year", "int", "for goods with an age limit; no more than the year"),
    ),
)
EXCLUSIONS = Table(
    "exclusions",
    key=("customer_id", "product_id"),
    columns=(
        Column("customer_id", "string", "pseudonymised"),
        Column("product_id", "string", "never recommended to this customer"),
        _optional("until", "date", "last day of it, inclusive; null: for good"),
    ),
)
PROMOTIONS = Table(
    "promotions",
    key=("product_id", "location_id", "starts_on", "mechanic"),
    columns=(
        Column("product_id", "string", "see products"),
        Column("location_id", "string", "store or region"),
        Column("starts_on", "date", "first day, inclusive"),
        Column("mechanic", "string", "price_cut, display, mailer or coupon"),
        Column("ends_on", "date", "last day, inclusive"),
        _optional("depth", "float", "share taken off the price, 0 to 1"),
        _optional("announced_on", "date", "when the plan was known; null: on starts_on"),
    ),
    buckets=("product_id",),
    happened_at="announced_on",
)
PRICES = Table(
    "prices",
    key=("product_id", "location_id", "valid_from"),
    columns=(
        Column("product_id", "string", "see products"),
        Column("location_id", "string", "store or region"),
        Column("valid_from", "date", "first day of the price, inclusive"),
        Column("regular_price", "float", "shelf price per unit", positive=True),
        _optional("competitor_price", "float", "lowest competing price", positive=True),
        _optional("unit_cost", "float", "purchase cost per unit from that day on", positive=True),
    ),
    buckets=("product_id",),
    happened_at="valid_from",
)
STOCK = Table(
    "stock",
    key=("product_id", "location_id", "snapshot_on"),
    columns=(
        Column("product_id", "string", "see products"),
        Column("location_id", "string", "store or warehouse"),
        Column("snapshot_on", "date", "day at whose close it was counted"),
        Column("on_hand", "float", "units on the shelf"),
        _optional("on_order", "float", "units ordered, not yet received"),
    ),
    buckets=("product_id",),
    happened_at="snapshot_on",
)
SUPPLY = Table(
    "supply",
    key=("product_id", "location_id"),
    columns=(
        Column("product_id", "string", "see products"),
        Column("location_id", "string", "store or warehouse"),
        Column("lead_time_days", "float", "mean, order to receipt", positive=True),
        _optional("lead_time_days_std", "float", "standard deviation"),
        _optional("pack_size", "float", "units in the smallest order", positive=True),
        _optional("minimum_order_quantity", "float", "units"),
        _optional("unit_cost", "float", "purchase cost per unit", positive=True),
        _optional("holding_cost_rate", "float", "share of the unit cost per year"),
        _optional("shelf_life_days", "float", "days until waste", positive=True),
    ),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        ORDER_LINES,
        PRODUCTS,
        EVENTS,
        CUSTOMERS,
        EXCLUSIONS,
        PROMOTIONS,
        PRICES,
        STOCK,
        SUPPLY,
    )
}

CUSTOMER_ID = "customer_id"
"""The one identifier of a person; pseudonymised in every table that has it."""
