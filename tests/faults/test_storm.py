"""The short form of the storm; `make faults` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.storm import Weather, storm

SHORT = Weather(
    publishes=36, reads=120, publishers=4, readers=2, rate=0.03, stall_s=4.0, timeout_s=3.0,
    publisher_kills=2, server_kills=1,
)  # fmt: skip


@pytest.mark.usefixtures("bucket")
def test_a_storm_loses_nothing_and_shows_no_mixture(home: Path, tmp_path: Path) -> None:
    figures = storm(SHORT, home, tmp_path)
    said = "\n".join(figures.lines())
    assert figures.sound, said
    assert figures.acknowledged == figures.attempted == SHORT.publishes, said
    assert figures.reads >= SHORT.reads
    assert figures.versions_seen > SHORT.readers
    assert figures.faults.total() > 10, said
    assert figures.faults["server_killed"] == 1
    assert figures.faults["publisher_killed"] == 2
