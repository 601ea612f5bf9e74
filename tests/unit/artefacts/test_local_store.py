"""The folder as a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecom_tasks.artefacts.store import Store, open_store
from ecom_tasks.errors import ConfigError
from tests.store_contract import StoreContract


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, root: str) -> Store:
        return open_store(root)

    def test_no_key_leaves_the_folder(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no key of a store"):
            store.create("../outside", b"1")
        assert not (tmp_path / "outside").exists()

    def test_a_failed_upload_leaves_nothing(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            store.upload("a/file", tmp_path / "never-made", "00")
        assert list(store.walk("")) == []
        assert not list((tmp_path / "store").rglob(".ecom-*"))


@pytest.mark.parametrize("root", ["lake", "http://host/bucket", "s3:///prefix", "file://host/x"])
def test_a_root_that_names_no_store_is_refused(root: str) -> None:
    with pytest.raises(ConfigError, match="names no store"):
        open_store(root)
