"""What validation found, and whether the day may go on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from ecom_tasks.errors import MAX_EXAMPLES, DataContractError

log = logging.getLogger(__name__)


class Result(BaseModel):
    """Outcome of one expectation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    expectation: str
    severity: str
    success: bool
    aspect: str = ""
    column: str = ""
    expected: str = ""
    observed: str = ""
    rows: list[dict[str, Any]] = []
    """Up to five rows at fault, or the figures that were compared."""

    def __str__(self) -> str:
        where = f"{self.table}.{self.column}" if self.column else self.table
        return (
            f"{where}: {self.aspect or 'expectation'} ({self.expectation}): observed "
            f"{self.observed}, expected {self.expected}"
        )


def parse(content: Any) -> list[Result]:
    """Read results back from JSON."""
    return [Result.model_validate(each) for each in content]


def counts(results: Sequence[Result]) -> dict[str, int]:
    """Return the number of expectations, and of those not met by severity."""
    return {
        "expectations": len(results),
        "critical_failures": len(_failed(results, "critical")),
        "warnings": len(_failed(results, "warning")),
    }


def _failed(results: Sequence[Result], severity: str) -> list[Result]:
    return [each for each in results if not each.success and each.severity == severity]


def judge(results: Sequence[Result], documents: str) -> None:
    """Log what is worth a warning; raise `DataContractError` where something is critical.

    Parameters
    ----------
    documents : where the full report lies.
    """
    for each in _failed(results, "warning"):
        log.warning("%s", each)
        for row in each.rows:
            log.warning("  %s", ", ".join(f"{name}={value!r}" for name, value in row.items()))
    critical = _failed(results, "critical")
    if not critical:
        return
    others = "".join(f". Also {each}" for each in critical[1:4])
    more = f". And {len(critical) - 4} more" if len(critical) > 4 else ""
    raise DataContractError(
        f"{critical[0]}{others}{more}",
        "Nothing was published, the day before stays in service. Have the delivery corrected; if "
        "the data is right, change the threshold (ingestion.*) or the suite in expectations/. "
        f"Report: {documents}",
        critical[0].rows[:MAX_EXAMPLES],
    )
