"""Try a source out and explain what is wrong with it, without publishing anything."""

from __future__ import annotations

import logging
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from ecom_tasks.errors import EcomError
from ecom_tasks.ingestion import inputs, load, mapping
from ecom_tasks.ingestion.config import IngestionConfig
from ecom_tasks.ingestion.inputs import Pin
from ecom_tasks.ingestion.judge import judge
from ecom_tasks.ingestion.sources import Source, load_source, require_tables
from ecom_tasks.tables import TABLES, Table

log = logging.getLogger(__name__)
_REMEDY = (
    "A run would put these rows into quarantine and publish nothing. Correct the SELECT of {table} "
    "or the data; if the rows are right, raise ingestion.{limit}"
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    where : the source file, an input or a table.
    error : what is wrong, what to do, and rows that show it.
    """

    where: str
    error: EcomError

    def __str__(self) -> str:
        return f"{self.where}: {self.error}"


def check_source(path: str, data: str = "") -> list[Finding]:
    """Load every table of a source as a run of today would, and return what is wrong.

    Parameters
    ----------
    path : name of a shipped source, or path of a TOML file.
    data : folder or bucket prefix of its files.

    Returns
    -------
    list of Finding
        Empty when a run would go through. How many rows were read and would go to quarantine is
        logged. Needs no pseudonym key: a passing one is used, and customers are shown under it.
    """
    try:
        source = load_source(path, data)
        require_tables(source)
    except EcomError as error:
        return [Finding(path, error)]
    today = datetime.now(UTC).date()
    findings, pins = _pin_inputs(source, today)
    broken = {finding.where for finding in findings}
    products: list[pl.Series] = []
    for table in _products_first(source):
        try:
            if broken & set(load.inputs_of_table(source, table)):
                continue  # said already
            _try(source, table, pins, products, today)
        except EcomError as error:
            findings.append(Finding(f"[tables.{table.name}]", error))
    return findings


def _pin_inputs(source: Source, today: date) -> tuple[list[Finding], list[Pin]]:
    findings: list[Finding] = []
    pins: list[Pin] = []
    for name in source.specification.inputs:
        try:
            pins += inputs.pin(source, name, today)
        except EcomError as error:
            findings.append(Finding(name, error))
    return findings, pins


def _products_first(source: Source) -> Iterator[Table]:
    # The other tables are compared with the products.
    for name in sorted(source.specification.tables, key=lambda name: name != "products"):
        yield TABLES[name]


def _try(
    source: Source, table: Table, pins: list[Pin], products: list[pl.Series], today: date
) -> None:
    config = IngestionConfig()

    def keep_products(path: str, frame: pl.DataFrame) -> None:
        if table.name == "products":
            products.append(frame["product_id"])
        log.debug("%s: %s rows", path, frame.height)

    with tempfile.TemporaryDirectory(prefix="ecom-") as scratch:
        loaded = load.load(
            load.Order(
                table=table,
                source=source,
                pins=pins,
                settings=mapping.Settings(today, config.memory_mb, config.threads),
                key=secrets.token_bytes(32),
                products=products[0] if products and table.name != "products" else None,
                buckets=config.buckets,
                write=keep_products,
                scratch=Path(scratch),
            )
        )
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in loaded.reasons.most_common())
    log.info(
        "%s: %s rows, of which %s would go to quarantine%s",
        table.name, f"{loaded.read:,}", f"{loaded.quarantined:,}", reasons and f" ({reasons})",
    )  # fmt: skip
    judge(table, loaded, config, _REMEDY)
