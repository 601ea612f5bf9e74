"""Every dial of ingestion, with its unit."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from ecom_tasks.config import DomainConfig


class IngestionConfig(DomainConfig):
    """Settings of loading and validation.

    A day is judged by its newest day with rows, against the same weekday of the weeks before, so
    that a shop which closes on Sundays is not alarmed every Sunday.
    """

    domain: ClassVar[str] = "ingestion"

    buckets: int = Field(
        default=8,
        ge=1,
        le=999,
        description="files that each bucketed table is split into; more files, less memory a step. "
        "To change it, double it: tables of both numbers can then be read together",
    )
    large_bucket_rows: int = Field(
        default=1_000_000,
        ge=1,
        exclude=True,
        description="rows of a bucket above which more are advised; two are loaded at once, "
        "which takes about 2 KB a row",
    )
    memory_mb: int = Field(
        default=500,
        ge=100,
        exclude=True,
        description="memory that DuckDB may use before it spills to disk; MiB",
    )
    threads: int = Field(
        default=0, ge=0, exclude=True, description="threads of DuckDB; 0: one a core"
    )
    largest_quarantined_share: float = Field(
        default=0.05, ge=0, le=1, description="share of a table's rows; more of them fail the day"
    )
    largest_quarantined_share_of_newest_day: float = Field(
        default=0.3, ge=0, le=1, description="share of the newest day's rows; more fail the day"
    )
    further_expectations: str = Field(
        default="", description="folder with suites of the shop's own (order_lines.json, ...)"
    )
    trailing_weeks: int = Field(
        default=4, ge=1, le=52, description="weeks that the newest day is compared with"
    )
    stale_days_warning: int = Field(
        default=2, ge=0, description="days without an order before as_of that draw a warning"
    )
    stale_days_critical: int = Field(
        default=7, ge=0, description="days without an order before as_of that fail the day"
    )
    fewest_rows_to_judge: int = Field(
        default=50, ge=1, description="usual rows a day below which volume and price are not judged"
    )
    fewest_locations_to_judge: int = Field(
        default=4, ge=1, description="regular locations below which missing ones are not judged"
    )
    lowest_volume_ratio: float = Field(
        default=0.25, ge=0, le=1, description="rows of the newest day / usual rows of its weekday"
    )
    highest_volume_ratio: float = Field(
        default=4.0, ge=1, description="rows of the newest day / usual rows of its weekday"
    )
    lowest_price_ratio: float = Field(
        default=1 / 3, ge=0, le=1, description="median price of the newest day / usual median"
    )
    highest_price_ratio: float = Field(
        default=3.0, ge=1, description="median price of the newest day / usual median"
    )
    lowest_location_share: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="share of the regular locations that the newest day must show",
    )


class RecordedSettings(DomainConfig):
    """What one artefact depends on: some settings, and fingerprints of what they point to.

    Kept apart from `IngestionConfig`, so that a changed threshold of validation does not make new
    versions of tables whose rows are the same.
    """

    domain: ClassVar[str] = "ingestion"
    model_config = SettingsConfigDict(frozen=True, extra="allow")


LOADING = (
    "buckets",
    "largest_quarantined_share",
    "largest_quarantined_share_of_newest_day",
)
"""Settings that a loaded table depends on."""


def loading_settings(config: IngestionConfig, **fingerprints: Any) -> RecordedSettings:
    """Return what a loaded table is named after."""
    return RecordedSettings(**config.model_dump(include=set(LOADING)), **fingerprints)


def checking_settings(config: IngestionConfig, **fingerprints: Any) -> RecordedSettings:
    """Return what the result of validation is named after."""
    left_out = {*LOADING, "further_expectations"}  # the suites' fingerprint stands for the folder
    return RecordedSettings(**config.model_dump(exclude=left_out), **fingerprints)
