"""Whether a table lost little enough to quarantine to go on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ecom_tasks.errors import DataContractError
from ecom_tasks.ingestion.config import IngestionConfig
from ecom_tasks.ingestion.load import Loaded
from ecom_tasks.ingestion.quarantine import IN_FUTURE
from ecom_tasks.tables import Table

REFUSED = (
    "Nothing was published, the day before stays in service. The rows stand in quarantine/{table}: "
    "have the delivery corrected, or, if they are right, raise ingestion.{limit}"
)


@dataclass(frozen=True)
class _Share:
    """Rows that broke the contract, held against the rows that they are a part of."""

    broken: int
    rows: int
    of_what: str
    limit: str
    reason: str


def judge(table: Table, loaded: Loaded, config: IngestionConfig, remedy: str = REFUSED) -> None:
    """Raise `DataContractError` where too large a share of the rows broke the contract.

    Parameters
    ----------
    remedy : what to do, with {table} and {limit}, the setting that was exceeded.
    """
    for share in _shares(loaded):
        largest = getattr(config, share.limit)
        if not share.rows or share.broken / share.rows <= largest:
            continue
        reasons = ", ".join(f"{count:,} {told}" for told, count in loaded.reasons.most_common(5))
        raise DataContractError(
            f"{table.name}: observed {share.broken:,} of {share.rows:,} {share.of_what} "
            f"({share.broken / share.rows:.1%}) that break the data contract, expected at most "
            f"{largest:.0%}. All reasons: {reasons}",
            remedy.format(table=table.name, limit=share.limit),
            loaded.examples.get(share.reason, []),
        )


def _shares(loaded: Loaded) -> Iterator[_Share]:
    if not loaded.reasons:
        return
    commonest = loaded.reasons.most_common(1)[0][0]
    yield _Share(loaded.quarantined, loaded.read, "rows", "largest_quarantined_share", commonest)
    if not loaded.by_day:
        return
    # The newest day apart: a delivery that is all wrong is a small part of a long history.
    limit = "largest_quarantined_share_of_newest_day"
    newest = max(loaded.by_day)
    kept, broken = loaded.by_day[newest]
    of_what = f"rows of the newest day, {newest}"
    yield _Share(broken, kept + broken, of_what, limit, commonest)
    # Rows in the future belong to no day that could be judged: they are held against a usual one.
    usual = sum(map(sum, loaded.by_day.values())) / len(loaded.by_day)
    yield _Share(loaded.reasons[IN_FUTURE], round(usual), "rows of a usual day", limit, IN_FUTURE)
