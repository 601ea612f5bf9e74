"""What is true of the shop and never changes: products, stores, elasticities, habits of pricing.

Mean weekly units of product p in store s are log-linear in all prices of its category,

    log units = level[p] + size[s] + taste[s, category] + season + shocks + promotion
                + sum over q of elasticity[p, q] * log(price[q, s] / base_price[q])

so that own- and cross-price elasticities are constants, `elasticity[p, p]` and `elasticity[p, q]`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

NEVER_LESS, NEVER_MORE = -5.0, -0.6
MECHANICS = ("price_cut", "display", "mailer")
"""A price cut is there whenever the price is promoted; display and mailer may go with it."""
_DEPARTMENTS = ("Food", "Drinks", "Household", "Beauty", "Pets")
_SHELVES = ("Basics", "Classics", "Fresh", "Snacks", "Premium", "Large", "Small", "Seasonal")
_SEGMENTS = ("families", "singles", "seniors", "students")
_BRANDS = 6


@dataclass(frozen=True)
class Scale:
    """How large the shop is, and how its prices come about.

    Parameters
    ----------
    products, stores, weeks, customers : counts
    units : median of a product's usual units a store and week
    category_size : products in a category
    confounding : how far log prices follow what lifts demand (0: prices are set blindly)
    seed : same seed, same shop
    """

    products: int = 200
    stores: int = 30
    weeks: int = 104
    customers: int = 3000
    units: float = 8.0
    category_size: int = 20
    confounding: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a shop without anything in it."""
        for name in ("products", "stores", "weeks", "customers", "category_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.customers < self.stores:
            raise ValueError(
                f"{self.customers} customers are too few: each of {self.stores} stores needs one"
            )
        if self.units <= 0:
            raise ValueError(f"units must be above 0, not {self.units}")


@dataclass(frozen=True)
class World:
    """The truth; P products, S stores, C categories, N customers.

    Attributes
    ----------
    category : of each product, (P,); categories_department : of each category, (C,)
    elasticity : d log units of the row / d log price of the column, (P, P); zero across categories
    base_price, cost : store currency per unit, (P,)
    level : log of usual units at base prices in a store of size 0, (P,)
    size, taste : log units, (S,) and (S, C)
    amplitude, phase : of each category's season, (C,)
    lift : log units by mechanic, (P, 3); dip : log units in the week after a promotion, (P,)
    lead_time : weeks from order to receipt, (P,)
    home : store of each customer, (N,); segment : (N,); affinity : to categories, (N, C)
    """

    scale: Scale
    category: Ints
    categories_department: Ints
    elasticity: Array
    base_price: Array
    cost: Array
    level: Array
    size: Array
    taste: Array
    amplitude: Array
    phase: Array
    lift: Array
    dip: Array
    lead_time: Ints
    brand: Ints
    home: Ints
    segment: Ints
    affinity: Array = field(repr=False)

    @property
    def product_ids(self) -> list[str]:
        return [f"P{number:05d}" for number in range(self.scale.products)]

    @property
    def store_ids(self) -> list[str]:
        return [f"S{number:03d}" for number in range(self.scale.stores)]

    @property
    def customer_ids(self) -> list[str]:
        return [f"C{number:07d}" for number in range(self.scale.customers)]

    @property
    def category_names(self) -> list[str]:
        names = []
        for number, department in enumerate(self.categories_department):
            shelf = _SHELVES[number % len(_SHELVES)]
            names.append(f"{_DEPARTMENTS[department]}/{shelf} {number + 1}")
        return names

    @property
    def segment_names(self) -> list[str]:
        return [_SEGMENTS[each] for each in self.segment]

    def members(self, category: int) -> Ints:
        """Return the products of a category."""
        return np.flatnonzero(self.category == category)

    def usual_units(self, price: Array) -> Array:
        """Return mean weekly units over all stores at chain-wide prices, without season and shocks.

        Parameters
        ----------
        price : store currency per unit, shape (P,) or (P, prices)
        """
        column = price.reshape(len(price), -1)
        answer = self.elasticity @ np.log(column / self.base_price[:, None])
        reach = np.exp(self.size[:, None] + self.taste).sum(axis=0)[self.category]
        units = np.exp(self.level[:, None] + answer) * reach[:, None]
        return np.asarray(units.reshape(price.shape))

    def profit(self, price: Array) -> float:
        """Return mean weekly profit over all stores at chain-wide prices, shape (P,)."""
        return float((self.usual_units(price) * (price - self.cost)).sum())


def create(scale: Scale) -> World:
    """Draw a shop."""
    rng = np.random.default_rng([scale.seed, 1])
    products, stores = scale.products, scale.stores
    categories = -(-products // scale.category_size)
    category = np.arange(products) // scale.category_size
    department = np.arange(categories) * len(_DEPARTMENTS) // categories
    elasticity = _elasticities(rng, category, department)
    base_price: Array = np.round(np.exp(rng.normal(1.2, 0.5, products)), 2) + np.float64(0.5)
    customers = scale.customers
    segment = rng.integers(len(_SEGMENTS), size=customers)
    liking = np.exp(0.8 * rng.standard_normal((len(_SEGMENTS), categories)))
    affinity = liking[segment] * rng.gamma(0.5, 2.0, (customers, categories))
    size = 0.4 * rng.standard_normal(stores)
    # Every store has someone who buys.
    home = np.concatenate([
        np.arange(stores),
        rng.choice(stores, customers - stores, p=np.exp(size) / np.exp(size).sum()),
    ])
    return World(
        scale=scale,
        category=category,
        categories_department=department,
        elasticity=elasticity,
        base_price=base_price,
        cost=np.round(base_price * (1 - rng.uniform(0.25, 0.5, products)), 2),
        level=np.log(scale.units) + 0.6 * rng.standard_normal(products),
        size=size,
        taste=0.2 * rng.standard_normal((stores, categories)),
        amplitude=rng.uniform(0.05, 0.35, categories),
        phase=rng.uniform(0, 2 * np.pi, categories),
        lift=rng.uniform([0.02, 0.15, 0.10], [0.08, 0.45, 0.35], (products, 3)),
        dip=-rng.uniform(0.0, 0.15, products),
        lead_time=rng.integers(1, 4, products),
        brand=rng.integers(_BRANDS, size=products),
        home=home,
        segment=segment,
        affinity=affinity + 1e-3,
    )


def _elasticities(rng: np.random.Generator, category: Ints, department: Ints) -> Array:
    """Draw own elasticities around category and department, and sparse cross elasticities.

    Each product has about two neighbours whose price it feels by more than .3, and two that it
    feels less. Neighbours feel each other in the same direction; one pair in six are complements.
    """
    products = len(category)
    by_department = rng.normal(-2.4, 0.3, department.max() + 1)
    by_category = by_department[department] + 0.35 * rng.standard_normal(len(department))
    own = by_category[category] + 0.45 * rng.standard_normal(products)
    found = np.zeros((products, products))
    for each in range(len(department)):
        members = np.flatnonzero(category == each)
        for low, high in ((0.32, 0.7), (0.05, 0.25)):
            ring = rng.permutation(members)
            pairs = zip(ring, np.roll(ring, 1), strict=True)
            for pair in [pair for pair in pairs if pair[0] != pair[1] and not found[pair]]:
                sign = -1.0 if rng.random() < 1 / 6 else 1.0
                found[pair] = sign * rng.uniform(low, high)
                found[pair[::-1]] = sign * rng.uniform(low, high)
    np.fill_diagonal(found, np.clip(own, NEVER_LESS, NEVER_MORE))
    return found
