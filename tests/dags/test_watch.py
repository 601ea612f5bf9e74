"""Files that arrive start a run, once they stand still."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import AssetOrTimeSchedule, CronDataIntervalTimetable
from ecom_watch import SourceTrigger, when_due_or_delivered

from ecom_tasks.errors import ConfigError

SECONDS = 0.05
SOURCE = """
name = "shop"

[inputs.lines]
path = "lines-*.csv"

[tables.order_lines]
sql = "SELECT * FROM lines"
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "shop.toml").write_text(SOURCE, encoding="utf-8")
    return tmp_path / "shop.toml"


async def payload(events: AsyncIterator[Any], within: float = 5.0) -> dict[str, Any]:
    event = await asyncio.wait_for(anext(events), within)
    told: dict[str, Any] = event.payload
    return told


def test_each_delivery_is_told_once_it_stands_still(source: Path) -> None:
    async def follow() -> None:
        events = SourceTrigger(str(source), "", SECONDS).run()
        first = source.parent / "lines-1.csv"
        first.write_text("a\n")
        told = await payload(events)
        assert told["changed"] == ["lines: lines-1.csv"]
        assert told["source"] == str(source)
        yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
        assert told["as_of"] == yesterday
        # A file that grows from look to look is waited for.
        waiting = asyncio.create_task(payload(events))
        second = source.parent / "lines-2.csv"
        for size in range(1, 11):
            second.write_text("b\n" * size)
            await asyncio.sleep(SECONDS / 2)
            assert not waiting.done()
        assert (await waiting)["changed"] == ["lines: lines-2.csv"]
        first.unlink()
        assert (await payload(events))["changed"] == ["lines: lines-1.csv"]
        with pytest.raises(TimeoutError):
            await payload(events, within=SECONDS * 6)

    asyncio.run(follow())


def test_a_source_that_cannot_be_looked_at_is_looked_for_again(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def follow() -> None:
        events = SourceTrigger(str(source), "", SECONDS).run()
        (source.parent / "lines-1.csv").write_text("a\n")
        away = source.rename(source.with_suffix(".away"))
        waiting = asyncio.create_task(payload(events))
        deadline = time.monotonic() + 5
        while "cannot be looked at" not in caplog.text and time.monotonic() < deadline:
            await asyncio.sleep(SECONDS)
        assert not waiting.done()
        away.rename(source)
        assert (await waiting)["changed_files"] == 1

    asyncio.run(follow())
    assert "cannot be looked at" in caplog.text


def test_schedule_is_what_the_settings_ask_for(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ECOM_SCHEDULE", "ECOM_WATCH_SECONDS"):
        monkeypatch.delenv(name, raising=False)
    assert when_due_or_delivered(str(source), "") is None
    monkeypatch.setenv("ECOM_SCHEDULE", "0 3 * * *")
    assert isinstance(when_due_or_delivered(str(source), ""), CronDataIntervalTimetable)
    monkeypatch.setenv("ECOM_WATCH_SECONDS", "60")
    assert isinstance(when_due_or_delivered(str(source), ""), AssetOrTimeSchedule)
    monkeypatch.delenv("ECOM_SCHEDULE")
    (asset,) = when_due_or_delivered(str(source), "")
    kind, given = asset.watchers[0].trigger.serialize()
    assert kind == "ecom_watch.SourceTrigger"
    assert SourceTrigger(**given).serialize() == (kind, given)
    monkeypatch.setenv("ECOM_WATCH_SECONDS", "often")
    with pytest.raises(ConfigError, match="'often'"):
        when_due_or_delivered(str(source), "")
