"""Parquet files that grow: a group of rows a call, so that nobody holds a whole file in memory."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a task that finds its work done needs no tables
    import polars as pl

_FILES_AT_ONCE = 4096
"""Every bucket of a table is open while it is loaded; many systems allow 1,024 files at first."""


@dataclass
class Growing:
    """Files of tables below a folder; different threads may add to different files.

    Attributes
    ----------
    plain : columns in whose order the rows stand, or nearly so: packed as they are, they take half
        the time and space that they take when each distinct value is numbered first.
    filled : columns that have a value in every row: nothing is written on which of them have none.
    rows : rows of each file so far.
    columns : names and types of each file's columns.
    """

    folder: Path
    plain: Sequence[str] = ()
    filled: Sequence[str] = ()
    rows: dict[str, int] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    _writers: dict[str, Any] = field(default_factory=dict)

    def add(self, path: str, frame: pl.DataFrame) -> None:
        """Add rows to the end of a file; the first call for a path begins it, also without rows."""
        table = _arrow(frame, self.filled)
        if path not in self._writers:
            self._writers[path] = self._begin(path, table.schema)
            self.rows[path] = 0
            self.columns[path] = {name: _told(dtype) for name, dtype in frame.schema.items()}
        if frame.height:
            self._writers[path].write_table(table, row_group_size=frame.height)
            self.rows[path] += frame.height

    def _begin(self, path: str, schema: Any) -> Any:
        from pyarrow import parquet

        _allow_files(_FILES_AT_ONCE)
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        # Texts are mostly identifiers, hashed to buckets: the lowest and highest tell nothing.
        measured = [each.name for each in schema if not _is_text(each.type)]
        numbered = [each.name for each in schema if each.name not in self.plain]
        return parquet.ParquetWriter(
            target, schema, compression="zstd", compression_level=1, store_schema=False,
            use_dictionary=numbered, write_statistics=measured,
        )  # fmt: skip

    def close(self) -> None:
        """Finish all files."""
        for writer in self._writers.values():
            writer.close()


def _arrow(frame: pl.DataFrame, filled: Sequence[str]) -> Any:
    """Return the table in Arrow's form; texts that are numbered keep their numbers."""
    import polars as pl
    import pyarrow as pa
    from polars import selectors

    # Polars' own form of texts, which takes no copy; the file itself does not tell them apart.
    others = frame.drop(selectors.enum()).to_arrow(compat_level=pl.CompatLevel.newest())
    columns = [
        _those_used(kind.categories, frame[name].to_physical())
        if isinstance(kind, pl.Enum)
        else others.column(name)
        for name, kind in frame.schema.items()  # asked for once: to name its texts takes a while
    ]
    fields = [
        pa.field(name, column.type, nullable=name not in filled)
        for name, column in zip(frame.columns, columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _those_used(texts: pl.Series, numbers: pl.Series) -> Any:
    """Return the column of numbered texts with a dictionary of those alone that stand in it."""
    import numpy as np
    import polars as pl
    import pyarrow as pa

    used = np.zeros(len(texts), dtype=bool)
    used[numbers.drop_nulls().to_numpy()] = True
    fewer = pl.Series(np.cumsum(used, dtype=np.int32) - 1).gather(numbers)
    known = texts.filter(pl.Series(used)).to_arrow(compat_level=pl.CompatLevel.oldest())
    return pa.DictionaryArray.from_arrays(fewer.to_arrow(), known)


def _told(dtype: pl.DataType) -> str:
    import polars as pl

    return "String" if isinstance(dtype, pl.Enum) else str(dtype)


def _is_text(type_: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string_view(type_) or types.is_dictionary(type_))


def _allow_files(wanted: int) -> None:
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted, most)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
