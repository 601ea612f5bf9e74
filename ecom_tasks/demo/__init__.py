"""`make demo`: a source through Airflow, and what it publishes pulled back and verified."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecom_tasks import services
from ecom_tasks.demo import following
from ecom_tasks.demo.meter import Meter, measured
from ecom_tasks.demo.quick import QUICK
from ecom_tasks.demo.view import View
from ecom_tasks.domains import PUBLISHING, RELEASING
from ecom_tasks.errors import ConfigError, EcomError, RetryableError
from ecom_tasks.run import Ref

if TYPE_CHECKING:
    from rich.console import Console

    from ecom_tasks.artefacts.manifest import Manifest
    from ecom_tasks.artefacts.pull import Pulled

SIMULATED = "sample-store"
LAST_DAYS = {"complete-journey": date(2017, 12, 24), "online-retail": date(2011, 12, 9),
             SIMULATED: date(2025, 6, 29)}  # fmt: skip
"""The last day that the shipped sources know; anything else is read up to yesterday."""
# A shop of about a million order lines in a year and a half.
_SIMULATED_SCALE = {"products": 200, "stores": 10, "weeks": 78, "customers": 2000}
_PARSED_WITHIN_S = 60.0


@dataclass(frozen=True)
class Brought:
    """A release of this run, pulled back."""

    manifest: Manifest
    pulled: Pulled
    in_service: bool


def main(source: str, data: str = "", as_of: date | None = None, *, cluster: bool = False) -> int:
    """Run the whole path; return 0 only if all releases were published and pulled back verified.

    Parameters
    ----------
    source : name of a shipped source, or path of a source file.
    data : folder or bucket prefix of its files, where the source leaves that open.
    as_of : last day to know about; by default the last that the source has.
    cluster : through the services of a cluster, see `services.start`.
    """
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to end, end as for Ctrl-C
    day = as_of or LAST_DAYS.get(source) or datetime.now(UTC).date() - timedelta(days=1)
    began = time.monotonic()
    running = None
    try:
        running = services.start(say=console.print, shop=Path(source).stem, cluster=cluster)
        if source == SIMULATED and not data:
            data = _simulated(console, running.home)
        with measured(running.home) as meter:
            done = _run(console, running, meter, _form(source, data, day))
    except KeyboardInterrupt:
        _abandon(console, running)
        running = None
        return 130
    finally:
        if running:
            console.print(
                f"\nAirflow {running.airflow_url}  user {running.airflow_user}  "
                f"password {running.airflow_password}  (`make stop` ends it)"
            )
    console.print(
        f"{time.monotonic() - began:.0f} s; at most {meter.peak / 2**30:.1f} GiB of memory: "
        "services, steps and this command together"
    )
    return 0 if done else 1


def _simulated(console: Console, home: Path) -> str:
    """Write the simulated shop, once; return its folder."""
    from ecom_tasks.sample_store import tables, world

    folder = home / SIMULATED
    if not folder.exists():
        console.print(f"Writing a simulated shop to {folder}")
        unfinished = home / f"{SIMULATED}.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        tables.write(world.create(world.Scale(**_SIMULATED_SCALE)), unfinished)
        unfinished.rename(folder)
    return str(folder)


def _form(source: str, data: str, day: date) -> dict[str, Any]:
    """What ingestion's form asks for; Airflow works elsewhere, so paths are made absolute."""
    shipped = source in LAST_DAYS or not Path(source).is_file()
    return {
        "as_of": day.isoformat(),
        "source": source if shipped else str(Path(source).resolve()),
        "source_data": str(Path(data).resolve()) if data and Path(data).exists() else data,
        "overrides": QUICK,
    }


def _run(console: Console, running: services.Services, meter: Meter, form: dict[str, Any]) -> bool:
    api = running.api()
    # From here on this process is a consumer: it can read the store, and no more.
    os.environ.update(services.environment(running.home, "consumer"))
    wait_for_dags(running)
    if running.fresh:
        # Runs of an Airflow that was stopped meanwhile would only stand in the way.
        following.give_up(api)
    run_id = f"demo__{form['as_of']}__{datetime.now(UTC):%Y%m%dT%H%M%S}"
    following.trigger(api, run_id, form)
    console.print(
        f"Ingestion, features and three models for [bold]{form['source']}[/] as of "
        f"{form['as_of']}, through Airflow on {running.airflow_url}. Nobody is asked to approve "
        "large price moves here: the demonstration sets gate.approve_price_move to null"
    )
    view = View(console, api, run_id, lambda: meter.now)
    progress = view.follow(lambda: _alive(running))
    view.explain(progress)
    brought = _bring(console, running, progress)
    _show(console, running, brought)
    return not progress.failed() and len(brought) == len(RELEASING)


def wait_for_dags(running: services.Services) -> None:
    """Wait until Airflow has read the DAG files, then let the DAGs run."""
    api, deadline = running.api(), time.monotonic() + _PARSED_WITHIN_S
    while True:
        broken = api.get("importErrors")["import_errors"]
        if broken:
            last = str(broken[0]["stack_trace"]).strip().splitlines()[-1]
            raise ConfigError(f"Airflow cannot read {broken[0]['filename']}: {last}", "Correct it")
        known = {dag["dag_id"] for dag in api.get("dags", limit=100, tags=["ecom"])["dags"]}
        if known.issuperset(following.STARTED):
            break
        if time.monotonic() > deadline:
            raise RetryableError(
                f"Airflow knows no {', '.join(sorted(set(following.STARTED) - known))}",
                f"See {running.home / 'logs' / 'dag-processor.log'}",
            )
        time.sleep(0.5)
    for dag in following.STARTED:
        api.patch(f"dags/{dag}?update_mask=is_paused", {"is_paused": False})


def _alive(running: services.Services) -> list[str]:
    """Return workers that have ended; raise when a service has ended that has no like."""
    gone = services.ended(running.home)
    for service in services.needed(gone):
        raise RetryableError(f"{service.name} has ended", f"Read {service.log}, then try again")
    return [service.name for service in gone]


def _bring(
    console: Console, running: services.Services, progress: following.Progress
) -> dict[str, Brought]:
    """Pull what this run released, as a consumer would, and check every byte once more."""
    from ecom_tasks.artefacts import dataset, pull
    from ecom_tasks.artefacts.commands import translated

    brought = {}
    for domain in RELEASING:
        if domain not in progress.runs or progress.runs[domain].state != "success":
            continue
        ref = _released(running, progress, domain)
        made = dataset.manifest(ref)
        folder = running.home / "pulled" / Path(running.root).name / domain
        with translated():
            pulled = pull.pull(running.root, made.name, folder)
            in_service = pulled.version == made.version
            if not in_service:
                pulled = pull.pull(running.root, made.name, folder, version=made.version)
            pull.verify(pulled.folder)
        if not in_service:
            console.print(f"[yellow]{made.name} {made.version} is published, but a newer day is "
                          "in service[/]")  # fmt: skip
        brought[domain] = Brought(made, pulled, in_service)
    return brought


def _released(running: services.Services, progress: following.Progress, domain: str) -> Ref:
    last = next(task for task in progress.tasks if (task.dag, task.name) == (domain, PUBLISHING))
    return following.made_by(running.api(), last)


def _show(console: Console, running: services.Services, brought: dict[str, Brought]) -> None:
    from rich.table import Table

    table = Table("domain", title="Published, pulled back and verified")
    table.add_column("version", no_wrap=True)
    for column in ("headline", "plain baseline", "rows published"):
        table.add_column(column)
    for domain, each in brought.items():
        headline = each.manifest.headline
        table.add_row(
            domain,
            each.manifest.version,
            f"{headline.value:.4g} {headline.metric}" if headline else "",
            f"{headline.baseline:.4g} {headline.baseline_name}" if headline else "",
            f"{headline.rows:,} {headline.unit}" if headline else f"{each.manifest.rows:,}",
        )
    if brought:
        console.print(table)
    for each in brought.values():
        where = f"{running.root}/{each.manifest.name}/v/{each.manifest.version}"
        console.print(f"{where}  ->  {each.pulled.folder}", soft_wrap=True)


def _abandon(console: Console, running: services.Services | None) -> None:
    """After Ctrl-C: end the runs, so that they do not wait for the next start, and the services."""
    console.print("\nInterrupted: ending the runs and the services ...")
    if running:
        with suppress(EcomError):
            following.give_up(running.api())
    services.stop()
    console.print("Ended. What was finished is kept: `make demo` goes on from there")
