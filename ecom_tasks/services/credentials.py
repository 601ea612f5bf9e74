"""The secrets of one installation: made once, kept with mode 0600, never printed."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ecom_tasks.errors import ConfigError
from ecom_tasks.services.state import write_private

FILE = "secrets.json"


def _name() -> str:
    return secrets.token_hex(10)


def _key() -> str:
    return secrets.token_hex(32)


def _fernet() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True, repr=False)
class Credentials:
    """Key pairs of the store's three identities; keys of its inside, of Airflow and its database.

    `pseudonym_key` deserves a backup: without it the customers of the next ingestion get other
    pseudonyms, and no longer match those of earlier data.
    """

    admin_key: str = field(default_factory=_name)
    admin_secret: str = field(default_factory=_key)
    publisher_key: str = field(default_factory=_name)
    publisher_secret: str = field(default_factory=_key)
    consumer_key: str = field(default_factory=_name)
    consumer_secret: str = field(default_factory=_key)
    store_signing: str = field(default_factory=_key)
    store_signing_read: str = field(default_factory=_key)
    store_filer_signing: str = field(default_factory=_key)
    store_filer_signing_read: str = field(default_factory=_key)
    pseudonym_key: str = field(default_factory=lambda: secrets.token_hex(32))
    airflow_password: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    airflow_jwt: str = field(default_factory=_key)
    airflow_session: str = field(default_factory=_key)
    airflow_fernet: str = field(default_factory=_fernet)
    database_password: str = field(default_factory=_key)
    broker_password: str = field(default_factory=_key)

    def pair(self, identity: str) -> tuple[str, str]:
        """Access key and secret key of `admin`, `publisher` or `consumer`."""
        return getattr(self, f"{identity}_key"), getattr(self, f"{identity}_secret")


def load(home: Path) -> Credentials:
    """Read the secrets of this installation; make them where there are none yet.

    Raises
    ------
    ConfigError
        The file is mangled, or others may read it.
    """
    file = home / FILE
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = Credentials()
        write_private(file, json.dumps(asdict(made), indent=2) + "\n")
        return made
    if file.stat().st_mode & 0o077:
        raise ConfigError(
            f"Other users may read {file}",
            f"If nobody has: chmod 600 {file}. Else remove the folder and start anew",
        )
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        loaded = Credentials(**known)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{file} is mangled", "Restore it from a backup, or start anew: make clean"
        ) from error
    if asdict(loaded) != known:  # written before there were so many
        write_private(file, json.dumps(asdict(loaded), indent=2) + "\n")
    return loaded
