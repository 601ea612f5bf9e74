"""What can go wrong, named by what the reader should do next.

* EcomError
  + RetryableError        wait, then try the same input again        (exit code 1)
  + DataContractError     fix the data; a retry cannot help          (exit code 2)
  + ConfigError           fix the setting; a retry cannot help       (exit code 2)
  + ModelRejectedError    look at the metrics; the old model stays   (exit code 2)

Foreign errors (of the object store, DuckDB, a database driver, ...) are translated into one of
these where our code meets the library, never later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MAX_EXAMPLES = 5


class EcomError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    reason : str
        What was wrong and where: table, column, file, row, setting.
    hint : str
        What to do about it.
    examples : sequence of mappings, optional
        Rows that show the fault; at most five are kept.
    """

    exit_code = 2

    def __init__(
        self, reason: str, hint: str, examples: Sequence[Mapping[str, object]] = ()
    ) -> None:
        # All three go to `args`, so that a pickled error (Dask, Airflow) arrives whole.
        super().__init__(reason, hint, [dict(row) for row in examples[:MAX_EXAMPLES]])

    @property
    def reason(self) -> str:
        return str(self.args[0])

    @property
    def hint(self) -> str:
        return str(self.args[1])

    @property
    def examples(self) -> list[dict[str, object]]:
        return list(self.args[2])

    def __str__(self) -> str:
        text = f"{self.reason.rstrip('.')}. {self.hint.rstrip('.')}."
        for row in self.examples:
            text += "\n  " + ", ".join(f"{name}={value!r}" for name, value in row.items())
        return text


class RetryableError(EcomError):
    """A passing fault of storage, cluster or network."""

    exit_code = 1


class DataContractError(EcomError):
    """The data broke the contract or its expectation suite."""


class ConfigError(EcomError):
    """A setting is unknown, missing or out of range."""


class ModelRejectedError(EcomError):
    """The new model did not pass its gate; the version in service stays."""
