"""What the forecaster sees of a series at an origin, and of the week that it is to forecast.

An origin is a number of periods known: at origin 44 the columns 0 to 43 of the panel are the past,
and step 1 is column 44. Nothing right of the origin is read but plans announced by then. Units
are divided by the series's own level, so that one model serves series of every size. Periods are
weeks where nothing else is said; of days or months the same numbers of periods are looked at.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache

import numpy as np
import numpy.typing as npt

from ecom_tasks.features import calendar
from ecom_tasks.inventory.panel import Floats, Panel

RECENT, LONG = 8, 26
"""Periods of the recent and of the long mean."""
FAR = 13
"""Periods beyond which a horizon is long: last season tells more than the last weeks."""
_LEVEL_FLOOR = np.float32(0.1)
_PRICE_FLOOR = np.float32(0.01)
_EASTER_DAYS = 21
_SEASONS_TO_COMPARE = 2
_LIKE = {"like": 0.15, "roughly_like": 0.4}
"""How far plans may lie apart to count as similar."""


def level(panel: Panel, origin: int) -> Floats:
    """Return units a period around which each series moves: recent mean, leaning on a longer one.

    Where the horizon is long, the mean of a whole season leans in as well: a series that sells in
    December only has a level in July too.

    Returns
    -------
    (series,), above zero also where nothing sold.
    """
    past = panel.units[:, :origin]
    recent, long = past[:, -RECENT:].mean(axis=1), past[:, -LONG:].mean(axis=1)
    found = 0.7 * recent + 0.3 * long
    if panel.horizon > FAR:
        found = 0.6 * found + 0.4 * past[:, -max(panel.season, LONG) :].mean(axis=1)
    return np.asarray(np.maximum(found, 0) + _LEVEL_FLOOR, np.float32)


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
    if panel.orders is not None:
        orders = panel.orders[:, :origin][:, -RECENT:].sum(axis=1)
        found["units_per_order"] = past[:, -RECENT:].sum(axis=1) / (orders + 1)
    if panel.locations is not None:
        found["locations"] = panel.locations[:, :origin][:, -RECENT:].mean(axis=1) / base
    found |= _price(panel, origin) | _groups(panel, origin, base)
    return {name: np.asarray(values, np.float32) for name, values in found.items()}


def _price(panel: Panel, origin: int) -> dict[str, Floats]:
    """Describe the last price beside the usual one, and the discounts of the last weeks."""
    if panel.price is None or panel.discount_depth is None:
        return {}
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
    for name, codes in groups(panel).items():
        totals = _totals(panel.units[:, :origin], codes)
        recent = totals[:, -RECENT:].mean(axis=1) + 1
        found[f"{name}_1"] = (totals[:, -1] / recent)[codes]
        found[f"{name}_4"] = (totals[:, -4:].mean(axis=1) / recent)[codes]
        found[f"{name}_{LONG}"] = (totals[:, -LONG:].mean(axis=1) / recent)[codes]
        found[f"{name}_share"] = base / recent[codes]
        found[name] = codes.astype(np.float32)
    return found


def groups(panel: Panel) -> dict[str, npt.NDArray[np.intp]]:
    """Number what series have in common, name -> (series,).

    Department and category where there are such; else each identifier, if there are several.
    """
    if "category" in panel.keys.columns:
        return {"department": _codes(panel, 1), "category": _codes(panel, 2)}
    names = panel.keys.columns
    if len(names) == 1:
        return {"everything": np.zeros(panel.series, np.intp)}
    return {
        f"all_of_{name}": np.unique(panel.keys[name].to_numpy(), return_inverse=True)[1]
        for name in names
    }


def _totals(units: Floats, codes: npt.NDArray[np.intp]) -> Floats:
    """Add the series of each group up, (groups, periods)."""
    totals = np.zeros((codes.max() + 1, units.shape[1]), np.float32)
    np.add.at(totals, codes, units)
    return totals


def week_ahead(panel: Panel, origin: int, step: int, country: str) -> dict[str, Floats]:
    """Describe the period `step` periods after `origin`: calendar and plans, (series,) each."""
    week = origin + step - 1
    found: dict[str, Floats] = {"step": np.full(panel.series, step, np.float32)}
    for name, offset in (("holidays_before", -1), ("holidays", 0), ("holidays_after", 1)):
        days = _holidays_within(panel, week + offset, country)
        found[name] = np.full(panel.series, days, np.float32)
    for name, value in _calendar(panel, week).items():
        found[name] = np.full(panel.series, value, np.float32)
    found["year_ago"] = _season_ago(panel.units, panel.season, origin, week, 1)
    if panel.seasons >= _SEASONS_TO_COMPARE:
        found |= _of_season(panel, origin, week)
    if panel.plans:
        found |= _promotions(panel, origin, week)
    return {name: np.asarray(values, np.float32) for name, values in found.items()}


def _calendar(panel: Panel, week: int) -> dict[str, float]:
    """Say which day it is, where periods are days, and how near payday, where those are known."""
    first, end = panel.day(week), panel.day(week + 1)
    found: dict[str, float] = {}
    if panel.frequency == "D":
        found |= {"weekday": first.isoweekday(), "day_of_month": first.day, "month": first.month}
    if panel.paydays:
        found["days_since_payday"] = calendar.days_since_payday(first, panel.paydays)
        days = [first + timedelta(days=day) for day in range((end - first).days)]
        found["paydays"] = sum(calendar.days_since_payday(day, panel.paydays) == 0 for day in days)
    return found


def _season_ago(units: Floats, season: int, origin: int, week: int, seasons: int) -> Floats:
    """Units whole seasons before, by the mean of the quarter around; NaN where unknown.

    Beyond a season's horizon the last season known counts.
    """
    half = min(6, season // 2)
    back = seasons - 1 + -(-(week - origin + 1) // season)
    ago = week - back * season
    if ago < half:
        return np.full(len(units), np.nan, np.float32)
    around = units[:, ago - half : min(ago + half + 1, origin)].mean(axis=1)
    return np.asarray(units[:, ago] / (np.maximum(around, 0) + _LEVEL_FLOOR), np.float32)


def _of_season(panel: Panel, origin: int, week: int) -> dict[str, Floats]:
    """Say where in its season the period stands, and what the season was like before.

    Only where several seasons are known: in a single one, a position tells no more than a date.
    """
    found = {"position": np.full(panel.series, week % panel.season, np.float32)}
    found["two_seasons_ago"] = _season_ago(panel.units, panel.season, origin, week, 2)
    past = panel.units[:, :origin]
    back = -(-(week - origin + 1) // panel.season)
    for name, seasons in (("season", 0), ("second_season", 1)):
        ago = week - (back + seasons) * panel.season
        base = level(panel, origin)
        known = past[:, ago] if ago >= 0 else np.full(panel.series, np.nan, np.float32)
        found[f"units_{name}_ago"] = known / base
        smooth = past[:, max(0, ago - 1) : ago + 2].mean(axis=1) if ago >= 0 else known
        found[f"units_around_{name}_ago"] = smooth / base
    for name, codes in groups(panel).items():
        ago_of_group = _season_ago(_totals(past, codes), panel.season, origin, week, 1)
        found[f"{name}_season_ago"] = ago_of_group[codes]
    for name, column in (("easter", week), ("easter_season_ago", week - back * panel.season)):
        found[name] = np.full(panel.series, _days_from_easter(panel, column), np.float32)
    return found


def _days_from_easter(panel: Panel, column: int) -> float:
    """Count the days from Easter Sunday to the first day of the period, cut at three weeks."""
    from dateutil.easter import easter

    day = panel.day(column)
    return float(np.clip((day - easter(day.year)).days, -_EASTER_DAYS, _EASTER_DAYS))


def plan_features(panel: Panel) -> list[str]:
    """Return the names of features that differ with what is planned for the week."""
    if not panel.plans:
        return []
    of_each = [name + part for name in panel.plans for part in ("", "_above_usual", "_above_last")]
    return [*of_each, *(f"units_when_{name}" for name in _LIKE)]


def planned(panel: Panel, origin: int, week: int) -> dict[str, Floats]:
    """Return the promotions of `week` as known at `origin`: mechanic -> (series,).

    Beyond the last week that any plan reaches nothing is known, which is not the same as no
    promotion: there each series is taken to be promoted as usual in its recent weeks.
    """
    known = panel.announced[:, week] <= origin
    if week > plans_reach(panel, origin):
        return {name: usual(places, origin) for name, places in panel.plans.items()}
    return {name: places[:, week] * known for name, places in panel.plans.items()}


def usual(places: Floats, origin: int) -> Floats:
    """Return the mean promotion of the recent weeks, (series,)."""
    return np.asarray(places[:, max(0, origin - RECENT) : origin].mean(axis=1), np.float32)


def plans_reach(panel: Panel, origin: int) -> int:
    """Return the last column for which any plan is known at `origin`."""
    if panel.planned_to is not None:
        return panel.planned_to
    promoted = sum(panel.plans.values(), start=np.zeros_like(panel.announced)) > 0
    reached = np.flatnonzero((promoted & (panel.announced <= origin)).any(axis=0))
    return int(reached[-1]) if reached.size else -1


def _promotions(panel: Panel, origin: int, week: int) -> dict[str, Floats]:
    """Compare the plan of the week with the past, and recall what sold under similar plans."""
    found: dict[str, Floats] = {}
    plan = planned(panel, origin, week)
    distance = np.zeros((panel.series, origin), np.float32)
    for name, places in panel.plans.items():
        past = places[:, :origin]
        found[name] = plan[name]
        found[f"{name}_usual"] = usual(places, origin)
        found[f"{name}_above_usual"] = plan[name] - found[f"{name}_usual"]
        found[f"{name}_above_last"] = plan[name] - past[:, -1]
        found[f"{name}_largest"] = past.max(axis=1)
        distance += (past - plan[name][:, None]) ** 2
        if "category" in panel.keys.columns:
            codes = _codes(panel, 2)
            size = np.bincount(codes)
            others = np.bincount(codes, found[f"{name}_above_usual"])[codes]
            found[f"{name}_of_category"] = np.asarray(others / size[codes], np.float32)
    scaled = panel.units[:, :origin] / level(panel, origin)[:, None]
    faded = 0.95 ** np.arange(origin)[::-1]
    for name, width in _LIKE.items():
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


def _holidays_within(panel: Panel, column: int, country: str) -> int:
    return _holidays(panel.day(column), panel.day(column + 1), country)


@cache
def _holidays(first: date, end: date, country: str) -> int:
    """Count the public holidays from `first` to before `end`; 0 where no country is known."""
    if not country:
        return 0
    days = [first + timedelta(days=day) for day in range((end - first).days)]
    free = calendar.public_holidays(country, {day.year for day in days})
    return sum(day in free for day in days)
