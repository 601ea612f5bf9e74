"""Whether docker/compose.yaml is what the Compose specification allows, its variables filled in."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from compose_spec import PyCompose

COMPOSE = Path(__file__).resolve().parents[1] / "docker" / "compose.yaml"
# ${NAME:-default} or ${NAME:?}; a doubled dollar is one for the shell in the container.
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?::-(?P<default>[^}]*)|:\?)\}")


def filled(value: Any, variables: Mapping[str, str]) -> Any:
    """Put variables and defaults in as `docker compose` does; one that must be set: `demanded`."""
    if isinstance(value, dict):
        return {name: filled(each, variables) for name, each in value.items()}
    if isinstance(value, list):
        return [filled(each, variables) for each in value]
    if not isinstance(value, str):
        return value
    text = VARIABLE.sub(
        lambda found: variables.get(
            found["name"], "demanded" if found["default"] is None else found["default"]
        ),
        value,
    )
    return int(text) if text != value and text.isdecimal() else text


def composed(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read the file, its anchors and variables resolved."""
    content = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return {
        name: filled(part, variables or {})
        for name, part in content.items()
        if not name.startswith("x-")
    }


def main() -> int:
    """Print what is wrong; return 1 when anything is."""
    try:
        PyCompose.from_yaml(yaml.safe_dump(composed())).validate()
    except ValueError as error:
        sys.stdout.write(f"{COMPOSE.name}: {error}\n")
        return 1
    sys.stdout.write(f"{COMPOSE.name}: valid\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
