"""Source files that lie in a bucket."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from ecom_tasks.artefacts.s3_store import S3Store, translated
from ecom_tasks.artefacts.store import CHUNK_BYTES, ConflictError, KeyMissingError
from ecom_tasks.errors import DataContractError
from ecom_tasks.ingestion.inputs import CHANGED, Pin, split_pattern


def matching(place: str, name: str) -> list[tuple[str, str, int]]:
    """Key (relative to the bucket), tag and size of each object that the pattern matches.

    Parameters
    ----------
    place : `s3://bucket/prefix/*.csv`
    name : of the input, for messages.
    """
    bucket, pattern = _parted(place)
    wild = set(pattern) & set("*?[")
    prefix = split_pattern(Path("/") / pattern)[0].as_posix()[1:] if wild else pattern
    with translated(place):
        pages = (
            S3Store(f"s3://{bucket}")
            .client.get_paginator("list_objects_v2")
            .paginate(Bucket=bucket, Prefix=prefix)
        )
        listed = [item for page in pages for item in page.get("Contents", [])]
    found = sorted(
        (item["Key"], item["ETag"].strip('"'), item["Size"])
        for item in listed
        if fnmatch(item["Key"], pattern)
    )
    if not found:
        raise DataContractError(
            f"Input {name!r} has no object {place}", "Check bucket, prefix and pattern"
        )
    return found


def download(place: str, pins: Sequence[Pin], folder: Path) -> list[Path]:
    """Fetch the pinned objects, each only if it still has the tag that was pinned."""
    store = S3Store(f"s3://{_parted(place)[0]}")
    # A number in front keeps two objects of the same name apart.
    targets = [
        folder / f"{pin.input}-{number:05}-{PurePosixPath(pin.name).name}"
        for number, pin in enumerate(pins)
    ]
    for pin, target in zip(pins, targets, strict=True):
        try:
            _fetch(store, pin, target)
        except (ConflictError, KeyMissingError) as error:
            raise DataContractError(
                f"Input {pin.input!r}: {store.uri(pin.name)} changed after the run began", CHANGED
            ) from error
    return targets


def _fetch(store: S3Store, pin: Pin, target: Path) -> None:
    with translated(store.uri(pin.name)), target.open("wb") as file:
        answer = store.client.get_object(
            Bucket=store.bucket, Key=pin.name, IfMatch=pin.fingerprint.removeprefix("etag:")
        )
        for chunk in answer["Body"].iter_chunks(CHUNK_BYTES):
            file.write(chunk)


def _parted(place: str) -> tuple[str, str]:
    bucket, _, pattern = place.removeprefix("s3://").partition("/")
    return bucket, pattern
