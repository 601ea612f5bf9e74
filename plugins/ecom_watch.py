"""When ingestion starts by itself: by the clock, and when files of the source have arrived.

`ECOM_SCHEDULE` is a cron expression (UTC); `ECOM_WATCH_SECONDS` is how often the triggerer looks at
the source's files. Waiting takes no worker: a watcher of Airflow's looks, and its event starts a
run.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, AssetOrTimeSchedule, AssetWatcher, CronDataIntervalTimetable
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from ecom_tasks.errors import ConfigError, EcomError

log = logging.getLogger(__name__)
_NAMES_TOLD = 10


def when_due_or_delivered(source: str, data: str) -> Any:
    """Return the schedule that the settings ask for; None where they ask for none.

    The run of a day starts after that day's end; a run of a week is about its last day.
    """
    cron = os.environ.get("ECOM_SCHEDULE")
    clock = CronDataIntervalTimetable(cron, timezone="UTC") if cron else None
    seconds = _seconds()
    if seconds is None:
        return clock
    trigger = SourceTrigger(source=source, data=data, seconds=seconds)
    delivered = Asset(
        name="source", uri="ecom://source", group="ecom",
        watchers=[AssetWatcher(name="files_of_the_source", trigger=trigger)],
    )  # fmt: skip
    return AssetOrTimeSchedule(timetable=clock, assets=[delivered]) if clock else [delivered]


def _seconds() -> float | None:
    text = os.environ.get("ECOM_WATCH_SECONDS", "")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise ConfigError(f"ECOM_WATCH_SECONDS is {text!r}", "Give seconds above 0, say 60")
    return seconds


class SourceTrigger(BaseEventTrigger):
    """Fires when a source's files have changed and then stood still from one look to the next.

    It also fires when it begins to look, since it cannot know what came while nobody looked; a run
    that finds everything as it was ends at once. What a query would answer cannot be seen from
    outside: sources of databases need a clock.
    """

    def __init__(self, source: str, data: str, seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.source, self.data, self.seconds = source, data, seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "ecom_watch.SourceTrigger",
            {"source": self.source, "data": self.data, "seconds": self.seconds},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from ecom_tasks.ingestion.watch import Glance, changed, glance

        told: Glance = {}
        before: Glance = {}
        while True:
            try:
                now = await asyncio.to_thread(glance, self.source, self.data)
            except EcomError as error:
                # A share that is away for a while is looked for again.
                log.warning("The source cannot be looked at: %s", error)
                now = told
            if now == before and now != told:
                names = changed(told, now)
                told = now
                yield TriggerEvent(self._payload(names))  # type: ignore[no-untyped-call]
            before = now
            await asyncio.sleep(self.seconds)

    def _payload(self, names: list[str]) -> dict[str, Any]:
        # About the last complete day, as a run by the clock would be.
        day = (datetime.now(UTC) - timedelta(days=1)).date()
        return {
            "as_of": day.isoformat(),
            "source": self.source,
            "source_data": self.data,
            "changed": names[:_NAMES_TOLD],
            "changed_files": len(names),
        }
