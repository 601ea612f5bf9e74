"""Signatures of what consumers follow: manifests of releases, and the pointers to them.

`ECOM_SIGNING_KEY` names the file of an Ed25519 private key (PEM, mode 0600); else
`ECOM_SIGNING_CONNECTION` names an Airflow connection with the key as its password, which a step is
given as `AIRFLOW_CONN_<NAME>`. With neither, nothing is signed. `pull` verifies.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ecom_tasks.artefacts import pull
from ecom_tasks.artefacts.store import ConflictError, KeyMissingError, Store
from ecom_tasks.errors import ConfigError, RetryableError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FILE, CONNECTION = "ECOM_SIGNING_KEY", "ECOM_SIGNING_CONNECTION"
_SIGNED = ("artefacts/", "sets/")
_TRIES = 10


def signs(name: str) -> bool:
    """Whether versions and pointers of this name are signed here and now."""
    return name.startswith(_SIGNED) and bool(os.environ.get(FILE) or os.environ.get(CONNECTION))


def signature_of(data: bytes) -> dict[str, str]:
    """Sign bytes with the configured key.

    Raises
    ------
    ConfigError
        The key cannot be read, is no Ed25519 key, or others may read its file.
    """
    key = _key(_pem())
    return {"key_id": _id(key), "value": base64.b64encode(key.sign(data)).decode()}


def own_key_id() -> str:
    """Return the id of the configured key."""
    return _id(_key(_pem()))


def sign_manifest(store: Store, folder: str, data: bytes) -> str:
    """Store a signature of a manifest's bytes beside it; return the id of the key.

    Further signatures are kept: consumers may trust the last key or the next one.
    """
    import hashlib

    signature = signature_of(data)
    key = f"{folder}/{pull.signature_path(hashlib.sha256(data).hexdigest())}"
    for _ in range(_TRIES):
        try:
            blob = store.read(key)
        except KeyMissingError:
            blob = None
        found = json.loads(blob.data)["signatures"] if blob else []
        if signature in found:
            return signature["key_id"]
        document = {"schema_version": 1, "algorithm": "ed25519", "signatures": [signature, *found]}
        wanted = (json.dumps(document, indent=2) + "\n").encode()
        try:
            if blob:
                store.replace(key, wanted, blob.etag)
            else:
                store.create(key, wanted)
        except (ConflictError, RetryableError):
            continue  # perhaps our own success: the next look tells
    raise RetryableError(f"{store.uri(key)} could not be written", "Try again")


def signed_by_us(store: Store, folder: str, data: bytes) -> bool:
    """Whether the configured key has signed this manifest."""
    import hashlib

    try:
        found = store.read(f"{folder}/{pull.signature_path(hashlib.sha256(data).hexdigest())}").data
    except KeyMissingError:
        return False
    key = _key(_pem())
    try:
        pull.verify_manifest(data, found, {_id(key): key.public_key()}, folder)
    except pull.RefusedError:
        return False
    return True


def make(folder: Path) -> tuple[Path, Path]:
    """Make a key pair: `<id>.key` for the publisher alone, `<id>.pem` for every consumer."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    private, public = folder / f"{_id(key)}.key", folder / f"{_id(key)}.pem"
    pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    with os.fdopen(os.open(private, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(pem)
    public.write_bytes(
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def _pem() -> bytes:
    if place := os.environ.get(FILE):
        return _read_private(Path(place))
    name = f"AIRFLOW_CONN_{os.environ.get(CONNECTION, '').upper()}"
    if not os.environ.get(name):
        raise ConfigError(
            f"{CONNECTION} names a connection that this process was not given",
            f"Set {name}, or {FILE} to the path of a key",
        )
    return _password(os.environ[name]).encode()


def _read_private(file: Path) -> bytes:
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            raise ConfigError(
                f"Other users may read the signing key {file}",
                f"chmod 600 {file}; if somebody may have read it, make another (`keys make`)",
            )
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"The signing key cannot be read: {error}", f"Correct {FILE}") from error


def _password(connection: str) -> str:
    """Password of a connection, as Airflow spells it: a URI or JSON."""
    if connection.lstrip().startswith("{"):
        return str(json.loads(connection).get("password", ""))
    return unquote(urlsplit(connection).password or "")


@cache
def _key(pem: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            "The signing key is no unencrypted PEM", "Make one with `keys make`"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("The signing key is no Ed25519 key", "Make one with `keys make`")
    return key


def _id(key: Any) -> str:
    return pull.key_id(key.public_key().public_bytes_raw())
