"""The list of those who are forgotten: several may be entered at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ecom_tasks.artefacts import forgotten
from ecom_tasks.artefacts.store import open_store
from ecom_tasks.errors import ConfigError


def test_nobody_who_is_entered_is_lost(root: str) -> None:
    store, people = open_store(root), [f"{number:032x}" for number in range(8)]
    assert forgotten.people(store, "key") == []
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda person: forgotten.add(store, "key", person), people))
    assert forgotten.people(store, "key") == people
    forgotten.add(store, "key", people[3])
    assert forgotten.people(store, "key") == people


def test_under_another_key_nobody_can_be_recognised(root: str) -> None:
    store = open_store(root)
    forgotten.add(store, "old", "0" * 32)
    with pytest.raises(ConfigError, match=r"another pseudonym key.*old\.json"):
        forgotten.people(store, "new")
    store.delete(["forgotten/old.json"])
    assert forgotten.people(store, "new") == []


def test_a_table_is_named_after_all_who_are_not_in_it() -> None:
    assert forgotten.fingerprint([]) == ""
    one, both = forgotten.fingerprint(["a"]), forgotten.fingerprint(["a", "b"])
    assert len({"", one, both}) == 3
    assert forgotten.fingerprint({"b", "a"}) == both
