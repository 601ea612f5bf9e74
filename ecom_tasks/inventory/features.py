"""What the forecaster sees of a series at an origin, and of the week that it is to forecast.

An origin is a number of weeks known: at origin 44 the columns 0 to 43 of the panel are the past,
and step 1 is column 44. Nothing right of the origin is read but plans announced by then. Units
are divided by the series's own level, so that one model serves series of every size.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache

import holidays
import numpy as np
import numpy.typing as npt

from ecom_tasks.errors import ConfigError
from ecom_tasks.inventory.series import Floats, Panel

RECENT, LONG = 8, 26
"""Weeks of the recent and of the long mean."""
_LEVEL_FLOOR = np.float32(0.1)
_PRICE_FLOOR = np.float32(0.01)
_YEAR = 52


def level(panel: Panel, origin: int) -> Floats:
    """Return units a week around which each series moves: recent mean, leaning on a longer one.

    Returns
    -------
    (series,), above zero also where nothing sold.
    """
    past = panel.units[:, :origin]
    recent, long = past[:, -RECENT:].mean(axis=1), past[:, -LONG:].mean(axis=1)
    return np.asarray(0.7 * recent + 0.3 * long + _LEVEL_FLOOR, np.float32)


def history(panel: Panel, origin: int) -> dict[str, Floats]:
    """Describe the past of every series as of `origin`: feature name -> (series,)."""
    past, base = panel.units[:, :origin], level(panel, origin)
    scaled = past / base[:, None]
    found = {f"lag_{lag}": scaled[:, -lag] for lag in (1, 2, 3, 4, 6, 8)}
    for weeks in (2, 4, RECENT, 13, LONG):
        window = scaled[:, -weeks:]
        found[f"mean_{weeks}"] = window.mean(axis=1)
        if weeks > 4:
            found[f"std_{weeks}"] = window.std(axis=1)
            found[f"largest_{weeks}"] = window.max(axis=1)
            found[f"median_{weeks}"] = np.median(window, axis=1)
            found[f"without_sales_{weeks}"] = (window <= 0).mean(axis=1)
    decay = 0.8 ** np.arange(origin)[::-1]
    found["mean_faded"] = (scaled * decay).sum(axis=1) / decay.sum()
    found["mean_all"] = scaled.mean(axis=1)
    found["trend"] = found["mean_4"] - found["mean_13"]
    found["log_level"] = np.log(base)
    found["weeks_since_first_sale"] = origin - np.argmax(past > 0, axis=1)
    found["weeks_since_last_sale"] = np.argmax(past[:, ::-1] > 0, axis=1)
    orders = panel.orders[:, :origin][:, -RECENT:].sum(axis=1)
    found["units_per_order"] = past[:, -RECENT:].sum(axis=1) / (orders + 1)
    found["locations"] = panel.locations[:, :origin][:, -RECENT:].mean(axis=1) / base
    found |= _price(panel, origin) | _groups(panel, origin, base)
    return {name: np.asarray(values, np.float32) for name, values in found.items()}


def _price(panel: Panel, origin: int) -> dict[str, Floats]:
    """Describe the last price beside the usual one, and the discounts of the last weeks."""
    price = panel.price[:, :origin]
    usual = np.maximum(_mean_known(price[:, -LONG:]), _PRICE_FLOOR)
    last = last_known(price)
    depth = panel.discount_depth[:, :origin]
    lowest = np.where(np.isnan(price), np.inf, price)[:, -RECENT:].min(axis=1)
    return {
        "log_price": np.log(usual),
        "price_last": last / usual,
        "price_lowest": np.where(np.isfinite(lowest), lowest, np.nan) / usual,
        "discount_1": depth[:, -1],
        "discount_4": _mean_known(depth[:, -4:]),
        "discount_13": _mean_known(depth[:, -13:]),
    }


def _groups(panel: Panel, origin: int, base: Floats) -> dict[str, Floats]:
    """Describe the movement of the series's department and category, and its share in them."""
    found: dict[str, Floats] = {}
    for name, depth in (("department", 1), ("category", 2)):
        codes = _codes(panel, depth)
        totals = np.zeros((codes.max() + 1, origin), np.float32)
        np.add.at(totals, codes, panel.units[:, :origin])
        recent = totals[:, -RECENT:].mean(axis=1) + 1
        found[f"{name}_1"] = (totals[:, -1] / recent)[codes]
        found[f"{name}_4"] = (totals[:, -4:].mean(axis=1) / recent)[codes]
        found[f"{name}_{LONG}"] = (totals[:, -LONG:].mean(axis=1) / recent)[codes]
        found[f"{name}_share"] = base / recent[codes]
        found[name] = codes.astype(np.float32)
    return found


def week_ahead(panel: Panel, origin: int, step: int, country: str) -> dict[str, Floats]:
    """Describe the week `step` weeks after `origin`: calendar and plans, (series,) each."""
    week = origin + step - 1
    found: dict[str, Floats] = {"step": np.full(panel.series, step, np.float32)}
    for name, offset in (("holidays_before", -1), ("holidays", 0), ("holidays_after", 1)):
        days = _holidays_in_week(panel.monday(week + offset), country)
        found[name] = np.full(panel.series, days, np.float32)
    found["year_ago"] = _year_ago(panel, origin, week)
    if panel.promotions:
        found |= _promotions(panel, origin, week)
    return {name: np.asarray(values, np.float32) for name, values in found.items()}


def _year_ago(panel: Panel, origin: int, week: int) -> Floats:
    """Units 52 weeks before the week, by the mean of the 13 weeks around; NaN where unknown."""
    ago = week - _YEAR
    if ago < 6:
        return np.full(panel.series, np.nan, np.float32)
    around = panel.units[:, ago - 6 : min(ago + 7, origin)].mean(axis=1)
    return np.asarray(panel.units[:, ago] / (around + _LEVEL_FLOOR), np.float32)


def planned(panel: Panel, origin: int, week: int) -> dict[str, Floats]:
    """Return the promotions of `week` as known at `origin`: mechanic -> (series,).

    Beyond the last week that any plan reaches nothing is known, which is not the same as no
    promotion: there each series is taken to be promoted as usual in its recent weeks.
    """
    known = panel.announced[:, week] <= origin
    if week > plans_reach(panel, origin):
        return {name: usual(places, origin) for name, places in panel.promotions.items()}
    return {name: places[:, week] * known for name, places in panel.promotions.items()}


def usual(places: Floats, origin: int) -> Floats:
    """Return the mean promotion of the recent weeks, (series,)."""
    return np.asarray(places[:, max(0, origin - RECENT) : origin].mean(axis=1), np.float32)


def plans_reach(panel: Panel, origin: int) -> int:
    """Return the last column for which any promotion is known at `origin`."""
    promoted = sum(panel.promotions.values(), start=np.zeros_like(panel.announced)) > 0
    reached = np.flatnonzero((promoted & (panel.announced <= origin)).any(axis=0))
    return int(reached[-1]) if reached.size else -1


def _promotions(panel: Panel, origin: int, week: int) -> dict[str, Floats]:
    """Compare the plan of the week with the past, and recall what sold under similar plans."""
    found: dict[str, Floats] = {}
    plan = planned(panel, origin, week)
    distance = np.zeros((panel.series, origin), np.float32)
    for name, places in panel.promotions.items():
        past = places[:, :origin]
        found[name] = plan[name]
        found[f"{name}_usual"] = usual(places, origin)
        found[f"{name}_above_usual"] = plan[name] - found[f"{name}_usual"]
        found[f"{name}_above_last"] = plan[name] - past[:, -1]
        found[f"{name}_largest"] = past.max(axis=1)
        distance += (past - plan[name][:, None]) ** 2
        codes = _codes(panel, 2)
        size = np.bincount(codes)
        others = np.bincount(codes, found[f"{name}_above_usual"])[codes]
        found[f"{name}_of_category"] = np.asarray(others / size[codes], np.float32)
    scaled = panel.units[:, :origin] / level(panel, origin)[:, None]
    faded = 0.95 ** np.arange(origin)[::-1]
    for name, width in (("like", 0.15), ("roughly_like", 0.4)):
        weight = np.exp(-distance / width**2) * faded
        similar = np.asarray(weight.sum(axis=1), np.float32)
        # A little weight on the level itself, where hardly any week was similar.
        like = ((weight * scaled).sum(axis=1) + 0.3) / (similar + 0.3)
        found[f"units_when_{name}"] = np.asarray(like, np.float32)
        found[f"weeks_{name}"] = similar
    return found


def _codes(panel: Panel, depth: int) -> npt.NDArray[np.intp]:
    """Number the first `depth` parts of the category path, (series,)."""
    paths = ["/".join(path.split("/")[:depth]) for path in panel.keys["category"]]
    return np.unique(paths, return_inverse=True)[1]


def _mean_known(values: Floats) -> Floats:
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0).sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan), np.float32)


def last_known(values: Floats) -> Floats:
    """Return the last value of each row that is not NaN, (series,); NaN where there is none."""
    known = np.isfinite(values)
    last = values.shape[1] - 1 - np.argmax(known[:, ::-1], axis=1)
    return np.asarray(values[np.arange(len(values)), last], np.float32)


@cache
def _holidays_in_week(monday: date, country: str) -> int:
    """Count the public holidays of a week; 0 where the country is not known."""
    if not country:
        return 0
    days = [monday + timedelta(days=day) for day in range(7)]
    try:
        calendar = holidays.country_holidays(country, years={day.year for day in days})
    except NotImplementedError as error:
        raise ConfigError(
            f"inventory.country={country!r} is no country whose holidays are known",
            "Give its two-letter ISO 3166 code, for example US, GB or CN",
        ) from error
    return sum(day in calendar for day in days)
