"""`python -m ecom_tasks services start | stop | status | clean`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def command(action: str, *, cluster: bool = False) -> int:
    """Do what the action says and tell what was done; return the exit code.

    `status` answers 1 where something that was started does not run.
    """
    from rich.console import Console

    from ecom_tasks import services

    console = Console(highlight=False)
    match action:
        case "start":
            started = services.start(say=console.print, cluster=cluster)
            console.print(f"Object store  {started.endpoint}")
            login = f"user {started.airflow_user}, password in {started.home}/secrets.json"
            console.print(f"Airflow       {started.airflow_url}  ({login})")
        case "stop":
            _tell(console, "Ended", services.stop())
        case "clean":
            _tell(console, "Ended", services.clean())
            console.print(f"Removed the data in {services.home_folder()}")
        case _:
            return _status(console)
    return 0


def _tell(console: Console, what: str, names: list[str]) -> None:
    console.print(f"{what} {', '.join(names)}" if names else "Nothing was running")


def _status(console: Console) -> int:
    from rich.table import Table

    from ecom_tasks import services

    found = services.status()
    if not found:
        console.print(f"Nothing was started from {services.home_folder()}")
        return 0
    table = Table("service", "runs", "process", "address", "memory", "log")
    for each in found:
        table.add_row(
            each.name,
            "yes" if each.running else "no",
            str(each.pid),
            each.address,
            f"{each.memory_bytes / 2**20:,.0f} MiB",
            each.log,
        )
    console.print(table)
    return 0 if all(each.running for each in found) else 1
