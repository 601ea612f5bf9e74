"""Where an identifier stands in a file, whatever kind of file it is, and how to take it out.

Parquet is compressed: it is read column by column. Archives (Keras, NumPy, Excel) are read member
by member, everything else as it is, with the forms that HTML and JSON give a text.
"""

from __future__ import annotations

import html
import json
import zipfile
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from ecom_tasks.artefacts.store import KeyMissingError, Stat, Store

REMOVED = "(removed)"
_PARQUET = ".parquet"
_DOWNLOADS = 4


def found(file: Path, identifiers: Collection[str]) -> set[str]:
    """Return those of `identifiers` that stand anywhere in the file, also within other text.

    They must be distinctive: `7` stands in every file.
    """
    forms = {form: each for each in identifiers for form in _forms(each)}
    seen: set[str] = set()
    for texts in _texts(file):
        matched = texts.str.extract_many(list(forms), overlapping=True).drop_nulls()
        seen |= {forms[form] for each in matched for form in each}
    return seen


def stored(store: Store, prefix: str, identifiers: Collection[str]) -> dict[str, set[str]]:
    """Look into every file under a prefix of a store, and at its key.

    Returns
    -------
    dict
        Key of each file in which somebody stands -> who.
    """

    def look(stat: Stat) -> tuple[str, set[str]]:
        with TemporaryDirectory(prefix="ecom-") as scratch:
            file = Path(scratch) / stat.key.rpartition("/")[2]
            try:
                store.download(stat.key, file)
            except KeyMissingError:  # removed meanwhile
                return stat.key, set()
            return stat.key, found(file, identifiers) | {x for x in identifiers if x in stat.key}

    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        return {key: seen for key, seen in pool.map(look, store.walk(prefix)) if seen}


def remove(file: Path, identifiers: Collection[str]) -> pl.DataFrame | None:
    """Take the identifiers out of the file: whole rows of a table, the words of a text.

    Returns
    -------
    DataFrame
        What the table holds now; None for other files.
    """
    if file.suffix != _PARQUET:
        # Bytes that are no text pass unchanged.
        text = file.read_bytes().decode(errors="surrogateescape")
        file.write_bytes(scrub(text, identifiers).encode(errors="surrogateescape"))
        return None
    forms = [form for each in identifiers for form in _forms(each)]
    rows = pl.read_parquet(file)
    told = pl.any_horizontal(
        pl.lit(value=False), pl.col(pl.String).str.contains_any(forms).fill_null(value=False)
    )
    return rows.filter(~told)


def scrub(text: str, identifiers: Collection[str]) -> str:
    """Put `(removed)` where an identifier stands."""
    for each in identifiers:
        for form in _forms(each):
            text = text.replace(form, REMOVED)
    return text


def _forms(identifier: str) -> set[str]:
    return {identifier, html.escape(identifier), json.dumps(identifier)[1:-1]}


def _texts(file: Path) -> Iterator[pl.Series]:
    """Everything readable in the file, piece by piece."""
    if file.suffix == _PARQUET:
        yield from _columns(file)
    elif zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                yield pl.Series([name, archive.read(name).decode(errors="replace")])
    else:
        yield pl.Series([file.read_bytes().decode(errors="replace")])


def _columns(file: Path) -> Iterator[pl.Series]:
    schema = pl.read_parquet_schema(file)
    yield pl.Series(list(schema), dtype=pl.String)
    for name, dtype in schema.items():
        if _numbers(dtype):
            continue
        values = pl.read_parquet(file, columns=[name]).to_series()
        if dtype.is_nested():
            yield pl.Series([json.dumps(values.to_list(), default=str)])
        else:
            yield values.cast(pl.String).unique()


def _numbers(dtype: pl.DataType) -> bool:
    """Whether a column holds measures, times or vectors, none of which is an identifier."""
    inner = getattr(dtype, "inner", dtype)
    return bool(inner.is_float() or inner.is_temporal() or inner == pl.Boolean)
