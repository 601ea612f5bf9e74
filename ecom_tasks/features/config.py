"""Every dial of the feature tables, with its unit."""

from __future__ import annotations

from datetime import date, timedelta
from typing import ClassVar

from pydantic import Field

from ecom_tasks.config import DomainConfig


class FeaturesConfig(DomainConfig):
    """Settings of the feature tables."""

    domain: ClassVar[str] = "features"

    snapshots: int = Field(
        default=6,
        ge=1,
        le=52,
        description="cutoffs for which customers, products and customer_products are published",
    )
    snapshot_days: int = Field(default=28, ge=1, description="days from one cutoff to the next")
    half_life_days: float = Field(
        default=84.0, gt=0, description="age in days at which an order counts half"
    )
    promotion_horizon_weeks: int = Field(
        default=26, ge=0, description="weeks after as_of for which promotions are expanded"
    )

    def cutoffs(self, as_of: date) -> list[date]:
        """Return the last days known, newest first; the first is `as_of`."""
        return [as_of - timedelta(days=self.snapshot_days * n) for n in range(self.snapshots)]
