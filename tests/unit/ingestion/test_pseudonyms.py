"""Pseudonyms: the published test vectors, and that nothing but the key opens them."""

from __future__ import annotations

import polars as pl
import pytest

from ecom_tasks.errors import ConfigError
from ecom_tasks.ingestion.pseudonyms import (
    fingerprint,
    key_from_environment,
    pseudonym,
    pseudonymised,
)


@pytest.mark.parametrize(
    ("key", "text", "digest"),
    [  # RFC 4231, test cases 1 and 2
        (b"\x0b" * 20, "Hi There",
         "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (b"Jefe", "what do ya want for nothing?",
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    ],
)  # fmt: skip
def test_it_is_hmac_sha256_cut_to_32_digits(key: bytes, text: str, digest: str) -> None:
    assert pseudonym(key, text) == digest[:32]


def test_a_column_is_replaced_row_by_row_and_null_stays() -> None:
    rows = pl.DataFrame({"n": [1, 2, 3, 4], "customer_id": ["b", None, "a", "b"]})
    key = bytes(32)
    replaced = pseudonymised(rows, "customer_id", key)
    assert replaced.columns == rows.columns
    assert replaced["n"].to_list() == [1, 2, 3, 4]
    expected = [pseudonym(key, "b"), None, pseudonym(key, "a"), pseudonym(key, "b")]
    assert replaced["customer_id"].to_list() == expected


def test_a_table_without_customers_is_left_alone() -> None:
    rows = pl.DataFrame({"n": [1]})
    assert pseudonymised(rows, "customer_id", bytes(32)).equals(rows)


def test_another_key_gives_another_pseudonym_and_fingerprint() -> None:
    first, second = bytes(32), bytes([1]) * 32
    assert pseudonym(first, "ann") != pseudonym(second, "ann")
    assert fingerprint(first) != fingerprint(second)
    assert first.hex() not in fingerprint(first)


@pytest.mark.parametrize(
    ("value", "told"),
    [("", "is not set"), ("no hex", "is not hexadecimal"), ("ab" * 31, "has 31 bytes, 32 are")],
)
def test_a_key_of_no_use_is_refused_with_the_remedy(
    value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOM_PSEUDONYM_KEY", value)
    with pytest.raises(ConfigError, match=told) as caught:
        key_from_environment()
    assert "secrets.token_hex(32)" in caught.value.hint
    assert not value or value not in str(caught.value)


def test_the_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_PSEUDONYM_KEY", "0f" * 32)
    assert key_from_environment() == b"\x0f" * 32
