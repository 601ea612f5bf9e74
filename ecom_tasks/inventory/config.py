"""Every dial of the inventory domain, with its unit."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from ecom_tasks.config import DomainConfig

SUPPLY_SETTINGS = (
    "lead_time_days", "lead_time_days_std", "review_days", "service_target", "service_level",
    "order_cost", "order_budget", "order_capacity", "supplier_minimum", "reconciliation",
    "cover_weeks", "simulated_paths", "pack_size", "holding_cost_rate", "margin",
    "stock_age_days", "samples", "warehouse_lead_time_days", "warehouse_lead_time_days_std",
)  # fmt: skip


DAILY: dict[str, object] = {
    "horizon": 14, "history": 28, "season": 7, "review_days": 1.0, "network_places": 64,
}  # fmt: skip
"""Defaults where periods are days."""
METHODS = ("AutoETS", "DynamicOptimizedTheta", "AutoCES", "MSTL", "SES", "TSB", "CrostonSBA")


class InventoryConfig(DomainConfig):
    """Settings of demand forecasts and order proposals."""

    domain: ClassVar[str] = "inventory"

    # Which series
    frequency: Literal["weekly", "daily"] = Field(
        default="weekly",
        description="periods that are forecast; daily: other defaults are a horizon of 14 days, "
        "28 days of history, a season of 7, and orders every day",
    )
    products: int = Field(
        default=2000, ge=1, description="best-selling products (units up to the first test window)"
    )
    by_location: bool = Field(
        default=False, description="one series per product and location instead of per product"
    )
    minimum_orders: int = Field(
        default=3, ge=1, description="orders up to the first test window that a product needs"
    )
    country: str = Field(
        default="",
        description="ISO 3166 code of a country, for public holidays; empty: the source's country",
    )

    paydays: tuple[int, ...] = Field(
        default=(),
        description="days of the month on which the shop's customers are paid, 31 for the last; "
        "forecasts then see how near each period is",
    )

    improbable_run: float = Field(
        default=1e-3,
        ge=0,
        lt=1,
        description="probability below which periods without a sale are taken for an empty shelf, "
        "where stock is not counted; 0: never",
    )

    # Forecast and its judgement
    horizon: int = Field(default=4, ge=1, le=400, description="periods forecast at once")
    test_windows: int = Field(
        default=2, ge=1, description="last windows of a horizon each that judge the model"
    )
    calibration_windows: int = Field(
        default=2, ge=1, description="windows before an origin that calibrate its quantiles"
    )
    history: int = Field(
        default=8, ge=8, description="periods that a forecast must be able to look back upon"
    )
    season: int = Field(
        default=52, ge=1, description="periods of a season; for the seasonal naive baseline"
    )
    quantiles: tuple[float, ...] = Field(
        default=(0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99),
        description="levels forecast, ascending, between 0 and 1; 0.1, 0.5 and 0.9 among them",
    )
    training_rows: int = Field(
        default=300_000, ge=1000, description="rows at most that the point model sees"
    )
    quantile_rows: int = Field(
        default=40_000, ge=1000, description="rows at most that the quantile model sees"
    )
    mean_objective: Literal["squared", "poisson", "tweedie"] = Field(
        default="squared",
        description="what the trees of the mean minimise: squared errors, or the deviance of "
        "Poisson or Tweedie (power 1.3) demand, for which no demand may be negative",
    )
    distributed: bool = Field(
        default=False,
        description="whether trees are trained on the workers that ECOM_DASK names (xgboost.dask), "
        "for more rows than fit one machine; else in this process",
    )
    network: bool = Field(
        default=True, description="whether a neural network (Keras) is among what is combined"
    )
    network_rows: int = Field(
        default=20_000, ge=1000, description="stretches of series at most that the network sees"
    )
    network_places: int = Field(
        default=32, ge=8, le=512, description="periods that the network looks back; a power of two"
    )
    network_epochs: int = Field(default=8, ge=1, description="passes of the network over its rows")
    methods: tuple[str, ...] = Field(
        default=("SES", "TSB", "CrostonSBA"),
        description="classical methods that are combined with the global models: "
        "AutoETS, DynamicOptimizedTheta, AutoCES, MSTL, SES, TSB, CrostonSBA",
    )
    weight_shrinkage: float = Field(
        default=0.1, ge=0, description="how strongly weights of forecasts are drawn to equal ones"
    )
    seed: int = Field(default=1, ge=0, description="of every random choice")

    # Supply terms, used and marked as assumed where the shop has no supply table
    lead_time_days: float = Field(default=7.0, ge=0, description="mean days, order to receipt")
    lead_time_days_std: float = Field(default=2.0, ge=0, description="its standard deviation, days")
    review_days: float = Field(default=7.0, gt=0, description="days from one order to the next")
    service_target: Literal["fill_rate", "cycle_service", "cost"] = Field(
        default="fill_rate",
        description="what stock levels aim at: the share of units met at once, the probability of "
        "no stock-out in an order cycle (both `service_level`), or the least cost of lost margin "
        "and holding",
    )
    service_level: float = Field(
        default=0.95, gt=0.5, lt=1, description="share or probability that levels aim at"
    )
    order_cost: float = Field(
        default=1.0, ge=0, description="store currency an order of one product costs"
    )
    order_budget: float = Field(
        default=0, ge=0, description="store currency at cost for all orders of a day; 0: no limit"
    )
    order_capacity: float = Field(
        default=0, ge=0, description="units of all orders of a day together; 0: no limit"
    )
    supplier_minimum: float = Field(
        default=0, ge=0, description="least value of all orders of a day, store currency at cost"
    )
    reconciliation: Literal["bottom_up", "min_trace"] = Field(
        default="bottom_up",
        description="how forecasts of products and of categories are made to add up: by summing "
        "products, or by moving both",
    )
    cover_weeks: float = Field(
        default=8.0, gt=0, description="weeks of demand at most that are ordered at once"
    )
    simulated_paths: int = Field(
        default=10, ge=1, description="lead times drawn per series to play policies with"
    )
    warehouse_lead_time_days: float = Field(
        default=0.0,
        ge=0,
        description="mean days from a supplier to the one warehouse that all locations order from; "
        "0: there is none. Needs `by_location`",
    )
    warehouse_lead_time_days_std: float = Field(
        default=2.0, ge=0, description="its standard deviation, days"
    )
    pack_size: float = Field(default=1.0, gt=0, description="units in the smallest order")
    holding_cost_rate: float = Field(
        default=0.25, ge=0, description="share of the unit cost per year"
    )
    margin: float = Field(
        default=0.3, ge=0, lt=1, description="share of the price; unit cost is the rest of it"
    )
    stock_age_days: int = Field(
        default=7, ge=0, description="days after which a stock count is too old to order by"
    )
    samples: int = Field(
        default=1000, ge=100, description="demand paths drawn per series for its stock levels"
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_days(cls, given: dict[str, object]) -> dict[str, object]:
        return (DAILY if given.get("frequency") == "daily" else {}) | given

    @field_validator("paydays")
    @classmethod
    def _days_of_months(cls, days: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= day <= 31 for day in days):
            raise ValueError("must be days of a month, 1 to 31")
        return tuple(sorted(set(days)))

    @field_validator("quantiles")
    @classmethod
    def _ascending(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if list(levels) != sorted(set(levels)) or not 0 < levels[0] <= levels[-1] < 1:
            raise ValueError("must ascend, each between 0 and 1")
        if not {0.1, 0.5, 0.9} <= set(levels):
            raise ValueError("must hold 0.1, 0.5 and 0.9, by which the forecast is judged")
        return levels

    @model_validator(mode="after")
    def _warehouse_has_stores(self) -> Self:
        if self.warehouse_lead_time_days and not self.by_location:
            raise ValueError("warehouse_lead_time_days asks for by_location=true")
        return self

    def for_forecasts(self) -> Self:
        """Return these settings with the supply terms at their defaults.

        Forecasts do not depend on them, so that another lead time trains nothing again.
        """
        fields = type(self).model_fields
        return self.model_copy(update={name: fields[name].default for name in SUPPLY_SETTINGS})

    @field_validator("network_places")
    @classmethod
    def _power_of_two(cls, places: int) -> int:
        if places & (places - 1):
            raise ValueError("must be a power of two: 8, 16, 32, ...")
        return places

    @field_validator("methods")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(names) - set(METHODS))
        if unknown:
            raise ValueError(f"there is no {', '.join(unknown)}; there are {', '.join(METHODS)}")
        return names

    @property
    def windows(self) -> int:
        """Windows that are forecast from earlier data: test and calibration."""
        return self.test_windows + self.calibration_windows

    @property
    def period(self) -> str:
        """What a period is called: `week` or `day`."""
        return "day" if self.frequency == "daily" else "week"

    @property
    def period_days(self) -> int:
        """Days of a period."""
        return 1 if self.frequency == "daily" else 7

    @property
    def periods_needed(self) -> int:
        """Periods of sales without which nothing can be trained, calibrated and tested."""
        return self.windows * self.horizon + self.history + self.horizon
