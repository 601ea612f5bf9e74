"""Find the files of a source, pin what they hold, and bring them to where SQL can read them."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from ecom_tasks.errors import ConfigError, DataContractError
from ecom_tasks.ingestion.sources import Format, Input, Source

_CHUNK_BYTES = 1 << 20
CHANGED = (
    "Start the whole run again, so that it is pinned anew; where files are replaced while they "
    "are read, deliver each under a name of its own"
)


class Pin(BaseModel):
    """What one file, or the answer to one query, was when the run began."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: str
    name: str
    """Relative to the source's data; no machine's path."""
    fingerprint: str
    """sha256:... of a file, etag:... of an object, rows:... of a query's answer."""
    bytes: int | None = None
    rows: int | None = None


@dataclass(frozen=True)
class Prepared:
    """An input as DuckDB can read it.

    Attributes
    ----------
    files : local files.
    by_name : columns are matched by name and widened over the files (parts of a query's answer).
    """

    format: Format
    files: tuple[Path, ...]
    options: dict[str, Any]
    by_name: bool = False


def pin(source: Source, name: str, as_of: date) -> list[Pin]:
    """Pin one input of the source.

    Raises
    ------
    DataContractError
        No file is there.
    """
    source_input = source.input(name)
    if source_input.is_database:
        # Loaded here for its driver's sake: only sources with a query need it.
        from ecom_tasks.ingestion import databases

        read = databases.read_query(name, source_input, as_of)
        return [Pin(input=name, name="query", fingerprint=f"rows:{read.digest}", rows=read.rows)]
    if _remote(source, source_input):
        from ecom_tasks.ingestion import objects

        return [
            Pin(input=name, name=key, fingerprint=f"etag:{etag}", bytes=size)
            for key, etag, size in objects.matching(_place(source, source_input), name)
        ]
    folder, files = _local_files(source, source_input, name)
    prefix = f"{source_input.package}:" if source_input.package else ""
    return [
        Pin(
            input=name,
            name=f"{prefix}{_relative(file, folder)}",
            fingerprint=f"sha256:{_sha256(file, name)}",
            bytes=file.stat().st_size,
        )
        for file in files
    ]


def stamps(source: Source, name: str) -> dict[str, str]:
    """Return name and outward sign of change of each file of an input, without reading it.

    Raises
    ------
    DataContractError
        No file is there.
    """
    source_input = source.input(name)
    if _remote(source, source_input):
        from ecom_tasks.ingestion import objects

        return {key: etag for key, etag, _ in objects.matching(_place(source, source_input), name)}
    folder, files = _local_files(source, source_input, name)
    facts = {_relative(file, folder): file.stat() for file in files}
    return {file: f"{fact.st_size}-{fact.st_mtime_ns}" for file, fact in facts.items()}


def prepare(source: Source, name: str, pins: Sequence[Pin], as_of: date, folder: Path) -> Prepared:
    """Bring one input to `folder`, or name the local files, and see that it is what was pinned.

    Raises
    ------
    DataContractError
        It has changed since it was pinned.
    """
    source_input = source.input(name)
    pinned = [each for each in pins if each.input == name]
    if source_input.is_database:
        return _prepare_query(name, source_input, pinned, as_of, folder)
    if _remote(source, source_input):
        from ecom_tasks.ingestion import objects

        files = objects.download(_place(source, source_input), pinned, folder)
    else:
        now = pin(source, name, as_of)
        if now != pinned:
            raise DataContractError(
                f"Files of input {name!r} changed after the run began: {_difference(now, pinned)}",
                CHANGED,
            )
        _, files = _local_files(source, source_input, name)
    if source_input.file_format == "excel":
        return _from_excel(name, source_input, files, folder)
    return Prepared(source_input.file_format, tuple(files), dict(source_input.options))


def _difference(now: Sequence[Pin], pinned: Sequence[Pin]) -> str:
    names = sorted({each.name for each in set(now) ^ set(pinned)})
    return ", ".join(names[:5]) + (" and more" if len(names) > 5 else "")


def _prepare_query(
    name: str, source_input: Input, pinned: Sequence[Pin], as_of: date, folder: Path
) -> Prepared:
    from ecom_tasks.ingestion import databases

    read = databases.read_query(name, source_input, as_of, folder)
    if [each.fingerprint for each in pinned] != [f"rows:{read.digest}"]:
        raise DataContractError(
            f"The answer to the query of input {name!r} changed after the run began: "
            f"{pinned[0].rows if pinned else 0} rows then, {read.rows} now",
            "Bound the query by :as_of so that the day's rows stand still "
            "(where created_at < cast(:as_of as date) + 1), and start the whole run again",
        )
    return Prepared("parquet", read.files, {}, by_name=True)


def _remote(source: Source, source_input: Input) -> bool:
    return not source_input.package and _place(source, source_input).startswith("s3://")


def _place(source: Source, source_input: Input) -> str:
    if "://" in source_input.path:
        return source_input.path
    return f"{source.base.rstrip('/')}/{source_input.path}"


def _local_files(source: Source, source_input: Input, name: str) -> tuple[Path, list[Path]]:
    folder = _package_folder(source_input.package, name) if source_input.package else source.base
    path = Path(folder) / source_input.path  # an absolute path stands for itself
    anchor, pattern = split_pattern(path)
    files = sorted(file for file in anchor.glob(pattern) if file.is_file()) if pattern else [path]
    if not files or not files[0].is_file():
        present = sorted(each.name for each in anchor.iterdir()) if anchor.is_dir() else []
        raise DataContractError(
            f"Input {name!r} has no file {source_input.path!r} in {folder}",
            f"There are: {', '.join(present[:10])}" if present else "Give the folder with --data",
        )
    return Path(folder), files


def split_pattern(path: Path) -> tuple[Path, str]:
    """Part a pattern into the folder that it starts from and the rest."""
    parts = path.parts
    wild = next((i for i, part in enumerate(parts) if set(part) & set("*?[")), None)
    if wild is None:
        return path.parent, ""
    return Path(*parts[:wild]), "/".join(parts[wild:])


def _package_folder(package: str, name: str) -> str:
    # Found without importing it: some data packages load everything when imported.
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"Input {name!r} lies in the Python package {package!r}, which is not installed",
            f"Install it: pip install {package.replace('_', '-')}",
        )
    return str(spec.submodule_search_locations[0])


def _relative(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name


def _sha256(file: Path, name: str) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            while chunk := opened.read(_CHUNK_BYTES):
                digest.update(chunk)
    except PermissionError as error:
        raise ConfigError(
            f"Input {name!r}: no permission to read {file.name}", "Give this user access"
        ) from error
    return digest.hexdigest()


def _from_excel(name: str, source_input: Input, files: Sequence[Path], folder: Path) -> Prepared:
    """Turn workbooks into Parquet; DuckDB's own reader is an extension that would be fetched."""
    import polars as pl
    from fastexcel import FastExcelError
    from polars.exceptions import PolarsError

    made = []
    sheet = source_input.options.get("sheet_name")
    for number, file in enumerate(files):
        try:
            frame = pl.read_excel(
                file, sheet_name=str(sheet) if sheet else None, infer_schema_length=None
            )
        except (FastExcelError, PolarsError, ValueError, RuntimeError) as error:
            told = str(error).splitlines()[0]
            raise DataContractError(
                f"Input {name!r}: {file.name} is no readable workbook: {told}",
                "Save it as .xlsx, and name the sheet with options = { sheet_name = ... }",
            ) from error
        made.append(folder / f"{name}-{number:05}.parquet")
        frame.with_columns(pl.col(pl.Null).cast(pl.String)).write_parquet(made[-1])
    return Prepared("parquet", tuple(made), {}, by_name=True)
