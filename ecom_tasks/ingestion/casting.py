"""SQL that casts a column to the contract's type, and SQL that says where this fails.

`TRY_CAST` gives null where a value does not fit; a few things that it lets pass are stopped here:
fractions as whole numbers, infinities, times with a zone.
"""

from __future__ import annotations

from ecom_tasks.tables import Column

_NUMBERS_WITH_FRACTION = ("DOUBLE", "FLOAT", "DECIMAL")
_ZONE = r"\d[Tt ]\d{1,2}:.*(Z|z|[+-]\d{2}(:?\d{2})?)$"
_LARGEST_EXACT = 2**53
_LONGEST_DETAIL = 40
"""Characters kept of a text that could not be cast: enough to see why, too few to tell a story."""


def casted(column: Column, raw: str, duckdb_type: str) -> str:
    """Return the SQL expression of the column in its contract type; null where that fails."""
    value = _trimmed(raw, duckdb_type)
    if not duckdb_type:
        return f"CAST(NULL AS {_SQL_TYPES[column.type]})"
    match column.type:
        case "string":
            return _text(value, duckdb_type)
        case "float":
            number = f"TRY_CAST({value} AS DOUBLE)"
            return f"CASE WHEN isfinite({number}) THEN {number} END"
        case "int" if duckdb_type != "BIGINT":
            whole = f"TRY_CAST({value} AS BIGINT)"
            return f"CASE WHEN TRY_CAST({value} AS DOUBLE) = {whole} THEN {whole} END"
        case "date" | "datetime" if duckdb_type == "VARCHAR":
            zoned = f"regexp_matches({value}, '{_ZONE}')"
            return f"CASE WHEN NOT {zoned} THEN TRY_CAST({value} AS {_SQL_TYPES[column.type]}) END"
        case _:
            return f"TRY_CAST({value} AS {_SQL_TYPES[column.type]})"


def failure(column: Column, raw: str, duckdb_type: str) -> str:
    """Return SQL that gives `column: 'text'` where the cast fails, else null; empty: it cannot."""
    # A DOUBLE can still be infinite; any other column of the right type fits as it is.
    same = duckdb_type == _SQL_TYPES[column.type] and column.type != "float"
    if not duckdb_type or column.type == "string" or same:
        return ""
    value = _trimmed(raw, duckdb_type)
    fails = f"{value} IS NOT NULL AND {casted(column, raw, duckdb_type)} IS NULL"
    text = f"left(CAST({raw} AS VARCHAR), {_LONGEST_DETAIL})"
    return f"CASE WHEN {fails} THEN '{column.name}: ''' || {text} || '''' END"


_SQL_TYPES = {
    "string": "VARCHAR",
    "float": "DOUBLE",
    "int": "BIGINT",
    "bool": "BOOLEAN",
    "date": "DATE",
    "datetime": "TIMESTAMP",
}


def _trimmed(raw: str, duckdb_type: str) -> str:
    # A cell of blanks is an empty cell.
    return f"nullif(trim({raw}), '')" if duckdb_type == "VARCHAR" else raw


def _text(value: str, duckdb_type: str) -> str:
    if duckdb_type == "VARCHAR":
        return value
    if not duckdb_type.startswith(_NUMBERS_WITH_FRACTION):
        return f"nullif(trim(CAST({value} AS VARCHAR)), '')"
    # Spreadsheets keep article numbers as 17850.0; the other tables know them as 17850.
    whole = f"{value} = trunc({value}) AND abs({value}) < {_LARGEST_EXACT}"
    return (
        f"CASE WHEN {whole} THEN CAST(CAST({value} AS BIGINT) AS VARCHAR) "
        f"ELSE CAST({value} AS VARCHAR) END"
    )
