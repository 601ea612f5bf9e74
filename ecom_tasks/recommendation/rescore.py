"""Only customers whose inputs changed get a new list; the others keep that of the last release.

A customer's fingerprint covers all that the list follows from: what is the customer's own (who it
is, what is ranked, new or barred) and what all share (shelf, popular lists, rules). Equal
fingerprints mean equal lists, so that the result is that of making all lists anew.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import polars as pl

from ecom_tasks.recommendation import selection
from ecom_tasks.recommendation.eligibility import Limits
from ecom_tasks.recommendation.rules import Rules
from ecom_tasks.recommendation.selection import Offer

COLUMNS = ("customer_id", "product_id", "rank", "score", "generator")


def fingerprints(offer: Offer, rules: Rules, k: int, salt: str = "") -> pl.DataFrame:
    """Return customer_id, fingerprint (two words of 64 bits) of each customer of the offer.

    Parameters
    ----------
    rules, k, salt : as of `selection.top_k`; put into `salt` whatever else decides, for example the
        version of the code
    """
    refused = pl.DataFrame(offer.limits.refused, schema=_numbered("refused", offer.limits.refused))
    own = {
        "people": pl.concat([offer.people, refused], how="horizontal"),
        "barred": offer.barred,
        "ranked": offer.ranked,
        "fresh": offer.fresh,
    }
    shared = hashlib.sha256(f"{rules.model_dump_json()} {k} {salt}".encode())
    for frame in (offer.shelf, offer.popular):
        shared.update(frame.write_json().encode())
    shared.update(offer.limits.goods.tobytes())
    words = [int.from_bytes(shared.digest()[start : start + 8]) for start in (0, 8)]
    rows = pl.concat([
        frame.select("customer_id", *_hashed(frame, name, words)) for name, frame in own.items()
    ])
    # The order of rows says nothing, and no row of a table comes twice.
    return (
        rows
        .join(offer.people, on="customer_id", how="semi")
        .group_by("customer_id")
        .agg(pl.col("first", "second").bitwise_xor())
        .select("customer_id", pl.concat_list("first", "second").alias("fingerprint"))
        .sort("customer_id")
    )


def _numbered(name: str, matrix: selection.BoolMatrix) -> list[str]:
    return [f"{name} {number}" for number in range(matrix.shape[1])]


def _hashed(frame: pl.DataFrame, name: str, words: list[int]) -> list[pl.Expr]:
    row = pl.struct(pl.lit(name).alias("table"), *sorted(frame.columns))
    return [
        row.hash(seed=word).alias(which)
        for which, word in zip(("first", "second"), words, strict=True)
    ]


def top_k(
    offer: Offer,
    how: tuple[Rules, int, str],
    marks: pl.DataFrame,
    former: tuple[pl.DataFrame, pl.DataFrame] | None,
) -> pl.DataFrame:
    """Return the lists of `selection.top_k`, made anew only where `former` has another fingerprint.

    Parameters
    ----------
    how : rules, k and salt of `selection.top_k`
    marks : of `fingerprints`
    former : lists and fingerprints of an earlier release
    """
    if former is None:
        return selection.top_k(offer, *how)
    lists, before = former
    same = marks.join(before, on=["customer_id", "fingerprint"], how="semi")
    kept = lists.select(COLUMNS).join(same, on="customer_id", how="semi")
    changed = ~offer.people["customer_id"].is_in(same["customer_id"].implode())
    made = selection.top_k(
        replace(
            offer,
            people=offer.people.filter(changed),
            limits=Limits(offer.limits.goods, offer.limits.refused[changed.to_numpy()]),
        ),
        *how,
    )
    return pl.concat([kept, made]).sort("customer_id", "rank")
