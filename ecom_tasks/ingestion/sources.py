"""A source: one TOML file that says where a shop's data lies and how it maps to the contract."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ecom_tasks.errors import ConfigError
from ecom_tasks.tables import TABLES

SHIPPED = Path(__file__).resolve().parent.parent / "sources"
Format = Literal["csv", "parquet", "json", "excel"]
_FORMATS: dict[str, Format] = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv",
    ".parquet": "parquet", ".pq": "parquet",
    ".json": "json", ".ndjson": "json", ".jsonl": "json",
    ".xlsx": "excel", ".xls": "excel", ".xlsb": "excel", ".ods": "excel",
}  # fmt: skip
_IDENTIFIER = "^[a-z_][a-z0-9_]*$"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Input(_Strict):
    """One thing that SQL can read from: files, or the answer to a database query."""

    path: str = Field(default="", description="file or pattern (`orders/*.csv`)")
    package: str = Field(default="", description="installed Python package that holds the file")
    format: Format | None = Field(default=None, description="where the file's ending does not say")
    options: dict[str, str | int | float | bool | list[str]] = Field(
        default={}, description="DuckDB's options of the reader; for Excel: sheet_name"
    )
    url: str = Field(default="", description="SQLAlchemy URL; ${NAME} is read from the environment")
    connection: str = Field(default="", description="name of an Airflow connection")
    query: str = Field(default="", description="database query; :as_of stands for the run's day")

    @property
    def is_database(self) -> bool:
        return bool(self.query)

    @property
    def file_format(self) -> Format:
        if self.format:
            return self.format
        endings = [suffix for suffix in Path(self.path).suffixes if suffix not in {".gz", ".zst"}]
        return _FORMATS[endings[-1].lower()]

    @model_validator(mode="after")
    def _says_one_place(self) -> Self:
        if bool(self.path) == bool(self.query):
            raise ValueError("give either path (files) or query (a database)")
        if self.query and bool(self.url) == bool(self.connection):
            raise ValueError("a query needs either url or connection")
        if self.query and (self.package or self.format or self.options):
            raise ValueError("package, format and options are for files, not for a query")
        if self.path and (self.url or self.connection):
            raise ValueError("url and connection are for a query, not for files")
        password = urlsplit(self.url).password if "://" in self.url else None
        if password and not password.startswith("${"):
            raise ValueError("the url holds a password: write ${NAME} and set NAME, so that the "
                             "file can be shared")  # fmt: skip
        if self.path:
            self._check_format()
        return self

    def _check_format(self) -> None:
        try:
            _ = self.file_format
        except (KeyError, IndexError):
            raise ValueError(
                f"the ending of {self.path!r} tells no format: add format = "
                f"{', '.join(sorted(set(_FORMATS.values())))}"
            ) from None


class TableMapping(_Strict):
    """How one table of the contract is made."""

    sql: str = Field(min_length=1, description="one SELECT (DuckDB) with the contract's columns")
    assumptions: list[str] = []


class Specification(_Strict):
    """Content of a source file."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]*$", description="lower case, for example my-shop")
    title: str = ""
    country: str = Field(
        default="",
        pattern="^([A-Z]{2})?$",
        description="two-letter ISO 3166 code of the shop's country, for its public holidays",
    )
    data: str = Field(default="", description="folder or bucket prefix of the files")
    assumptions: list[str] = []
    inputs: dict[str, Input] = Field(min_length=1)
    tables: dict[str, TableMapping] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for table in self.tables:
            if table not in TABLES:
                raise ValueError(f"there is no table {table!r}{_meant(table, list(TABLES))}")
        for name in self.inputs:
            if not name.isidentifier() or not name.islower():
                raise ValueError(f"input {name!r} must be a name of small letters, digits and _")
        return self


@dataclass(frozen=True)
class Source:
    """A source file that was read.

    Attributes
    ----------
    specification : its content.
    text : the file as written.
    base : folder or bucket prefix that relative paths start from.
    """

    specification: Specification
    text: str
    base: str

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def name(self) -> str:
        return self.specification.name

    def input(self, name: str) -> Input:
        return self.specification.inputs[name]


def load_source(name_or_path: str, data: str = "") -> Source:
    """Read a source file.

    Parameters
    ----------
    name_or_path : name of a shipped source, or path of a TOML file.
    data : folder or bucket prefix of the files; replaces what the source file says.

    Raises
    ------
    ConfigError
        There is no such file, it is no TOML, or it says something that is not understood.
    """
    path = _locate(name_or_path)
    text = path.read_text(encoding="utf-8")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path.name} is no TOML: {error}", "Correct this line; SQL goes between ''' and '''"
        ) from error
    try:
        specification = Specification.model_validate(content)
    except ValidationError as error:
        raise ConfigError(
            f"{path.name}: {_told(error)}", "See docs/guide/your-data.md for what a source says"
        ) from error
    return Source(specification, text, _base(path, specification.data, data))


def require_tables(source: Source) -> None:
    """Raise `ConfigError` where the source maps no table that every shop needs."""
    names = [
        table.name
        for table in TABLES.values()
        if table.required and table.name not in source.specification.tables
    ]
    if names:
        raise ConfigError(
            f"The source {source.name} maps no {' and no '.join(names)}",
            f"Add [tables.{names[0]}] with its SELECT: every shop needs order_lines and products",
        )


def _locate(name_or_path: str) -> Path:
    shipped = sorted(path.stem for path in SHIPPED.glob("*.toml"))
    if not name_or_path:
        raise ConfigError(
            "No source is named", f"Give --source: {', '.join(shipped)}, or a TOML file"
        )
    if name_or_path in shipped:
        return SHIPPED / f"{name_or_path}.toml"
    path = Path(name_or_path)
    if path.is_file():
        return path
    raise ConfigError(
        f"There is no source {name_or_path!r}{_meant(name_or_path, shipped)}",
        f"Shipped are {', '.join(shipped)}; anything else is taken as the path of a TOML file",
    )


def _base(path: Path, declared: str, given: str) -> str:
    # What a command line says is relative to where it was typed, what a file says to the file.
    if given:
        return given if given.startswith("s3://") else str(Path(given).absolute())
    if declared.startswith("s3://"):
        return declared
    return str((path.parent / declared).absolute())


def _told(error: ValidationError) -> str:
    return "; ".join(f"{_place(each['loc'])}{_message(each)}" for each in error.errors())


def _place(location: tuple[int | str, ...]) -> str:
    return f"[{'.'.join(map(str, location))}] " if location else ""


def _message(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "is not known here"
    if error["type"] == "missing":
        return "is missing"
    return str(error["msg"]).removeprefix("Value error, ")


def _meant(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
