"""The feature tables: names, keys and columns that the domains rely on.

`cutoff` is the last day that a row knows about, inclusive. Customers, products and
customer_products are published for `as_of` and for several earlier cutoffs (28 days apart), so
that a model can be trained on features from before its labels.
"""

from __future__ import annotations

from ecom_tasks.tables import Column, Table


def _measure(name: str, description: str, *, nullable: bool = False) -> Column:
    return Column(name, "float", description, nullable=nullable)


CUSTOMERS = Table(
    "customers",
    key=("cutoff", "customer_id"),
    columns=(
        Column("cutoff", "date", "last day known, inclusive"),
        Column("customer_id", "string", "pseudonym; guests have no row"),
        _measure("orders", "distinct orders"),
        _measure("units", "units bought, returns subtracted"),
        _measure("spend", "paid, store currency, returns subtracted"),
        _measure("distinct_products", "different products bought"),
        _measure("days_since_first_order", "days from first order to cutoff"),
        _measure("days_since_last_order", "days from last order to cutoff"),
        _measure("mean_days_between_orders", "null with one order day", nullable=True),
        _measure("mean_basket_spend", "spend per order"),
        _measure("mean_basket_products", "order lines per order"),
        _measure("discount_share", "discount / (spend + discount), 0 to 1"),
        _measure("orders_28d", "distinct orders in the 28 days up to cutoff"),
    ),
)
PRODUCTS = Table(
    "products",
    key=("cutoff", "product_id"),
    columns=(
        Column("cutoff", "date", "last day known, inclusive"),
        Column("product_id", "string", "sellable products sold at least once"),
        Column("title", "string", "from the catalogue", nullable=True),
        Column("category", "string", "path, `/`-separated", nullable=True),
        Column("brand", "string", "from the catalogue", nullable=True),
        _measure("customers", "distinct customers who bought it"),
        _measure("orders", "distinct orders"),
        _measure("units", "units sold, returns subtracted"),
        _measure("sales", "paid, store currency, returns subtracted"),
        _measure("units_28d", "units in the 28 days up to cutoff"),
        _measure("customers_28d", "distinct customers in the 28 days up to cutoff"),
        _measure("repeat_customer_share", "share of its customers with at least two orders of it"),
        _measure(
            "again_share",
            "of who bought it in the 56 days before the last 28 that did again in these; "
            "five who did not are added",
        ),
        _measure("discounted_share", "share of its order lines with a discount"),
        _measure("mean_price", "price paid per unit over everything sold; returns do not count"),
        _measure("last_price", "price paid per unit in the last week sold"),
        _measure("regular_price", "median shelf price in the last 28 days sold", nullable=True),
        _measure("days_since_first_sale", "days from first sale to cutoff"),
        _measure("days_since_last_sale", "days from last sale to cutoff"),
        _measure(
            "mean_days_between_purchases", "of the same customer; null if none", nullable=True
        ),
    ),
)
CUSTOMER_PRODUCTS = Table(
    "customer_products",
    key=("cutoff", "customer_id", "product_id"),
    columns=(
        Column("cutoff", "date", "last day known, inclusive"),
        Column("customer_id", "string", "pseudonym"),
        Column("product_id", "string", "sellable products"),
        _measure("orders", "distinct orders with it"),
        _measure("units", "units bought"),
        _measure("spend", "paid, store currency"),
        _measure("days_since_first_order", "days from first order of it to cutoff"),
        _measure("days_since_last_order", "days from last order of it to cutoff"),
        _measure("mean_days_between_orders", "null with one order day", nullable=True),
        _measure("orders_28d", "distinct orders in the 28 days up to cutoff"),
        _measure("orders_84d", "distinct orders in the 84 days up to cutoff"),
        _measure("recency_weighted_orders", "orders, halved for every 84 days of age (a setting)"),
        _measure("fast_weighted_orders", "the same with a third of that half-life"),
        _measure("slow_weighted_orders", "the same with twice that half-life"),
        _measure("median_days_between_orders", "null with one order day", nullable=True),
        _measure("longest_days_between_orders", "null with one order day", nullable=True),
        _measure("std_days_between_orders", "null with fewer than three order days", nullable=True),
        _measure("discounted_share", "share of its orders with a discount on it"),
    ),
)
DEMAND = Table(
    "demand",
    key=("product_id", "location_id", "week_starts_on"),
    columns=(
        Column("product_id", "string", "sellable products"),
        Column("location_id", "string", "`all` where the shop has no locations"),
        Column("week_starts_on", "date", "Monday; only weeks complete by as_of"),
        _measure("units", "units sold, returns subtracted; 0 in a week with promotion only"),
        _measure("sales", "paid, store currency"),
        _measure("orders", "distinct orders"),
        _measure(
            "unit_price", "mean paid per unit sold, returns aside; null if none", nullable=True
        ),
        # A ratio of sales to units moves with the mix of what was bought; a median does not.
        _measure("median_price", "median price paid per unit over lines above 0", nullable=True),
        _measure("regular_price", "units-weighted shelf price; null if unknown", nullable=True),
        _measure(
            "discount_depth",
            "1 - unit_price / regular_price, 0 to 1; null if unknown",
            nullable=True,
        ),
        _measure("display", "1 if on display in the week, else 0"),
        _measure("mailer", "1 if in a mailer in the week, else 0"),
        _measure("price_cut", "1 if a price-cut promotion ran in the week, else 0"),
        _measure("coupon", "1 if a coupon promotion ran in the week, else 0"),
    ),
)
DEMAND_DAILY = Table(
    "demand_daily",
    key=("product_id", "location_id", "day"),
    columns=(
        Column("product_id", "string", "sellable products"),
        Column("location_id", "string", "`all` where the shop has no locations"),
        Column("day", "date", "days with sales or returns"),
        _measure("units", "units sold, returns subtracted"),
        _measure("sales", "paid, store currency"),
        _measure("orders", "distinct orders"),
        _measure("unit_price", "mean paid per unit sold; null if none", nullable=True),
        _measure("regular_price", "units-weighted shelf price; null if unknown", nullable=True),
        _measure("discount_depth", "1 - unit_price / regular_price, 0 to 1", nullable=True),
        _measure("weekday", "1 for Monday"),
        _measure("day_of_month", "1 to 31"),
        _measure("month", "1 to 12"),
        _measure("holiday", "1 on a public holiday; null without a country", nullable=True),
        _measure("days_since_payday", "0 on one; null where none are known", nullable=True),
    ),
)
PROMOTION_CALENDAR = Table(
    "promotion_calendar",
    key=("product_id", "week_starts_on"),
    columns=(
        Column("product_id", "string", "sellable products"),
        Column("week_starts_on", "date", "Monday; also weeks after as_of, as far as announced"),
        Column("announced_on", "date", "when the last of the week's promotions was announced"),
        _measure("display_locations", "locations that have it on display"),
        _measure("mailer_locations", "locations that have it in a mailer"),
        _measure("price_cut_locations", "locations with a price cut"),
        _measure("coupon_locations", "locations with a coupon"),
    ),
)
PRICE_HISTORY = Table(
    "price_history",
    key=("product_id", "week_starts_on"),
    columns=(
        Column("product_id", "string", "sellable products"),
        Column("week_starts_on", "date", "Monday; weeks with sales"),
        _measure("units", "units sold over all locations, returns aside"),
        _measure("unit_price", "mean paid per unit sold"),
        _measure("regular_price", "units-weighted shelf price; null if unknown", nullable=True),
        _measure("lowest_price", "lowest weekly mean price of a location"),
        _measure("highest_price", "highest weekly mean price of a location"),
    ),
)

FEATURES: dict[str, Table] = {
    table.name: table
    for table in (
        CUSTOMERS,
        PRODUCTS,
        CUSTOMER_PRODUCTS,
        DEMAND,
        PROMOTION_CALENDAR,
        PRICE_HISTORY,
    )
}
