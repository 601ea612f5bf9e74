"""What the share of orchestration is made of, on tasks whose times are known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.orchestration import Spent, length, spent, summary

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> float:
    return BEGAN.timestamp() + seconds


def record(seconds: float, event: str) -> dict[str, str]:
    return {"timestamp": (BEGAN + timedelta(seconds=seconds)).isoformat(), "event": event}


def test_a_log_tells_when_something_was_made() -> None:
    found = spent("features.build", (at(0), at(20)), [
        record(1, "features.build as of 2026-01-01"),
        record(9, "made features/a v1: 10 rows in 2 files, 5.00 s, 1.50 s of them to store it"),
        record(17, "made features/b v1: 3 rows in 1 files, 4.00 s, 0.50 s of them to store it"),
        record(19, "Ended with exit code 0 after 17.0 s; its largest process held 100 MiB"),
    ])  # fmt: skip
    # Each interval ends where storing begins.
    assert found.computed == ((at(9 - 5), at(9 - 1.5)), (at(17 - 4), at(17 - 0.5)))
    assert found.stored == pytest.approx(1.5 + 0.5)
    assert found.airflow == pytest.approx(20 - 17)
    assert found.start_up == pytest.approx(17 - (5 + 4))


def test_what_was_found_finished_computed_nothing() -> None:
    found = spent("features.build", (at(0), at(4)), [
        record(2, "unchanged: features/a v1 was found finished"),
        record(3, "Ended with exit code 0 after 3.0 s; its largest process held 9 MiB"),
    ])  # fmt: skip
    assert found.computed == ()
    assert found.start_up == pytest.approx(3)


@pytest.mark.parametrize(
    ("intervals", "seconds"),
    [([], 0), ([(0, 2), (5, 6)], 2 + 1), ([(0, 4), (2, 5)], 5), ([(0, 9), (1, 2)], 9),
     ([(3, 4), (0, 3)], 4)],
)  # fmt: skip
def test_moments_count_once(intervals: list[tuple[float, float]], seconds: float) -> None:
    assert length(intervals) == seconds


def test_share_is_of_the_wall_time_in_which_nothing_computed() -> None:
    side_by_side = [
        Spent("a.x", (at(0), at(10)), 9, ((at(2), at(8)),), 1),
        Spent("b.y", (at(5), at(20)), 12, ((at(6), at(16)),), 1),
    ]
    found = summary(side_by_side)
    assert found["something was computed"] == pytest.approx(16 - 2)
    assert found["share of wall time outside computing"] == pytest.approx(1 - 14 / 20)
    assert found["all tasks together"] == pytest.approx(10 + 15)
    parts = [value for name, value in found.items() if name.startswith("  ")]
    assert sum(parts) == pytest.approx(10 + 15)
    longer = summary(side_by_side, wall=50)
    assert longer["share of wall time outside computing"] == pytest.approx(1 - 14 / 50)
