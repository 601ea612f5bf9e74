"""Every dial of pricing, with its unit."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from ecom_tasks.config import DomainConfig


class PricingConfig(DomainConfig):
    """Settings of elasticities, prices and the rules that prices keep."""

    domain: ClassVar[str] = "pricing"

    # Panel
    panel_level: Literal["auto", "product", "product_location"] = Field(
        default="auto",
        description="one series a product (all locations together), or one a product and location; "
        "auto: the latter where at least five locations sell most of their goods in most weeks",
    )
    min_weeks: int = Field(
        default=26, ge=8, description="weeks with a known price that a product needs"
    )
    min_coverage: float = Field(
        default=0.75,
        gt=0,
        le=1,
        description="share of the weeks from first to last sale whose price is known",
    )
    longest_quiet: int = Field(
        default=3,
        ge=0,
        le=13,
        description="weeks without a sale in a row that still count as zero units at a known price",
    )
    move: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="natural log of price over usual price from which a price counts as moved",
    )
    min_moved_weeks: int = Field(
        default=6, ge=2, description="weeks with a moved price that a product needs"
    )
    max_mixed: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of weeks and locations in which buyers may have paid different prices",
    )
    min_reliability: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="share of the variance of the weekly price that is not locations disagreeing",
    )
    min_products: int = Field(
        default=3, ge=1, description="products with enough price variation that a category needs"
    )

    # Elasticities
    folds: int = Field(default=3, ge=2, le=20, description="parts for cross-fitting")
    cross_fit_by: Literal["auto", "product", "time"] = Field(
        default="auto",
        description="what is left out together: products, or blocks of weeks; auto: blocks of "
        "weeks where a product has several locations, else products, so that a season seen once "
        "can be learnt from the others",
    )
    trees: int = Field(default=100, ge=1, description="boosting rounds of each nuisance model")
    depth: int = Field(default=5, ge=1, le=12, description="levels of each tree")
    learning_rate: float = Field(default=0.1, gt=0, le=1, description="shrinkage of each tree")
    nuisance_rows: int = Field(
        default=200_000, ge=1000, description="rows that each nuisance model learns from at most"
    )
    instrument: Literal["none", "cost", "other_locations"] = Field(
        default="none",
        description="what moves a price and not demand, where managers price by what no control "
        "sees: unit cost of the week, or the product's price elsewhere in the week",
    )
    part_rows: int = Field(
        default=1_000_000,
        ge=100,
        description="rows of the panel (a product's week at a location) that are learnt together; "
        "a larger shop is learnt in parts of whole categories, a core each; 1,000,000 take about "
        "1 to 2 GiB",
    )
    lags: int = Field(
        default=4, ge=0, le=26, description="weeks over which a product's shocks may correlate"
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="probability inside the published intervals"
    )
    strong_own_weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="weight of a product's own data from which its evidence can be strong",
    )

    cross_candidates: int = Field(
        default=40, ge=2, le=500, description="products whose price a product may feel, at most"
    )
    cross_false: float = Field(
        default=0.02,
        gt=0,
        lt=0.5,
        description="share of the cross effects found that may be none, expected",
    )
    permutations: int = Field(
        default=39, ge=0, description="rotations in time that prices are compared with"
    )

    # Price tests
    test_step: float = Field(
        default=0.08, gt=0, lt=0.5, description="share by which a price test goes up and down"
    )
    test_detects: float = Field(
        default=2.0, gt=0, description="elasticity that a price test tells from none"
    )
    test_power: float = Field(
        default=0.80, gt=0.5, lt=1, description="probability with which it does"
    )
    switch_weeks: int = Field(default=2, ge=1, description="weeks between turns of a price test")
    tests_proposed: int = Field(default=50, ge=0, description="price tests proposed at most")

    # Judgement on held-out weeks
    test_windows: int = Field(default=2, ge=1, le=6, description="held-out windows, rolling origin")
    test_weeks: int = Field(default=4, ge=1, le=26, description="weeks in each held-out window")
    level_weeks: int = Field(
        default=13, ge=1, le=52, description="last weeks from which a product's level is taken"
    )

    # Proposed prices judged by what is logged
    log_band: float = Field(
        default=0.025,
        gt=0,
        lt=0.5,
        description="log price either side of a price within which a logged price counts as it",
    )
    log_least_odds: float = Field(
        default=0.02,
        gt=0,
        lt=1,
        description="probability of the price that a logged decision needs to be compared; "
        "1 / this is the largest weight",
    )
    log_least_decisions: int = Field(
        default=50,
        ge=2,
        description="equally weighted decisions, below which nothing is told of proposed prices",
    )
    log_block_weeks: int = Field(
        default=4, ge=1, le=26, description="weeks that are drawn again together, all places"
    )
    price_log: str = Field(
        default="",
        exclude=True,
        description="path or URI of the Parquet file of prices that were drawn by lot, with the "
        "odds of every allowed one; empty: none",
    )

    # Prices
    assumed_margin: float = Field(
        default=0.30,
        gt=0,
        lt=1,
        description="share of the usual price earned, where the shop gives no unit cost",
    )
    missing_cost: Literal["assume", "refuse"] = Field(
        default="assume",
        description="what a product without a unit cost is: assumed_margin is assumed, or nothing "
        "is published",
    )
    margin_doubt: float = Field(
        default=0.10,
        ge=0,
        lt=1,
        description="how far assumed_margin may be off either way, for the interval of the total",
    )
    minimum_margin: float = Field(
        default=0.05, ge=0, lt=1, description="least share of the price that must be earned"
    )
    largest_step: float = Field(
        default=0.10, gt=0, lt=1, description="largest change of a price at once, share of it"
    )
    floor: float = Field(
        default=0.50, gt=0, description="lowest price allowed, share of the regular price"
    )
    ceiling: float = Field(
        default=1.10, gt=0, description="highest price allowed, share of the regular price"
    )
    endings: tuple[float, ...] = Field(
        default=(0.09, 0.19, 0.29, 0.39, 0.49, 0.59, 0.69, 0.79, 0.89, 0.95, 0.99),
        min_length=1,
        description="what a price may end in after the decimal point, store currency",
    )
    largest_response: float = Field(
        default=3.0, gt=1, description="demand may grow or shrink by this factor at most"
    )
    sure_enough: float = Field(
        default=0.80,
        ge=0.5,
        lt=1,
        description="probability of more profit that a change needs to be proposed",
    )
    guardrails: str = Field(
        default="",
        exclude=True,
        description="path or URI of the TOML file of rules that products keep together; empty: "
        "none",
    )
    elasticity_draws: int = Field(
        default=50, ge=1, le=1000, description="draws of elasticities over which prices are judged"
    )
    recent_weeks: int = Field(
        default=13, ge=1, le=52, description="last weeks that give usual price and usual demand"
    )

    @model_validator(mode="after")
    def _rules_leave_room(self) -> Self:
        """Refuse rules of which two contradict each other, naming both."""
        if self.floor >= self.ceiling:
            raise ValueError(f"floor {self.floor} and ceiling {self.ceiling} leave no price")
        if self.assumed_margin + self.margin_doubt >= 1:
            raise ValueError(
                f"assumed_margin {self.assumed_margin} and margin_doubt {self.margin_doubt} "
                "collide: goods would cost nothing"
            )
        if self.minimum_margin >= self.assumed_margin:
            raise ValueError(
                f"minimum_margin {self.minimum_margin} and assumed_margin {self.assumed_margin} "
                "collide: no product of assumed cost may keep its usual price"
            )
        if any(not 0 <= ending < 1 for ending in self.endings):
            raise ValueError(f"endings {self.endings} must lie from 0 up to, without, 1")
        return self
