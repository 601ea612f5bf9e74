"""Ingestion, top to bottom: a shop's files -> validated tables that every later step trusts.

A table in `lake/` counts only where a `lake/all` names it: that collection is published when every
table has passed validation, and it is all that later steps read. So a broken day leaves the day
before in service. Light to import, since the scheduler reads this file: heavy libraries load inside
the tasks.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, time
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ecom_tasks.errors import ConfigError
from ecom_tasks.ingestion.config import (
    IngestionConfig,
    RecordedSettings,
    checking_settings,
    loading_settings,
)
from ecom_tasks.run import Ref, Run, Step
from ecom_tasks.tables import CUSTOMER_ID, TABLES, Table

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft
    from ecom_tasks.ingestion.inputs import Pin
    from ecom_tasks.ingestion.load import Loaded
    from ecom_tasks.ingestion.sources import Source

PINS, READS, MAPPING = "pins.json", "reads.json", "mapping.json"
RESULT = "result.json"
REPORT = "report.html"
WITHOUT = {
    "events": "the source has no events: only orders tell what a customer is interested in",
    "customers": "the source has no customers: nothing but their orders is known of them",
    "exclusions": "the source has no exclusions: nobody has asked not to see a product",
    "promotions": "the source has no promotions: their effect cannot be told from that of prices",
    "prices": "the source has no price list: shelf prices are taken from order lines",
    "stock": "the source has no stock: sales are taken for demand, also where shelves were empty",
    "supply": "the source has no supply terms: lead times and pack sizes have to be assumed",
}
"""What it means for later steps that the shop lacks a table."""


def pin_source(run: Run) -> Ref:
    """Write down which files the run reads (name, size, hash), so that all tasks read the same.

    And which of them each table is made from: a change of the others leaves it as it is.
    """
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.ingestion import inputs, sources

    source = sources.load_source(run.source, run.source_data)
    sources.require_tables(source)
    _forgotten(run)  # a key that is missing, or another one: better told now than after hours
    pins = [
        pin.model_dump()
        for name in source.specification.inputs
        for pin in inputs.pin(source, name, run.as_of)
    ]

    def build(draft: Draft) -> None:
        from ecom_tasks.ingestion.load import inputs_of_table

        tables = source.specification.tables
        draft.write_json(READS, {name: inputs_of_table(source, TABLES[name]) for name in tables})
        draft.write_json(PINS, pins)
        draft.write_text("source.toml", source.text)
        draft.metrics["files"] = {
            f"{pin['input']}: {pin['name']}": _sized(pin["bytes"], pin["rows"], pin["fingerprint"])
            for pin in pins
        }

    settings = RecordedSettings(source_sha256=source.sha256, pins_sha256=_digest(pins))  # type: ignore[call-arg]
    return dataset.produce(run, f"sources/{source.name}/all", build, config=settings)


def load_products(run: Run, source: Ref) -> Ref:
    """Catalogue: one row a product, typed, keyed; rows that break the contract to quarantine."""
    return _load(run, "products", source)


def load_customers(run: Run, source: Ref) -> Ref:
    """What the shop knows of its customers, under pseudonyms."""
    return _load(run, "customers", source)


def load_order_lines(run: Run, source: Ref, products: Ref) -> Ref:
    """What was ordered, up to and with `as_of`; written by customer and by product."""
    return _load(run, "order_lines", source, products)


def load_events(run: Run, source: Ref, products: Ref) -> Ref:
    """What was viewed, searched and put into baskets."""
    return _load(run, "events", source, products)


def load_exclusions(run: Run, source: Ref, products: Ref) -> Ref:
    """Products that a customer must not be shown."""
    return _load(run, "exclusions", source, products)


def load_promotions(run: Run, source: Ref, products: Ref) -> Ref:
    """Promotions known at `as_of`, also those still to come."""
    return _load(run, "promotions", source, products)


def load_prices(run: Run, source: Ref, products: Ref) -> Ref:
    """Shelf prices, and those of competitors."""
    return _load(run, "prices", source, products)


def load_stock(run: Run, source: Ref, products: Ref) -> Ref:
    """What was counted on the shelves."""
    return _load(run, "stock", source, products)


def load_supply(run: Run, source: Ref, products: Ref) -> Ref:
    """How long suppliers take, and what they sell at once."""
    return _load(run, "supply", source, products)


def validate_tables(run: Run, *tables: Ref) -> Ref:
    """Hold every table against its suite in `expectations/`; a critical failure ends the day.

    The report and the Data Docs are published either way, as `lake/data_docs`.
    """
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.ingestion import suites, verdict

    config = IngestionConfig.of(run)
    filled_in = suites.load_suites(
        suites.parameters(config, run.as_of), config.further_expectations
    )

    def build(draft: Draft) -> None:
        with tempfile.TemporaryDirectory(prefix="ecom-") as scratch, _garbage_kept():
            from ecom_tasks.ingestion import validate

            lake = _fetch_tables(tables, Path(scratch))
            when = datetime.combine(run.as_of, time(), UTC)
            results = validate.validate(lake, filled_in, when, draft.folder)
        draft.write_json(RESULT, [result.model_dump(mode="json") for result in results])
        draft.metrics.update(verdict.counts(results))

    settings = checking_settings(
        config, suites_sha256=suites.fingerprint(config.further_expectations)
    )
    ref = dataset.produce(run, "lake/data_docs", build, inputs=tables, config=settings)
    report = f"{ref.rpartition('/')[0]}/{REPORT}"
    verdict.judge(verdict.parse(dataset.read_json(ref, RESULT)), report)
    return ref


def publish_snapshot(run: Run, validated: Ref, *tables: Ref) -> Ref:
    """Put the day's tables into service together: from here on later steps see them."""
    from ecom_tasks.artefacts import dataset

    _refuse_those_forgotten_meanwhile(run, tables)

    def build(draft: Draft) -> None:
        sources = {
            ref
            for table in tables
            for name, ref in dataset.manifest(table).inputs.items()
            if name.startswith("sources/")
        }
        told = [each for ref in sorted(sources) for each in dataset.manifest(Ref(ref)).assumptions]
        for ref in tables:
            made = dataset.manifest(ref)
            draft.metrics[made.name.removeprefix("lake/")] = made.metrics
            told += made.assumptions
        draft.assumptions += dict.fromkeys(told)  # each once, in order

    return dataset.produce(run, "lake/all", build, inputs=[*tables, validated])


def flow(step: Step) -> Ref:
    """Source files -> tables -> validation -> one collection."""
    source = step(pin_source)
    products = step(load_products, source)
    tables = [
        step(load_order_lines, source, products),
        products,
        step(load_events, source, products),
        step(load_customers, source),
        step(load_exclusions, source, products),
        step(load_promotions, source, products),
        step(load_prices, source, products),
        step(load_stock, source, products),
        step(load_supply, source, products),
    ]
    validated = step(validate_tables, *tables)
    return step(publish_snapshot, validated, *tables)


def _load(run: Run, name: str, source_ref: Ref, *products: Ref) -> Ref:
    """Publish one table as `lake/<name>`, and its rows that break the contract beside it."""
    from ecom_tasks.artefacts import dataset, forgotten
    from ecom_tasks.ingestion import pseudonyms, sources

    config, table = IngestionConfig.of(run), TABLES[name]
    source = sources.load_source(run.source, run.source_data)
    if dataset.manifest(source_ref).config["source_sha256"] != source.sha256:
        raise ConfigError(
            f"The source file {run.source} changed after the run began",
            "Start the whole run again, so that the file is read anew",
        )
    key = pseudonyms.key_from_environment()
    personal = CUSTOMER_ID in table.column_names
    gone = _forgotten(run) if personal else []
    settings = loading_settings(
        config,
        pseudonym_key=pseudonyms.fingerprint(key) if personal else "",
        forgotten=forgotten.fingerprint(gone),
    )
    part = _pin_table(run, source, source_ref, name)
    publishing = partial(dataset.produce, run, inputs=[part, *products], config=settings)

    def build(draft: Draft) -> None:
        if name not in source.specification.tables:
            draft.assumptions.append(WITHOUT[name])
            return
        from ecom_tasks.ingestion import judge, load, mapping

        # Rows of a chunk are sorted by the key, and an order has one time.
        ordered = [table.key[0], *([table.happened_at] if table.happened_at else [])]
        filled = [column.name for column in table.columns if not column.nullable]
        with (
            tempfile.TemporaryDirectory(prefix="ecom-") as scratch,
            draft.growing(ordered, filled) as write,
        ):
            loaded = load.load(
                load.Order(
                    table=table,
                    source=source,
                    pins=_pins(part),
                    settings=mapping.Settings(run.as_of, config.memory_mb, config.threads),
                    key=key,
                    forgotten=gone,
                    products=_known_products(*products),
                    buckets=config.buckets,
                    write=write,
                    scratch=Path(scratch),
                )
            )

            def fill_quarantine(beside: Draft) -> None:
                _fill_quarantine(loaded, beside)

            publishing(f"quarantine/{name}", fill_quarantine)
        draft.metrics.update(loaded.metrics())
        _advise_more_buckets(table, loaded, config, draft)
        draft.assumptions += source.specification.tables[name].assumptions
        draft.assumptions += [forgotten.told(gone)] if gone else []
        judge.judge(table, loaded, config)

    return publishing(f"lake/{name}", build)


def _pin_table(run: Run, source: Source, source_ref: Ref, name: str) -> Ref:
    """Publish what one table follows from: its SELECT, and the files that this reads."""
    from ecom_tasks.artefacts import dataset

    specification = source.specification
    reads = dataset.read_json(source_ref, READS).get(name, [])
    pins = [pin for pin in dataset.read_json(source_ref, PINS) if pin["input"] in reads]
    table = specification.tables.get(name)
    mapping = {
        "table": table.model_dump() if table else None,
        "inputs": {each: specification.inputs[each].model_dump() for each in reads},
        "country": specification.country,
        "assumptions": specification.assumptions,
    }

    def build(draft: Draft) -> None:
        draft.write_json(PINS, pins)
        draft.write_json(MAPPING, mapping)
        draft.metrics["country"] = specification.country
        draft.assumptions += specification.assumptions

    settings = RecordedSettings(mapping_sha256=_digest(mapping), pins_sha256=_digest(pins))  # type: ignore[call-arg]
    return dataset.produce(
        run, f"sources/{source.name}/{name}", build, config=settings, find_by_day=False
    )


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _forgotten(run: Run) -> list[str]:
    """Pseudonyms of those who asked to be forgotten."""
    from ecom_tasks.artefacts import forgotten
    from ecom_tasks.artefacts.store import open_store
    from ecom_tasks.ingestion import pseudonyms

    key = pseudonyms.key_from_environment()
    return forgotten.people(open_store(run.root), pseudonyms.fingerprint(key))


def _refuse_those_forgotten_meanwhile(run: Run, tables: Sequence[Ref]) -> None:
    from ecom_tasks.artefacts import dataset, forgotten

    gone = forgotten.fingerprint(_forgotten(run))
    for table in map(dataset.manifest, tables):
        personal = CUSTOMER_ID in TABLES[table.name.removeprefix("lake/")].column_names
        if personal and table.config["forgotten"] != gone:
            raise ConfigError(
                f"Somebody was forgotten after the run began, and may still be in {table.name}",
                "Start the whole run again, so that they are left out",
            )


def _advise_more_buckets(
    table: Table, loaded: Loaded, config: IngestionConfig, draft: Draft
) -> None:
    """Say in log and manifest where a bucket has outgrown what a worker should hold."""
    largest: dict[str, int] = {}
    for path, rows in draft.rows_written().items():
        copy = PurePosixPath(path).parent.name
        largest[copy] = max(largest.get(copy, 0), rows)
    if not table.buckets or not largest:
        return
    draft.metrics["rows_of_largest_bucket"] = largest
    copy, rows = max(largest.items(), key=lambda each: each[1])
    if rows <= config.large_bucket_rows:
        return
    advice = (
        f"lake/{table.name}: the largest bucket {copy} has {rows:,} rows, more than "
        f"{config.large_bucket_rows:,} (ingestion.large_bucket_rows): set ingestion.buckets="
        f"{2 * config.buckets}, from now on; days already loaded stay as they are"
    )
    if rows > 2 * loaded.rows / config.buckets:
        advice += f". A single entity ({copy}) may have most of them, which no number parts"
    log.warning("%s", advice)
    draft.metrics["advice"] = advice


def _fill_quarantine(loaded: Loaded, draft: Draft) -> None:
    import polars as pl

    for file in loaded.quarantine:
        draft.write_frame(file.name, pl.read_parquet(file))
    draft.metrics.update(loaded.metrics())


def _pins(source: Ref) -> list[Pin]:
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.ingestion.inputs import Pin

    return [Pin.model_validate(each) for each in dataset.read_json(source, PINS)]


def _known_products(products: Ref | None = None) -> pl.Series | None:
    from ecom_tasks.artefacts import dataset

    if products is None:
        return None
    return dataset.scan(products).select("product_id").collect().to_series()


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Let Python's garbage collector rest.

    Great Expectations makes a million objects while it is imported, nearly all to stay; looking
    through them again and again for garbage takes a seventh of the step.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _fetch_tables(tables: Sequence[Ref], folder: Path) -> dict[str, Path]:
    """Bring each table that has rows to a folder of its own, once where it is kept twice."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.artefacts.bucketing import file_of

    lake = {}
    for ref in tables:
        name = dataset.manifest(ref).name.removeprefix("lake/")
        if dataset.has_rows(ref):
            buckets = TABLES[name].buckets
            copy = f"{Path(file_of(buckets[0], 0)).parent}/*" if buckets else "*"
            lake[name] = dataset.fetch(ref, folder / name, copy)
    return lake


def _sized(size: int | None, rows: int | None, fingerprint: str) -> str:
    amount = f"{size:,} bytes" if size is not None else f"{rows:,} rows"
    return f"{amount}, {fingerprint[:23]}"
