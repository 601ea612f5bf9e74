"""The expectation suites: one JSON file a table in `expectations/`, in Great Expectations' form.

Three things come on top of that form. A text may contain `$name`, a parameter (the run's day, a
threshold of the settings). SQL may be a list of lines. `meta` says what the expectation is about:
`aspect`, `expected` in words, `column`, and `rows`, a condition that selects the rows at fault.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from ecom_tasks.errors import ConfigError
from ecom_tasks.ingestion.config import IngestionConfig
from ecom_tasks.tables import TABLES

SHIPPED = Path(__file__).resolve().parent.parent.parent / "expectations"
SEVERITIES = ("warning", "critical")
_PARAMETER = re.compile(r"\$([a-z_]+)")
Suite = list[dict[str, Any]]


def parameters(config: IngestionConfig, as_of: date) -> dict[str, Any]:
    """Return what `$name` in a suite stands for: every setting of ingestion, and days."""
    return config.model_dump() | {
        "as_of": as_of.isoformat(),
        "freshest_warning": (as_of - timedelta(days=config.stale_days_warning)).isoformat(),
        "freshest_critical": (as_of - timedelta(days=config.stale_days_critical)).isoformat(),
        "last_quarter": (as_of - timedelta(days=91)).isoformat(),
    }


def load_suites(values: Mapping[str, Any], further: str = "") -> dict[str, Suite]:
    """Read the suite of every table, parameters filled in.

    Parameters
    ----------
    values : what `$name` stands for.
    further : folder with suites of the shop's own, which add to those shipped.

    Raises
    ------
    ConfigError
        A table has no suite, or a suite is not understood.
    """
    loaded = {name: _read(SHIPPED / f"{name}.json", values) for name in TABLES}
    for path in _further_files(further):
        loaded[path.stem] = loaded[path.stem] + _read(path, values)
    return loaded


def fingerprint(further: str = "") -> str:
    """SHA-256 over all suite files."""
    digest = hashlib.sha256()
    for path in [*(SHIPPED / f"{name}.json" for name in TABLES), *_further_files(further)]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _further_files(folder: str) -> list[Path]:
    if not folder:
        return []
    files = sorted(Path(folder).glob("*.json"))
    for path in files:
        if path.stem not in TABLES:
            raise ConfigError(
                f"The suite {path} is named after no table", f"Tables are {', '.join(TABLES)}"
            )
    if not files:
        raise ConfigError(
            f"ingestion.further_expectations={folder!r} holds no suite",
            "Put files named after tables there (order_lines.json), or leave the setting empty",
        )
    return files


def _read(path: Path, values: Mapping[str, Any]) -> Suite:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [_expectation(each, values, path) for each in content["expectations"]]
    except FileNotFoundError as error:
        raise ConfigError(
            f"There is no expectation suite for {path.stem}: {path} is missing",
            'Write one, if only {"name": "' + path.stem + '", "expectations": []}',
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"The suite {path} is not understood: {error!r}",
            "Each expectation needs type, kwargs and severity; see the other suites",
        ) from error


def _expectation(raw: dict[str, Any], values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    if raw["severity"] not in SEVERITIES:
        raise ValueError(f"severity {raw['severity']!r} is none of {', '.join(SEVERITIES)}")
    kwargs, meta = dict(raw["kwargs"]), dict(raw.get("meta", {}))
    query = kwargs.get("unexpected_rows_query")
    if isinstance(query, list):
        kwargs["unexpected_rows_query"] = "\n".join(query)
    return {
        "type": raw["type"],
        "kwargs": {name: _filled(value, values, path) for name, value in kwargs.items()},
        "severity": raw["severity"],
        "meta": {name: _filled(value, values, path) for name, value in meta.items()},
    }


def _filled(value: Any, values: Mapping[str, Any], path: Path) -> Any:
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        return _told(_known(match[1], values, path))

    if whole := _PARAMETER.fullmatch(value):
        return _known(whole[1], values, path)
    return _PARAMETER.sub(replaced, value)


def _told(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _known(name: str, values: Mapping[str, Any], path: Path) -> Any:
    if name not in values:
        raise ConfigError(
            f"The suite {path} uses ${name}, which is no parameter",
            f"Parameters are {', '.join(sorted(values))}",
        )
    return values[name]
