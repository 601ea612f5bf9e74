"""What is known of a day: weekday, paydays, public holidays of the shop's country."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Sequence
from datetime import date, timedelta

import holidays
import polars as pl

from ecom_tasks.errors import ConfigError


def days(first: date, last: date, country: str = "", paydays: Sequence[int] = ()) -> pl.DataFrame:
    """Describe each day from `first` to `last`.

    Parameters
    ----------
    country : ISO 3166 code; empty: no holidays are known
    paydays : days of the month, 31 for the last; empty: none are known

    Returns
    -------
    day, weekday (1 for Monday), day_of_month, month, holiday (1 or 0; null without a country) and
    days_since_payday (null without paydays).

    Raises
    ------
    ConfigError
        The holidays of the country are not known.
    """
    every = [first + timedelta(days=day) for day in range((last - first).days + 1)]
    free = public_holidays(country, {day.year for day in every}) if country else None
    return pl.DataFrame(
        {
            "day": every,
            "weekday": [day.isoweekday() for day in every],
            "day_of_month": [day.day for day in every],
            "month": [day.month for day in every],
            "holiday": [None if free is None else float(day in free) for day in every],
            "days_since_payday": [
                days_since_payday(day, paydays) if paydays else None for day in every
            ],
        },
        schema_overrides={"holiday": pl.Float64, "days_since_payday": pl.Float64},
    )


def public_holidays(country: str, years: set[int]) -> holidays.HolidayBase:
    """Return the public holidays of a country; raise `ConfigError` where they are not known."""
    try:
        return holidays.country_holidays(country, years=years)
    except NotImplementedError as error:
        raise ConfigError(
            f"inventory.country={country!r} is no country whose holidays are known",
            "Give its two-letter ISO 3166 code, for example US, GB or CN",
        ) from error


def days_since_payday(day: date, paydays: Sequence[int]) -> int:
    """Count the days since the last payday, 0 on one; a day that the month lacks is its last."""
    for back in range(63):
        before = day - timedelta(days=back)
        length = monthrange(before.year, before.month)[1]
        if before.day in {min(each, length) for each in paydays}:
            return back
    raise ValueError("there is no payday")
