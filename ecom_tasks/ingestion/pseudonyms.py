"""Customers without names: identifiers leave this package only as keyed hashes."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from ecom_tasks.errors import ConfigError

if TYPE_CHECKING:  # tasks that find their work done ask for the key's fingerprint alone
    import polars as pl

VARIABLE = "ECOM_PSEUDONYM_KEY"
_SMALLEST_KEY_BYTES = 32
_HEX_DIGITS = 32


def key_from_environment() -> bytes:
    """Read the secret key; raise `ConfigError` with the remedy when there is no usable one."""
    text = os.environ.get(VARIABLE, "")
    remedy = (
        f'Make one with `python -c "import secrets; print(secrets.token_hex(32))"`, keep it as a '
        f"secret outside the data and set {VARIABLE}. Another key gives every customer another "
        "pseudonym"
    )
    if not text:
        raise ConfigError(f"{VARIABLE} is not set, so customers cannot be pseudonymised", remedy)
    try:
        key = bytes.fromhex(text)
    except ValueError as error:
        raise ConfigError(f"{VARIABLE} is not hexadecimal", remedy) from error
    if len(key) < _SMALLEST_KEY_BYTES:
        raise ConfigError(
            f"{VARIABLE} has {len(key)} bytes, {_SMALLEST_KEY_BYTES} are needed", remedy
        )
    return key


def fingerprint(key: bytes) -> str:
    """Return 16 hex digits that tell two keys apart and say nothing else about them."""
    return hmac.new(key, b"fingerprint of the pseudonym key", hashlib.sha256).hexdigest()[:16]


@lru_cache(maxsize=1 << 18)
def pseudonym(key: bytes, identifier: str) -> str:
    """HMAC-SHA256 (RFC 2104) of the identifier, cut to 32 hex digits (128 bits).

    At 128 bits, two of a billion customers collide with a chance below 2e-21. The newest ones are
    remembered: customers come back batch after batch.
    """
    return hmac.digest(key, identifier.encode(), "sha256").hex()[:_HEX_DIGITS]


def check(text: str) -> None:
    """Raise `ConfigError` where the text is no pseudonym of ours."""
    if not re.fullmatch(f"[0-9a-f]{{{_HEX_DIGITS}}}", text):
        raise ConfigError(
            f"{text!r} is no pseudonym: it has {_HEX_DIGITS} of the digits 0-9 and a-f",
            "Leave --pseudonym out and give the shop's own identifier",
        )


def pseudonymised(frame: pl.DataFrame, column: str, key: bytes) -> pl.DataFrame:
    """Replace the identifiers of a text column by their pseudonyms; null stays null."""
    import polars as pl

    from ecom_tasks.artefacts.bucketing import looked_up

    if column not in frame.columns:
        return frame

    def pseudonyms(known: pl.Series) -> pl.Series:
        return pl.Series([pseudonym(key, each) for each in known.to_list()], dtype=pl.String)

    return frame.with_columns(looked_up(frame[column], pseudonyms).alias(column))


def without(frame: pl.DataFrame, column: str, forgotten: Sequence[str]) -> pl.DataFrame:
    """Drop the rows of people who asked to be forgotten; null stays."""
    import polars as pl

    if column not in frame.columns or not forgotten:
        return frame
    return frame.filter(~pl.col(column).is_in(forgotten).fill_null(value=False))
