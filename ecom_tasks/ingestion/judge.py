"""Whether a table lost little enough to quarantine to go on."""

from __future__ import annotations

from ecom_tasks.errors import DataContractError
from ecom_tasks.ingestion.config import IngestionConfig
from ecom_tasks.ingestion.load import Loaded
from ecom_tasks.ingestion.quarantine import IN_FUTURE
from ecom_tasks.tables import Table


def judge(table: Table, loaded: Loaded, config: IngestionConfig) -> None:
    """Raise `DataContractError` where too large a share of the rows broke the contract.

    The newest day is judged apart: a delivery that is wrong altogether is a small part of a long
    history.
    """
    _judge_share(
        table,
        loaded,
        "rows",
        (loaded.quarantined, loaded.read),
        "largest_quarantined_share",
        config,
    )
    if not loaded.by_day:
        return
    newest = max(loaded.by_day)
    kept, broken = loaded.by_day[newest]
    limit = "largest_quarantined_share_of_newest_day"
    _judge_share(
        table, loaded, f"rows of the newest day, {newest}", (broken, kept + broken), limit, config
    )
    # Rows in the future belong to no day that could be judged: they are held against a usual one.
    usual = sum(map(sum, loaded.by_day.values())) / len(loaded.by_day)
    _judge_share(
        table,
        loaded,
        "rows of a usual day",
        (loaded.reasons[IN_FUTURE], round(usual)),
        limit,
        config,
    )


def _judge_share(
    table: Table,
    loaded: Loaded,
    of_what: str,
    counts: tuple[int, int],
    limit: str,
    config: IngestionConfig,
) -> None:
    broken, rows = counts
    largest = getattr(config, limit)
    if not rows or broken / rows <= largest:
        return
    commonest = loaded.reasons.most_common(1)[0][0]
    examples = loaded.examples.get(commonest, [])
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in loaded.reasons.most_common(5))
    raise DataContractError(
        f"{table.name}: observed {broken:,} of {rows:,} {of_what} ({broken / rows:.1%}) that break "
        f"the data contract, expected at most {largest:.0%}. All reasons: {reasons}",
        "Nothing was published, the day before stays in service. The rows stand in "
        f"quarantine/{table.name}: have the delivery corrected, or, if they are right, "
        f"raise ingestion.{limit}",
        examples,
    )
