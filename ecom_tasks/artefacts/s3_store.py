"""An S3-compatible bucket as a store.

Settings come from the environment: `ECOM_S3_ENDPOINT` (absent for AWS), `AWS_ACCESS_KEY_ID`,
`AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `ECOM_S3_CHECKSUMS` (`when_required` for older stores),
`ECOM_S3_ETAGS` (`unquoted` where the store compares tags so, as Ceph 16 does),
`ECOM_S3_TIMEOUT_S` (seconds that an answer may take, 60), `ECOM_S3_ENCRYPTION` (server-side:
`AES256`, `aws:kms` or `aws:kms:<key>`; absent for what the bucket does by itself).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from ecom_tasks.artefacts.store import CHUNK_BYTES, Blob, ConflictError, KeyMissingError, Stat
from ecom_tasks.errors import ConfigError, RetryableError

MAX_THREADS = 16
_SKEW_S = 120.0
_MISSING = {"404", "NoSuchKey", "NotFound"}
_CONFLICT = {"409", "412", "PreconditionFailed", "ConditionalRequestConflict"}
_DENIED = {
    "401", "403", "AccessDenied", "InvalidAccessKeyId", "RequestTimeTooSkewed",
    "SignatureDoesNotMatch", "NoSuchBucket",
}  # fmt: skip


class S3Store:
    """Keys under one prefix of one bucket."""

    def __init__(self, root: str) -> None:
        parts = urlsplit(root)
        self.root = root.rstrip("/")
        self.bucket = parts.netloc
        self._prefix = parts.path.strip("/") + "/" if parts.path.strip("/") else ""
        self.client = client(os.environ.get("ECOM_S3_ENDPOINT", ""))

    def uri(self, key: str) -> str:
        return f"{self.root}/{key}"

    def _place(self, key: str) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": self._prefix + key}

    def read(self, key: str) -> Blob:
        with translated(self.uri(key)):
            answer = self.client.get_object(**self._place(key))
            return Blob(answer["Body"].read(), answer["ETag"])

    def read_if_changed(self, key: str, etag: str) -> Blob | None:
        with translated(self.uri(key)):
            try:
                answer = self.client.get_object(**self._place(key), IfNoneMatch=etag)
            except ClientError as error:
                if _code(error) == "304":
                    return None
                raise
            return Blob(answer["Body"].read(), answer["ETag"])

    def exists(self, key: str) -> bool:
        try:
            with translated(self.uri(key)):
                self.client.head_object(**self._place(key))
        except KeyMissingError:
            return False
        return True

    def download(self, key: str, target: Path) -> None:
        with translated(self.uri(key)):
            body = self.client.get_object(**self._place(key))["Body"]
            with target.open("wb") as file:
                for chunk in body.iter_chunks(CHUNK_BYTES):
                    file.write(chunk)

    def link(self, key: str, name: str, seconds: int) -> str:
        """Return an address that hands the content out as a file, to anyone, for a while.

        `ECOM_S3_PUBLIC_ENDPOINT` names the store as others reach it, where that differs.
        """
        public = os.environ.get("ECOM_S3_PUBLIC_ENDPOINT", "")
        signer = client(public) if public else self.client
        named = {"ResponseContentDisposition": f'attachment; filename="{name}"'}
        with translated(self.uri(key)):
            return str(
                signer.generate_presigned_url(
                    "get_object", Params=self._place(key) | named, ExpiresIn=seconds
                )
            )

    def upload(self, key: str, source: Path, sha256: str) -> None:
        digest = base64.b64encode(bytes.fromhex(sha256)).decode()
        with translated(self.uri(key)), source.open("rb") as file:
            self.client.put_object(
                **self._place(key), Body=file, ChecksumSHA256=digest, **_sealed()
            )
        # Some gateways acknowledge a cut-off body; a manifest must never attest one.
        with translated(self.uri(key)):
            stored = self.client.head_object(**self._place(key))["ContentLength"]
        if stored != source.stat().st_size:
            raise RetryableError(
                f"{self.uri(key)} holds {stored} bytes after {source.stat().st_size} were sent",
                "Run again; if it persists, check the store's disk",
            )

    def _put(self, key: str, body: Any, **terms: str) -> str:
        answer = self.client.put_object(**self._place(key), Body=body, **terms, **_sealed())
        return str(answer["ETag"])

    def create(self, key: str, data: bytes) -> str:
        with translated(self.uri(key)):
            answer = self.client.put_object(
                **self._place(key), Body=data, IfNoneMatch="*", **_sealed()
            )
            return str(answer["ETag"])

    def replace(self, key: str, data: bytes, etag: str) -> str:
        with translated(self.uri(key), missing=ConflictError):
            answer = self.client.put_object(
                **self._place(key), Body=data, IfMatch=_compared(etag), **_sealed()
            )
            return str(answer["ETag"])

    def clock(self) -> str:
        """What time the store says it is (an HTTP date); empty where it does not say."""
        with translated(self.root):
            answer = self.client.list_objects_v2(
                Bucket=self.bucket, Prefix=f"{self._prefix}probe/", MaxKeys=1
            )
        return str(answer["ResponseMetadata"]["HTTPHeaders"].get("date", ""))

    def walk(self, prefix: str) -> Iterator[Stat]:
        # Collected and sorted, since not every store lists bytewise.
        found = []
        with translated(self.uri(prefix)):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for item in page.get("Contents", []):
                    key = item["Key"].removeprefix(self._prefix)
                    found.append(Stat(key, item["Size"]))
        yield from sorted(found, key=lambda stat: stat.key.encode())

    def folders(self, prefix: str) -> list[str]:
        start = self._prefix + (prefix.rstrip("/") + "/" if prefix else "")
        names: list[str] = []
        with translated(self.uri(prefix)):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=start, Delimiter="/"
            )
            for page in pages:
                names += [item["Prefix"] for item in page.get("CommonPrefixes", [])]
        return sorted(name.removeprefix(start).rstrip("/") for name in names)

    def delete(self, keys: list[str]) -> None:
        # One by one: DeleteObjects wants a checksum that not every store understands.
        for key in keys:
            with translated(self.uri(key)):
                self.client.delete_object(**self._place(key))


@cache
def client(endpoint: str) -> Any:
    """One boto3 client a process and endpoint; it is safe to share among threads."""
    # A session of our own: the default one would keep the first credentials it ever saw.
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint or None,
        region_name=os.environ.get("AWS_REGION", "us-east-1"),
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if endpoint else "auto"},
            retries={"mode": "standard", "total_max_attempts": 5},
            connect_timeout=5,
            read_timeout=float(os.environ.get("ECOM_S3_TIMEOUT_S", "60")),
            max_pool_connections=2 * MAX_THREADS,
            tcp_keepalive=True,
            request_checksum_calculation=_checksums(),
            response_checksum_validation=_checksums(),
        ),
    )


def _sealed() -> dict[str, str]:
    """How the store shall encrypt what is written."""
    wanted = os.environ.get("ECOM_S3_ENCRYPTION", "")
    if wanted in {"", "AES256", "aws:kms"}:
        return {"ServerSideEncryption": wanted} if wanted else {}
    kind, _, key = wanted.partition("aws:kms:")
    if kind or not key:
        raise ConfigError(
            f"ECOM_S3_ENCRYPTION is {wanted!r}", "Give AES256, aws:kms or aws:kms:<key>"
        )
    return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}


def _compared(etag: str) -> str:
    """Write a tag as this store compares it."""
    return etag.strip('"') if os.environ.get("ECOM_S3_ETAGS") == "unquoted" else etag


def _checksums() -> Any:
    return os.environ.get("ECOM_S3_CHECKSUMS", "when_supported")


def polars_options() -> dict[str, str]:
    """Connection settings for Polars' own reader."""
    options = {"aws_region": os.environ.get("AWS_REGION", "us-east-1")}
    if endpoint := os.environ.get("ECOM_S3_ENDPOINT"):
        options["aws_endpoint_url"] = endpoint
        options["aws_allow_http"] = str(endpoint.startswith("http://")).lower()
    for name in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"):
        if value := os.environ.get(name.upper()):
            options[name] = value
    return options


@contextmanager
def translated(
    uri: str, missing: type[KeyMissingError] | type[ConflictError] = KeyMissingError
) -> Iterator[None]:
    """Turn boto3's errors into ours."""
    try:
        yield
    except ClientError as error:
        code = _code(error)
        if code in _MISSING:
            raise missing(uri) from error
        if code in _CONFLICT:
            raise ConflictError(uri) from error
        if code in _DENIED:
            if ahead := _clock_ahead(error):
                raise ConfigError(
                    f"The store refuses {uri}: this machine's clock is {ahead:+.0f} s off",
                    "Set the clock (NTP): a store refuses requests signed at another time",
                ) from error
            raise ConfigError(
                f"The store refuses {uri}: {error}",
                "Check the bucket's name, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and its policy",
            ) from error
        raise RetryableError(f"The store failed on {uri}: {error}", "Try again later") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise ConfigError(
            f"No credentials for {uri}", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    except BotoCoreError as error:
        raise RetryableError(
            f"The store cannot be reached for {uri}: {error}",
            "Check ECOM_S3_ENDPOINT and that the store runs",
        ) from error


def _now() -> datetime:
    return datetime.now(UTC)


def _clock_ahead(error: ClientError) -> float:
    """Seconds that this clock is ahead of the store's; 0 where both are close or it is not said."""
    headers: Any = error.response.get("ResponseMetadata", {})
    try:
        there = parsedate_to_datetime(headers["HTTPHeaders"]["date"])
    except (KeyError, TypeError, ValueError):
        return 0.0
    ahead = (_now() - there).total_seconds()
    return ahead if abs(ahead) > _SKEW_S else 0.0


def _code(error: ClientError) -> str:
    answer: Any = error.response
    return str(answer.get("Error", {}).get("Code", ""))
