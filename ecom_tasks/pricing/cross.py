"""Cross-price elasticities: whose price moves whose units, within a category.

For each product one weighted regression of what is left of its demand on the price shocks of its
candidates, beside its own price and promotions. Most products do not feel most others; adaptive
shrinkage (Stephens 2017, "False discovery rates: a new deal") learns from all pairs how many do and
how strongly, and draws each estimate accordingly. A pair is judged together: substitutes feel each
other upward, complements downward, so either direction is evidence for the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special, stats

from ecom_tasks.pricing import absorb, elasticity, layout
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.panel import WEEK

Array = NDArray[np.float64]
PAIR = ["product_id", "other_id"]
# Ends of the uniform distributions that strengths are mixed from; each starts at zero.
_ENDS = np.array([0.1, 0.2, 0.4, 0.8, 1.6, 3.2])
_ROUNDS = 200
# Pairs that count as feeling nothing before any is seen (the paper's penalty on the null).
_NULL_PRIOR = 10.0
_LEAST_SQUARES = 1e-9
_PASSES = 2
_WEEKS_A_CANDIDATE = 10


def measure(
    rows: pl.DataFrame,
    config: PricingConfig,
    together: pl.DataFrame | None = None,
    prepared: elasticity.Prepared | None = None,
    near: elasticity.Near | None = None,
) -> pl.DataFrame:
    """Measure the cross elasticities of all candidates, each from its product's weeks alone.

    Twice: the second time what the pairs found explain is out of demand already.

    Parameters
    ----------
    rows : see `nuisance.partial_out`
    config : `cross_candidates` a product, `cross_false` of those found
    together : product_id, other_id, score: what is bought together, see `bought_together.pairs`
    prepared : see `elasticity.solve`
    near : where `elasticity.solve_near` found these rows' answers by product, if it has

    Returns
    -------
    DataFrame
        product_id (whose units), other_id (whose price), category, raw_estimate, raw_error: what
        `shrink` learns from, over all parts of the shop together.
    """
    prepared = prepared or elasticity.prepare(rows)
    if near is None:
        _, near = elasticity.solve_near(rows, ["product_id"], prepared)
    store = _store(rows, prepared)
    shelves = _shelves(rows, store, config, together)
    raw = _measured(shelves, store, near.rest, config)
    for _ in range(_PASSES - 1):
        if raw.is_empty():
            break
        found = shrink(raw, config)
        given = with_effect(rows, found)
        _, near = elasticity.solve_near(given, ["product_id"], prepared, near)
        raw = _added_back(_measured(shelves, store, near.rest, config), found)
    return raw


def with_effect(rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Add `elasticity.CROSS`: log demand that the prices of others explain, by pairs found."""
    rows = rows.drop(elasticity.CROSS, strict=False)
    pairs = found.filter("found").select(*PAIR, "estimate")
    if pairs.is_empty():
        return rows
    product, place, week = _places(rows)
    names = rows["product_id"].unique().sort()
    number = dict(zip(names.to_list(), range(len(names)), strict=True))
    price, category = rows["log_price"].to_numpy(), layout.codes(rows, ["category"])
    effect = np.zeros(rows.height)
    first, second = (np.array([number.get(name, -1) for name in pairs[column]]) for column in PAIR)
    strength, inside = pairs["estimate"].to_numpy(), (first >= 0) & (second >= 0)
    shelf = np.zeros(len(names), dtype=np.int64)
    shelf[product] = category
    # Pairs are of one category: a grid of each is smaller than one of all products and weeks.
    for each in np.unique(shelf[first[inside]]):
        mine = np.flatnonzero(category == each)
        members, at = np.unique(product[mine], return_inverse=True)
        shape = (len(members), place.max() + 1, week.max() + 1)
        grid = np.zeros(shape)
        grid[at, place[mine], week[mine]] = price[mine]
        told = np.flatnonzero(inside & (shelf[first] == each))
        matrix = np.zeros((len(members), len(members)))
        matrix[np.searchsorted(members, first[told]), np.searchsorted(members, second[told])] = (
            strength[told]
        )
        answer = (matrix @ grid.reshape(len(members), -1)).reshape(shape)
        effect[mine] = answer[at, place[mine], week[mine]]
    return rows.with_columns(pl.Series(elasticity.CROSS, effect))


def _places(rows: pl.DataFrame) -> tuple[layout.Codes, layout.Codes, layout.Codes]:
    """Return the numbers of each row's product, location and week."""
    product, place, week = (
        layout.codes(rows, [name]) for name in ("product_id", "location_id", WEEK)
    )
    return product, place, week


@dataclass(frozen=True)
class _Store:
    """What regressions read of all series, laid out with a row of zeros last.

    Attributes
    ----------
    first : a row of each series
    price : others feel a promoted price as a price: promotions stay in, other than in `shock`. The
        level of the store's week stays in, too: without it the prices of a category add up to zero,
        and no regression could tell one effect from the lack of all others
    own : the product's own shock, then its promotions
    """

    first: NDArray[np.int64]
    weight: Array
    price: Array
    own: list[Array]


def _store(rows: pl.DataFrame, prepared: elasticity.Prepared) -> _Store:
    further = prepared.further
    lattice, weight = further.lattice, further.weight
    levels = lattice.levels(rows, (layout.PRODUCT_WEEK,))
    price = absorb.demean(lattice.lay(rows["log_price"].to_numpy()), weight, levels)
    own = [_ended(each) for each in (prepared.shock, *further.off)]
    return _Store(lattice.first, _ended(weight), _ended(price), own)


def _ended(laid: Array) -> Array:
    return np.vstack([laid, np.zeros((1, laid.shape[1]))])


@dataclass(frozen=True)
class _Shelf:
    """A category, and whose price each of its products may feel.

    Attributes
    ----------
    at : number of the series of each product and location, the last (-1) where there is none
    chosen : see `candidates`
    inverse : of the squares of each product's regression, once they are known
    """

    category: str
    products: list[str]
    at: NDArray[np.int64]
    chosen: list[NDArray[np.int64]]
    inverse: dict[int, Array]


def _shelves(
    rows: pl.DataFrame, store: _Store, config: PricingConfig, together: pl.DataFrame | None
) -> list[_Shelf]:
    """Find each category's series, and the candidates of its products."""
    shelves = []
    series = rows.select("category", "product_id", "location_id", "price_level")[store.first]
    known = (store.weight[:-1] > 0).sum(axis=1)
    series = series.with_columns(pl.Series("weeks", known)).with_row_index("series")
    for name, some in series.sort("series").group_by("category", maintain_order=True):
        products = some["product_id"].unique().sort().to_list()
        product, place = (layout.codes(some, [each]) for each in ("product_id", "location_id"))
        # A regression of few weeks carries few candidates.
        weeks = int(np.bincount(product, some["weeks"].to_numpy()).max())
        most = min(config.cross_candidates, weeks // _WEEKS_A_CANDIDATE)
        if len(products) < 2 or most < 1:
            continue
        at = np.full((len(products), int(place.max()) + 1), -1)
        at[product, place] = some["series"].to_numpy()
        price = some.group_by("product_id").agg(pl.col("price_level").mean()).sort("product_id")
        chosen = candidates(products, price["price_level"].to_numpy(), most, together)
        shelves.append(_Shelf(str(name[0]), products, at, chosen, {}))
    return sorted(shelves, key=lambda each: each.category)


def _measured(
    shelves: list[_Shelf], store: _Store, rest: Array, config: PricingConfig
) -> pl.DataFrame:
    """Regress what is left of each product's demand on its candidates' prices."""
    found = []
    for shelf in shelves:
        for place, others in enumerate(shelf.chosen):
            estimate, error = _product(shelf, store, rest, place, config)
            found.append(
                pl.DataFrame({
                    "product_id": shelf.products[place],
                    "other_id": [shelf.products[other] for other in others],
                    "category": shelf.category,
                    "raw_estimate": estimate,
                    "raw_error": error,
                })
            )
    told = pl.concat([each.select(_raw().columns) for each in found] or [_raw()])
    return told.filter(pl.col("raw_estimate").is_not_nan())


def candidates(
    products: list[str], price: Array, most: int, together: pl.DataFrame | None
) -> list[NDArray[np.int64]]:
    """Choose whose price each product may feel: bought together first, then like in price.

    Parameters
    ----------
    price : level of each product's log price, shape (products,)
    most : candidates of a product; it chooses half of them, and may be chosen by others
    together : see `bought_together.pairs`; None or empty: all by their price

    Returns
    -------
    For each product the places of its candidates, rising; a pair is a candidate both ways.
    """
    count = len(products)
    if count <= most + 1:
        return [np.delete(np.arange(count), place) for place in range(count)]
    alike = -np.abs(price[:, None] - price[None, :])
    own = max(most // 2, 1)
    known = np.zeros((count, count))
    if together is not None and together.height:
        place = {name: number for number, name in enumerate(products)}
        inside = together.filter(
            pl.col("product_id").is_in(products) & pl.col("other_id").is_in(products)
        )
        for first, second, value in inside.select(*PAIR, "score").iter_rows():
            known[place[first], place[second]] = known[place[second], place[first]] = value
    # Half of its choices at most, so that substitutes are not crowded out.
    rank = np.argsort(np.argsort(-known, axis=1, kind="stable"), axis=1)
    met = (known > 0) & (rank < max(own // 2, 1))
    score = np.where(met, known, alike - 1.0)
    np.fill_diagonal(score, -np.inf)
    best = np.argsort(-score, axis=1, kind="stable")[:, :own]
    chosen = np.zeros((count, count), dtype=bool)
    np.put_along_axis(chosen, best, values=True, axis=1)
    chosen |= chosen.T
    return [np.flatnonzero(row) for row in chosen]


def _product(
    shelf: _Shelf, store: _Store, rest: Array, place: int, config: PricingConfig
) -> tuple[Array, Array]:
    """Regress one product's rest on its candidates' shocks, beside its own price and promotions.

    Returns
    -------
    Estimates and errors, NaN where nothing can be told.
    """
    others = shelf.chosen[place]
    here = np.flatnonzero(shelf.at[place] >= 0)
    mine = shelf.at[place, here]
    felt = store.price[shelf.at[np.ix_(others, here)]]
    design = np.concatenate([felt, np.stack([column[mine] for column in store.own])])
    cells = design.shape[1:]
    design = design.reshape(len(design), -1)
    weight = store.weight[mine].ravel()
    weighed = design * weight
    wanted = len(others)
    if place not in shelf.inverse:
        squares = weighed @ design.T
        shelf.inverse[place] = np.linalg.pinv(squares, rcond=1e-8, hermitian=True)
    inverse = shelf.inverse[place]
    left = rest[mine].ravel()
    solution = inverse @ (weighed @ left)
    left = left - solution @ design
    # What each cell moves the estimates by; its sums over clusters give their variance.
    moved = (inverse[:wanted] @ weighed) * left
    moved = moved.reshape(wanted, *cells)
    clusters = len(here) if len(here) >= elasticity.MANY_PLACES else cells[1]
    wider = stats.t.ppf(0.975, max(clusters - 1, 1)) / stats.norm.ppf(0.975)
    variance = _variance(moved, config.lags) * wider**2
    information = np.einsum("kc,kc->k", weighed[:wanted], design[:wanted])
    usable = (information > _LEAST_SQUARES) & (variance > 0)
    return (
        np.where(usable, solution[:wanted], np.nan),
        np.sqrt(np.where(usable, variance, np.nan)),
    )


def _variance(moved: Array, lags: int) -> Array:
    """Sum influences over clusters, shape (estimates, locations, weeks) to (estimates,).

    As in `elasticity.by_product`: by location and week where locations are many, else by week with
    lasting shocks.
    """
    weeks, count = moved.sum(axis=1), moved.shape[1]
    lasting = white = (weeks**2).sum(axis=1)
    for lag in range(1, lags + 1):
        both = (weeks[:, lag:] * weeks[:, :-lag]).sum(axis=1)
        lasting = lasting + 2 * (1 - lag / (lags + 1)) * both
    if count < elasticity.MANY_PLACES:
        return np.asarray(np.maximum(lasting, white))
    places = (moved.sum(axis=2) ** 2).sum(axis=1) * count / (count - 1)
    cells = np.einsum("ksw,ksw->k", moved, moved)
    return np.asarray(np.maximum(places + np.maximum(lasting, white) - cells, places))


def _added_back(raw: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Add to each estimate what the pass before had taken out of demand already."""
    before = found.filter("found").select(*PAIR, pl.col("estimate").alias("before"))
    return raw.join(before, on=PAIR, how="left", maintain_order="left").with_columns(
        pl.col("raw_estimate") + pl.col("before").fill_null(0.0)
    ).drop("before")  # fmt: skip


def shrink(raw: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
    """Draw raw estimates towards zero, as far as most pairs feel nothing.

    The state of a pair is nothing, substitutes or complements; in the latter two each direction's
    strength is mixed from uniform distributions from zero up (or down). Shares and mixture are
    fitted by maximum likelihood to all pairs.

    Parameters
    ----------
    raw : product_id, other_id, category, raw_estimate, raw_error

    Returns
    -------
    DataFrame
        product_id, other_id, category, raw_estimate, raw_error, estimate, lower, upper (shrunk),
        weight_borrowed (1 - estimate / raw_estimate, within 0 and 1), null_probability, found,
        signs_agree (of the two raw estimates of the pair; null where there is one).
    """
    if raw.is_empty():
        return empty()
    raw = raw.sort(PAIR)
    x, s = raw["raw_estimate"].to_numpy(), raw["raw_error"].to_numpy()
    first = raw.select(pl.min_horizontal(*PAIR).alias("a"), pl.max_horizontal(*PAIR).alias("b"))
    pair = layout.codes(first, ["a", "b"])
    up = _inside(x, s)
    down = _inside(-x, s)
    null = stats.norm.pdf(x, 0, s)
    shares = np.array([0.9, 0.05, 0.05])
    strengths = np.full((2, len(_ENDS)), 1 / len(_ENDS))

    def states() -> Array:
        each = np.column_stack([null, up @ strengths[0], down @ strengths[1]])
        both = np.zeros((pair.max() + 1, 3))
        np.add.at(both, pair, np.log(np.maximum(each, 1e-300)))
        both += np.log(shares)
        both = np.exp(both - both.max(axis=1, keepdims=True))
        return np.asarray(both / both.sum(axis=1, keepdims=True))

    for _ in range(_ROUNDS):
        posterior = states()
        total = posterior.sum(axis=0) + np.array([_NULL_PRIOR, 0.0, 0.0])
        shares = np.maximum(total / total.sum(), 1e-12)
        for sign, inside in enumerate((up, down)):
            mixed = inside * strengths[sign]
            mixed /= np.maximum(mixed.sum(axis=1, keepdims=True), 1e-300)
            mixed *= posterior[pair, sign + 1][:, None]
            strengths[sign] = (mixed.sum(axis=0) + 1e-3) / (mixed.sum() + 1e-3 * len(_ENDS))
    posterior = states()[pair]
    draws = _posterior(x, s, posterior, strengths)
    return _judged(raw, pair, posterior, draws, config)


def _inside(x: Array, s: Array) -> Array:
    """Return the likelihood of x around a strength uniform from 0 to each end, (pairs, ends)."""
    high = special.ndtr((_ENDS - x[:, None]) / s[:, None])
    low = special.ndtr(-x / s)[:, None]
    return np.asarray(np.maximum(high - low, 1e-300) / _ENDS)


def _posterior(x: Array, s: Array, states: Array, strengths: Array) -> Array:
    """Return mean, 2.5% and 97.5% quantile of each effect, shape (pairs, 3), on a fine grid."""
    step = np.concatenate([[0.0], np.geomspace(0.005, _ENDS[-1], 120)])
    width = np.gradient(step)
    result = np.empty((len(x), 3))
    density = np.zeros((2, len(step)))
    for sign in range(2):
        for end, share in zip(_ENDS, strengths[sign], strict=True):
            density[sign] += share / end * (step <= end)
    for start in range(0, len(x), 4096):
        part = slice(start, start + 4096)
        xs, ss = x[part, None], s[part, None]
        upper = density[0] * width * np.exp(-0.5 * ((xs - step) / ss) ** 2)
        lower = density[1] * width * np.exp(-0.5 * ((xs + step) / ss) ** 2)
        for side, column in ((upper, 1), (lower, 2)):
            side *= (states[part, column] / np.maximum(side.sum(axis=1), 1e-300))[:, None]
        mean = (upper - lower) @ step
        values = np.concatenate([-step[::-1], [0.0], step])
        mass = np.concatenate([lower[:, ::-1], states[part, :1], upper], axis=1)
        cumulative = np.cumsum(mass, axis=1)
        low = values[np.argmax(cumulative >= 0.025, axis=1)]
        high = values[np.argmax(cumulative >= 0.975 - 1e-12, axis=1)]
        result[part] = np.column_stack([mean, low, high])
    return result


def _judged(
    raw: pl.DataFrame,
    pair: NDArray[np.int64],
    states: Array,
    drawn: Array,
    config: PricingConfig,
) -> pl.DataFrame:
    null = states[:, 0]
    # The largest set of which at most the allowed share is expected to feel nothing.
    order = np.argsort(null, kind="stable")
    expected = np.cumsum(null[order]) / np.arange(1, len(order) + 1)
    found = np.zeros(len(null), dtype=bool)
    found[order[expected <= config.cross_false]] = True
    sign = np.sign(raw["raw_estimate"].to_numpy())
    both = np.bincount(pair)[pair] == 2
    agree = np.abs(np.bincount(pair, sign)[pair]) == 2
    return raw.with_columns(
        pl.Series("estimate", drawn[:, 0]),
        pl.Series("lower", drawn[:, 1]),
        pl.Series("upper", drawn[:, 2]),
        pl.Series("null_probability", null),
        pl.Series("found", found),
        pl.Series("signs_agree", [bool(a) if b else None for a, b in zip(agree, both, strict=True)],
                  dtype=pl.Boolean),
    ).with_columns(
        (1 - pl.col("estimate") / pl.col("raw_estimate")).clip(0, 1).alias("weight_borrowed")
    ).select(empty().columns)  # fmt: skip


def _raw() -> pl.DataFrame:
    text, number = pl.String, pl.Float64
    return pl.DataFrame(schema={
        "product_id": text, "other_id": text, "category": text, "raw_estimate": number,
        "raw_error": number,
    })  # fmt: skip


def empty() -> pl.DataFrame:
    """Return no pairs, with the columns of `shrink`."""
    number = pl.Float64
    return pl.DataFrame(schema=dict(_raw().schema) | {
        "estimate": number, "lower": number, "upper": number, "weight_borrowed": number,
        "null_probability": number, "found": pl.Boolean, "signs_agree": pl.Boolean,
    })  # fmt: skip
