"""Every dial of the monitoring, with its unit."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from ecom_tasks.config import DomainConfig

_TOTALS = {
    "customers": ("orders", "units", "spend", "distinct_products", "days_since_first_order"),
    "products": ("customers", "orders", "units", "sales", "days_since_first_sale"),
    "customer_products": (
        "orders", "units", "spend", "days_since_first_order", "days_since_last_order",
        "longest_days_between_orders",
    ),
}  # fmt: skip


class MonitoringConfig(DomainConfig):
    """Settings of drift, of what was realised, and of what raises an alert."""

    domain: ClassVar[str] = "monitoring"

    # What is measured
    judged_after_days: int = Field(
        default=28,
        ge=7,
        description="age in days at which a release is judged; the windows that its own evaluation "
        "promises by are as long",
    )
    reference_days: int = Field(
        default=0,
        ge=0,
        description="compare today's features with those of so many days ago; 0: with those that "
        "the judged release was made from",
    )
    drift_weeks: int = Field(
        default=4, ge=1, description="last weeks of a weekly table that are compared"
    )
    bins: int = Field(default=10, ge=2, le=100, description="quantiles that cut a numeric column")
    sampled_rows: int = Field(
        default=50_000, ge=100, description="rows of the reference that its quantiles are taken of"
    )
    growing: tuple[str, ...] = Field(
        default=tuple(f"{table}.{name}" for table, names in _TOTALS.items() for name in names),
        description="totals since the first day known, which grow with the history itself: "
        "measured and shown, not judged",
    )
    price_tolerance: float = Field(
        default=0.01, ge=0, lt=0.5, description="relative distance at which a price counts as set"
    )
    resamples: int = Field(default=1000, ge=10, description="of the bootstrap over customers")
    resampled_customers: int = Field(
        default=20_000, ge=100, description="customers that are resampled at most"
    )
    confidence: float = Field(default=0.95, gt=0, lt=1, description="level of the intervals")
    seed: int = Field(default=7, description="of every random choice")

    # What it is held against: above the first a warning, above the second an alert
    stability_warning: float = Field(
        default=0.1, gt=0, description="population stability index (Siddiqi, 2006)"
    )
    stability_alert: float = Field(
        default=0.25, gt=0, description="population stability index (Siddiqi, 2006)"
    )
    chance: float = Field(
        default=0.01, gt=0, lt=0.5, description="probability of a finding where nothing changed"
    )
    missing_warning: float = Field(
        default=0.05, gt=0, le=1, description="rise of the share of missing values"
    )
    missing_alert: float = Field(
        default=0.2, gt=0, le=1, description="rise of the share of missing values"
    )
    new_categories_warning: float = Field(
        default=0.1, gt=0, le=1, description="share of rows in categories that were not there"
    )
    coverage: tuple[float, float] = Field(
        default=(0.6, 0.95), description="of the central 80% interval, at least and at most"
    )
    wape_warning: float = Field(default=1.25, gt=0, description="times that of the backtest")
    wape_alert: float = Field(default=1.5, gt=0, description="times that of the backtest")
    bias_warning: float = Field(default=0.15, gt=0, description="share of units, up or down")
    bias_alert: float = Field(default=0.3, gt=0, description="share of units, up or down")
    hit_rate_alert: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="share of the hit rate promised that is lost; less, if beyond chance, is a "
        "warning",
    )
    followed_least: int = Field(
        default=20, ge=1, description="price changes followed that a judgement of them needs"
    )
    outside_warning: float = Field(
        default=0.2, gt=0, le=1, description="share of them with units outside what was expected"
    )
    outside_alert: float = Field(
        default=0.4, gt=0, le=1, description="share of them with units outside what was expected"
    )

    @model_validator(mode="after")
    def _warned_before_alerted(self) -> Self:
        for name in ("stability", "missing", "wape", "bias", "outside"):
            low, high = (getattr(self, f"{name}_{end}") for end in ("warning", "alert"))
            if low > high:
                raise ValueError(f"{name}_warning ({low:g}) is above {name}_alert ({high:g})")
        if not 0 <= self.coverage[0] < self.coverage[1] <= 1:
            raise ValueError("coverage is at least and at most, between 0 and 1")
        return self

    def for_measuring(self) -> Self:
        """Return these settings with all thresholds at their defaults.

        What was measured does not depend on them, so that other thresholds measure nothing again.
        """
        fields = list(type(self).model_fields)
        thresholds = fields[fields.index("stability_warning") :]
        defaults = {name: type(self).model_fields[name].default for name in thresholds}
        return self.model_copy(update=defaults)
