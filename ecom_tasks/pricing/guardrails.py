"""What a shop asks of its prices together: ladders, zones, budgets, stock, and what it aims at.

Limits of a single price (margin, floor, ceiling, step, endings) stand in `rules`.
"""

from __future__ import annotations

import tomllib
from datetime import date
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ecom_tasks.errors import ConfigError


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ladder(_Strict):
    """One product costs at least (and at most) so many times the price of another.

    The large pack more than the small one, the brand more than the shop's own.
    """

    lower: str = Field(description="product_id of the cheaper product")
    higher: str = Field(description="product_id of the dearer product")
    at_least: float = Field(default=1.0, gt=0, description="price of higher over price of lower")
    at_most: float | None = Field(default=None, gt=0, description="the same, from above")

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        if self.lower == self.higher:
            raise ValueError(f"a ladder of {self.lower} with itself")
        if self.at_most is not None and self.at_most < self.at_least:
            raise ValueError(
                f"ladder {self.lower} < {self.higher}: at_least {self.at_least} and at_most "
                f"{self.at_most} collide"
            )
        return self

    @property
    def name(self) -> str:
        return f"ladder {self.lower} < {self.higher}"


class Band(_Strict):
    """Key-value items stay within a band around the lowest competing price."""

    low: float = Field(default=0.9, gt=0, description="least price, share of the competitor's")
    high: float = Field(default=1.05, gt=0, description="highest price, share of the competitor's")

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"competitor band: low {self.low} and high {self.high} collide")
        return self


class Clear(_Strict):
    """Stock of a product that is to be sold by a day."""

    product: str = Field(description="product_id")
    by: date = Field(description="last day on which it is sold")


class Aim(_Strict):
    """What is to be as large as possible, a week.

    `weighted` adds up profit, revenue and units with the three weights; `revenue_at_margin` is
    revenue, as long as profit is at least `margin` of it.
    """

    objective: Literal["profit", "revenue", "units", "weighted", "revenue_at_margin"] = "profit"
    profit: float = Field(default=1.0, ge=0, description="weight of a unit of currency of profit")
    revenue: float = Field(default=0.0, ge=0, description="weight of a unit of currency of revenue")
    units: float = Field(default=0.0, ge=0, description="weight of a unit sold")
    margin: float = Field(default=0.2, ge=0, lt=1, description="least share of revenue earned")
    quantile: float | None = Field(
        default=None, gt=0, lt=1, description="of the aim over elasticity draws; null: the mean"
    )

    @property
    def weights(self) -> tuple[float, float, float]:
        """Weights of profit, revenue and units."""
        return {
            "profit": (1.0, 0.0, 0.0),
            "revenue": (0.0, 1.0, 0.0),
            "units": (0.0, 0.0, 1.0),
            "weighted": (self.profit, self.revenue, self.units),
            "revenue_at_margin": (0.0, 1.0, 0.0),
        }[self.objective]


class Guardrails(_Strict):
    """All rules of products together; product_ids that are not on sale are passed over."""

    aim: Aim = Aim()
    ladders: tuple[Ladder, ...] = ()
    same_price: tuple[tuple[str, ...], ...] = Field(
        default=(), description="groups of products that cost the same: variants, or zones"
    )
    key_value: tuple[str, ...] = Field(
        default=(), description="product_ids whose price customers compare"
    )
    competitor: Band | None = Field(default=None, description="for the products of key_value")
    clear: tuple[Clear, ...] = Field(default=(), description="stock to be sold by a day")
    most_changes: int | None = Field(default=None, ge=0, description="prices changed at once")
    weeks_between: int = Field(default=0, ge=0, description="weeks between changes of a price")
    markdown_budget: float | None = Field(
        default=None, ge=0, description="sum of (current - proposed price) x units a week"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._groups_hold()
        cycle = _cycle(self.ladders)
        if cycle:
            raise ValueError(f"ladders go round in a circle: {' < '.join(cycle)}")
        if self.aim.objective == "weighted" and not any(self.aim.weights):
            raise ValueError("weighted: profit, revenue and units all weigh nothing")
        return self

    def _groups_hold(self) -> None:
        groups = [set(group) for group in self.same_price]
        for number, group in enumerate(groups):
            if len(group) < 2:
                raise ValueError(f"same_price {sorted(group)} names fewer than two products")
            twice = group & set().union(*groups[:number])
            if twice:
                raise ValueError(f"same_price names {sorted(twice)} twice")
            for ladder in self.ladders:
                if {ladder.lower, ladder.higher} <= group and ladder.at_least > 1:
                    raise ValueError(f"{ladder.name} and same_price {sorted(group)} collide")


def parse(text: str, where: str) -> Guardrails:
    """Read rules from TOML; empty text has none beyond those of `PricingConfig`.

    Raises
    ------
    ConfigError
        It is no TOML, or rules contradict each other; the two are named.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is no TOML: {error}", "Correct this line") from error
    try:
        return Guardrails.model_validate(content)
    except ValidationError as error:
        said = "; ".join(
            ": ".join([*filter(None, [".".join(map(str, each["loc"]))]), each["msg"]])
            for each in error.errors()
        ).replace("Value error, ", "")
        raise ConfigError(f"{where}: {said}", "Loosen or remove one of them") from error


def _cycle(ladders: tuple[Ladder, ...]) -> list[str]:
    """Return the products of a circle of ladders, the first again at the end; empty if none."""
    above: dict[str, list[str]] = {}
    for ladder in ladders:
        above.setdefault(ladder.lower, []).append(ladder.higher)
    # Leave out what has nothing below it or above it, again and again: only circles remain.
    left = set(above) | {higher for many in above.values() for higher in many}
    while True:
        higher = {each for lower in left for each in above.get(lower, []) if each in left}
        inner = {each for each in left & higher if left.intersection(above.get(each, []))}
        if inner == left:
            break
        left = inner
    if not left:
        return []
    path = [min(left)]
    while path[-1] not in path[:-1]:
        path.append(min(left.intersection(above[path[-1]])))
    return path[path.index(path[-1]) :]
