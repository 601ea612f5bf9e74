"""Who may do what in the bucket: policies for its publisher and its consumers.

A consumer reads releases and sets, nothing else: no lake, no features, no other prefix. The
console reads all areas, for histories, quarantine and lineage, and writes nothing. A
publisher reads and writes the areas of this system, below the prefix, and deletes nothing:
retention runs under an identity of its own (`janitor`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from ecom_tasks.artefacts import forgotten
from ecom_tasks.artefacts.retention import AREAS
from ecom_tasks.errors import ConfigError

CONSUMED = ("artefacts", "sets")
WRITTEN = (*AREAS, forgotten.AREA, "probe", "bench")
ROLES = ("consumer", "console", "publisher", "janitor")


def policy(root: str, principals: dict[str, Sequence[str]], *, aws: bool) -> dict[str, Any]:
    """Return a bucket policy.

    Parameters
    ----------
    root : `s3://bucket/prefix`.
    principals : role (`consumer`, `console`, `publisher`, `janitor`) -> ARNs.
    aws : use what AWS knows and other stores may refuse. A manifest cannot be written without
        `If-None-Match`, so that no version is overwritten; and a read of a key that is not there
        is answered 404, not 403, since the right to list does not hang on a prefix being named.

    Raises
    ------
    ConfigError
        The root is no bucket, or a role is unknown.
    """
    parts = urlsplit(root)
    unknown = set(principals) - set(ROLES)
    if parts.scheme != "s3" or not parts.netloc or unknown:
        raise ConfigError(
            f"No policy can be made for {root!r}, {', '.join(unknown) or 'no role'}",
            f"Give s3://bucket/prefix and roles of: {', '.join(ROLES)}",
        )
    bucket, prefix = f"arn:aws:s3:::{parts.netloc}", f"{parts.path.strip('/')}/".lstrip("/")

    def objects(areas: Sequence[str]) -> list[str]:
        return [f"{bucket}/{prefix}{area}/*" for area in areas]

    rights = {
        "consumer": (["s3:GetObject"], CONSUMED),
        "console": (["s3:GetObject"], AREAS),
        "publisher": (["s3:GetObject", "s3:PutObject"], WRITTEN),
        "janitor": (["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], (*WRITTEN, "retention")),
    }
    matches = "StringLikeIfExists" if aws else "StringLike"
    statements: list[dict[str, Any]] = []
    for role, arns in principals.items():
        actions, areas = rights[role]
        who = {"AWS": list(arns)}
        statements += [
            {"Sid": f"{role}Objects", "Effect": "Allow", "Principal": who, "Action": actions,
             "Resource": objects(areas)},
            {"Sid": f"{role}List", "Effect": "Allow", "Principal": who,
             "Action": ["s3:ListBucket"], "Resource": [bucket],
             "Condition": {matches: {"s3:prefix": [f"{prefix}{area}/*" for area in areas]}}},
        ]  # fmt: skip
    if aws and "publisher" in principals:
        statements.append({
            "Sid": "versionsAreWrittenOnce", "Effect": "Deny",
            "Principal": {"AWS": list(principals["publisher"])}, "Action": ["s3:PutObject"],
            "Resource": [f"{bucket}/{prefix}*/_manifest.json"],
            "Condition": {"Null": {"s3:if-none-match": "true"}},
        })  # fmt: skip
    return {"Version": "2012-10-17", "Statement": statements}
