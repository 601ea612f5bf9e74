"""What was launched from a folder, as `services.json` remembers it; and who may change that."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ecom_tasks.errors import ConfigError, RetryableError
from ecom_tasks.services.processes import Service


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let only one command at a time start or stop the services of this folder."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RetryableError(
                f"Another command is starting or stopping the services of {folder}",
                "Wait until it has finished",
            ) from error
        yield


@dataclass(frozen=True)
class State:
    """What `services.json` remembers.

    Attributes
    ----------
    root : where the flows of the running services read and write; empty: never said
    cluster : whether the folder holds a cluster's services, not those of one machine
    """

    ports: dict[str, int]
    services: list[Service]
    root: str = ""
    cluster: bool = False

    def named(self, *names: str) -> list[Service]:
        return [service for service in self.services if service.name in names]


def read_state(folder: Path) -> State:
    """Read what was launched; an empty state where nothing ever was."""
    file = folder / "services.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        services = [Service(**fields) for fields in content["services"]]
        return State(
            content["ports"], services, content.get("root", ""), content.get("cluster", False)
        )
    except FileNotFoundError:
        return State({}, [])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{file} is mangled: {error}",
            "End the services by hand (`ps -ef | grep -e weed -e airflow`), then delete the file",
        ) from error


def write_state(folder: Path, state: State) -> None:
    write_private(folder / "services.json", json.dumps(asdict(state), indent=2) + "\n")


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner may read, all at once."""
    partial = file.with_name(f".{file.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as output:
        output.write(text)
    partial.replace(file)
