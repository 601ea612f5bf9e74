"""The embedded object store: SeaweedFS on loopback, with keys, one bucket, three identities."""

from __future__ import annotations

import json
import shutil
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from ecom_tasks.errors import ConfigError
from ecom_tasks.services.credentials import Credentials
from ecom_tasks.services.state import write_private

NAME = "object-store"
BUCKET = "ecom"
REGION = "us-east-1"
PORTS = {
    "s3": 8333,
    "s3-grpc": 18333,
    "store-admin": 18340,
    "store-admin-grpc": 28340,  # its worker looks for it 10000 above
    "store-master": 18342,
    "store-master-grpc": 18343,
    "store-volume": 18344,
    "store-volume-grpc": 18345,
    "store-filer": 18346,
    "store-filer-grpc": 18347,
}
"""First choice of each port; below the range from which the kernel picks its own."""


def prepare(folder: Path, credentials: Credentials) -> None:
    """Write who may do what, and drop the options that the last start left behind."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # It is written at each start and would be read at the next, against the command line.
    (folder / "mini.options").unlink(missing_ok=True)
    write_private(folder / "s3.json", json.dumps(identities(credentials), indent=2) + "\n")


def identities(credentials: Credentials) -> dict[str, Any]:
    """Say who may do what, in the form that the server reads."""
    rights = {
        "admin": ["Admin", "Read", "List", "Tagging", "Write"],
        "publisher": [f"{right}:{BUCKET}" for right in ("Read", "List", "Tagging", "Write")],
        "consumer": [f"{right}:{BUCKET}" for right in ("Read", "List")],
    }
    entries = []
    for identity, actions in rights.items():
        key, secret = credentials.pair(identity)
        keys = [{"accessKey": key, "secretKey": secret}]
        entries.append({"name": identity, "credentials": keys, "actions": actions})
    return {"identities": entries}


def command(folder: Path, ports: dict[str, int]) -> list[str]:
    """Start SeaweedFS confined to loopback, without telemetry and without its consoles."""
    options = {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.telemetry": "false",
        "webdav": "false",
        "admin.ui": "false",
        "admin.port": ports["store-admin"],
        "admin.port.grpc": ports["store-admin-grpc"],
        "master.port": ports["store-master"],
        "master.port.grpc": ports["store-master-grpc"],
        "volume.port": ports["store-volume"],
        "volume.port.grpc": ports["store-volume-grpc"],
        "filer.port": ports["store-filer"],
        "filer.port.grpc": ports["store-filer-grpc"],
        # Relative to the working directory: the path of a socket may have 107 bytes only.
        "filer.localSocket": "filer.sock",
        "filer.exposeDirectoryData": "false",
        "s3.port": ports["s3"],
        "s3.port.grpc": ports["s3-grpc"],
        "s3.localSocket": "s3.sock",
        "s3.config": folder / "s3.json",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.autoCreateBucket": "false",
        "s3.allowDeleteBucketNotEmpty": "false",
    }
    return [
        _program(), "-logtostderr=true", "mini",
        *(f"-{name}={value}" for name, value in options.items()),
    ]  # fmt: skip


def _program() -> str:
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise ConfigError(
            "The object store's program `weed` is not installed",
            "Install the requirements (make setup), or set ECOM_S3_ENDPOINT to a store of yours",
        )
    return found


def settings(credentials: Credentials) -> dict[str, str]:
    """Environment of the server; without these keys its inner ports would accept anyone."""
    return {
        "GOMEMLIMIT": "512MiB",
        "WEED_JWT_SIGNING_KEY": credentials.store_signing,
        "WEED_JWT_SIGNING_READ_KEY": credentials.store_signing_read,
        "WEED_JWT_FILER_SIGNING_KEY": credentials.store_filer_signing,
        "WEED_JWT_FILER_SIGNING_READ_KEY": credentials.store_filer_signing_read,
    }


def sweep(ports: dict[str, int]) -> None:
    """Remove the sockets that the server leaves in /tmp, whatever it is told."""
    for name, port in ports.items():
        kind = name.removeprefix("store-").removesuffix("-grpc")
        if name.endswith("-grpc"):
            with suppress(OSError):
                Path(f"/tmp/seaweedfs-{kind}-grpc-{port}.sock").unlink()  # noqa: S108


def client(url: str, pair: tuple[str, str]) -> Any:
    """Build a boto3 client that gives up quickly: a server that starts may forget a request."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=pair[0],
        aws_secret_access_key=pair[1],
        region_name=REGION,
        config=Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            connect_timeout=1,
            read_timeout=2,
            proxies={},
        ),
    )


def ready(url: str, credentials: Credentials) -> bool:
    """Whether the bucket takes an object: makes the bucket, writes a probe and removes it."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        admin = client(url, credentials.pair("admin"))
        names = [bucket["Name"] for bucket in admin.list_buckets()["Buckets"]]
        if BUCKET not in names:
            admin.create_bucket(Bucket=BUCKET)
        publisher = client(url, credentials.pair("publisher"))
        probe = f"probe/{uuid.uuid4().hex}"
        publisher.put_object(Bucket=BUCKET, Key=probe, Body=b"ready")
        publisher.delete_object(Bucket=BUCKET, Key=probe)
    except (BotoCoreError, ClientError):
        return False
    return True
