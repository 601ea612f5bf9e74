"""The rules file: what may stand in a list, and what the shop wants there, in its own words.

A small TOML file, read when lists are made and not when models are trained, so that a change of
rules takes minutes. Every rule works inside top-k: `eligibility.py` says what may be chosen,
`selection.py` chooses.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ecom_tasks.errors import ConfigError


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Goods(_Strict):
    """Some products: named one by one, by category path (with all below it) or by brand."""

    products: tuple[str, ...] = Field(default=(), description="product ids")
    categories: tuple[str, ...] = Field(default=(), description="paths, with all below them")
    brands: tuple[str, ...] = Field(default=(), description="as in the catalogue")

    @property
    def named(self) -> bool:
        return bool(self.products or self.categories or self.brands)


class _Named(Goods):
    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.named:
            raise ValueError("name products, categories or brands that this is about")
        return self


class Durable(_Named):
    """Goods that nobody needs twice: not offered to a customer who has them."""

    days: int = Field(default=730, ge=1, description="for how long after the last order")


class AgeLimit(_Named):
    """Goods for grown-ups; customers whose birth year is unknown do not see them."""

    years: int = Field(ge=1, le=120, description="age that a customer must have reached")


class OnlyIn(_Named):
    """Goods for some regions; customers whose region is unknown do not see them."""

    regions: tuple[str, ...] = Field(min_length=1, description="as in the table customers")


class Eligibility(_Strict):
    """What may be recommended at all. Goods out of stock never are."""

    stale_days: int = Field(default=84, ge=1, description="unsold for longer: not recommended")
    never: Goods = Goods()
    durable: tuple[Durable, ...] = ()
    age_limits: tuple[AgeLimit, ...] = ()
    only_in: tuple[OnlyIn, ...] = ()


class Boost(_Named):
    """Goods to count as if they were bought `factor` times as often; below 1: less often."""

    factor: float = Field(gt=0, description="of the expected orders")


class Pin(_Strict):
    """A product at a place, for whoever may see it."""

    product: str = Field(description="product id")
    place: int = Field(ge=1, description="rank in the list, from 1")
    segments: tuple[str, ...] = Field(default=(), description="for these only; empty: for all")
    regions: tuple[str, ...] = Field(default=(), description="for these only; empty: for all")


class Diversity(_Strict):
    """How alike the products of a list may be.

    References
    ----------
    Carbonell and Goldstein (1998), "The use of MMR, diversity-based reranking", SIGIR.
    """

    most_per_category: int = Field(
        default=0, ge=0, description="products of one category, as long as others are left; 0: any"
    )
    category_levels: int = Field(
        default=2, ge=1, description="levels of the path that make a category for the cap"
    )
    weight: float = Field(
        default=0.0, ge=0, lt=1, description="maximal marginal relevance: 0 looks at relevance only"
    )


class Value(_Strict):
    """What an order is worth to the shop: with weight 1 lists are sorted by expected value."""

    of: Literal["margin", "revenue"] = "margin"
    weight: float = Field(
        default=0.0, ge=0, description="power of the value beside expected orders"
    )
    assumed_margin: float = Field(
        default=0.3, gt=0, lt=1, description="share of the price, where no unit cost is known"
    )


class Exploration(_Strict):
    """Places kept for products with little history, which would never be found out otherwise."""

    places: int = Field(default=1, ge=0, description="the last ones of each list")


class Rules(_Strict):
    """All rules of a shop; without a file these defaults hold."""

    eligibility: Eligibility = Eligibility()
    boosts: tuple[Boost, ...] = ()
    pins: tuple[Pin, ...] = ()
    diversity: Diversity = Diversity()
    value: Value = Value()
    exploration: Exploration = Exploration()

    @model_validator(mode="after")
    def _pins_do_not_collide(self) -> Self:
        places = Counter((pin.place, pin.segments, pin.regions) for pin in self.pins)
        twice = sorted(place for (place, _, _), times in places.items() if times > 1)
        if twice:
            raise ValueError(f"two products are pinned to place {twice[0]} for the same customers")
        return self


def parse(text: str, origin: str) -> Rules:
    """Read the text of a rules file.

    Parameters
    ----------
    origin : where it came from, for messages

    Raises
    ------
    ConfigError
        It is no TOML, or has a rule that does not exist or cannot be; with its place in the file.
    """
    try:
        return Rules.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The rules file {origin} is no TOML: {error}", "Mend it") from error
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'rules'}: {each['msg']}"
            for each in error.errors()
        )
        raise ConfigError(
            f"The rules file {origin} has wrong rules: {wrong}",
            "docs/guide/rules.md lists what can be said",
        ) from error


def check_places(rules: Rules, k: int) -> None:
    """Refuse what lists of `k` products have no place for.

    Raises
    ------
    ConfigError
        A pin lies beyond the end, or all places are kept for new products.
    """
    for pin in rules.pins:
        if pin.place > k:
            raise ConfigError(
                f"The rules pin product {pin.product} to place {pin.place} of lists of {k}",
                "Give a place in the list, or longer lists (recommendation.top_k)",
            )
    if rules.exploration.places >= k:
        raise ConfigError(
            f"The rules keep {rules.exploration.places} places of {k} for new products",
            "Keep fewer (exploration.places), or make longer lists (recommendation.top_k)",
        )


def named(rules: Rules) -> list[Goods]:
    """Return every group of goods that some rule is about."""
    ruled = rules.eligibility
    return [ruled.never, *ruled.durable, *ruled.age_limits, *ruled.only_in, *rules.boosts]
