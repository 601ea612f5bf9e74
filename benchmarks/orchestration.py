"""How much of the demonstration's wall time nothing was computed in.

After `make demo`, while its Airflow still runs: `python -m benchmarks.orchestration`.

Of each task Airflow knows when it began and ended; the log of its step tells how long the
interpreter lived, and when and for how long something was made and stored. Reading from the store,
importing a library for what is made, and parts that Dask workers store themselves count as
computing: they cannot be told apart from outside.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchmarks.measure import machine
from ecom_tasks import services
from ecom_tasks.demo import following
from ecom_tasks.services import credentials, orchestrator, state
from ecom_tasks.services.api import AirflowApi

Interval = tuple[float, float]
"""Two moments in seconds since 1970."""
_MADE = re.compile(r"^made (\S+) .*, ([\d.]+) s, ([\d.]+) s of them to store it$")
_ENDED = re.compile(r"^Ended with exit code 0 after ([\d.]+) s")


@dataclass(frozen=True)
class Spent:
    """Where the time of one task went.

    Attributes
    ----------
    name : domain and task.
    whole : from when Airflow began the task to when it ended it.
    step : seconds that its interpreter lived.
    computed : when something was made, without storing it.
    stored : seconds to store it.
    """

    name: str
    whole: Interval
    step: float
    computed: tuple[Interval, ...]
    stored: float

    @property
    def airflow(self) -> float:
        """Seconds before and after the interpreter."""
        return self.whole[1] - self.whole[0] - self.step

    @property
    def start_up(self) -> float:
        """Seconds of the interpreter in which nothing was made."""
        return self.step - length(self.computed) - self.stored


def spent(name: str, whole: Interval, records: Iterable[dict[str, Any]]) -> Spent:
    """Read a task's log.

    Parameters
    ----------
    records : lines with `event` and `timestamp`, as Airflow's API gives them.
    """
    step, stored, computed = 0.0, 0.0, []
    for record in records:
        event = str(record.get("event", ""))
        if made := _MADE.match(event):
            at = datetime.fromisoformat(str(record["timestamp"])).timestamp()
            seconds, storing = float(made[2]), float(made[3])
            computed.append((at - seconds, at - storing))
            stored += storing
        elif ended := _ENDED.match(event):
            step = float(ended[1])
    return Spent(name, whole, step, tuple(computed), stored)


def length(intervals: Iterable[Interval]) -> float:
    """Seconds that at least one of the intervals covers."""
    covered, until = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        covered += max(0.0, end - max(begin, until))
        until = max(until, end)
    return covered


def summary(tasks: Sequence[Spent], wall: float = 0.0) -> dict[str, float]:
    """Add up seconds and shares.

    Parameters
    ----------
    wall : seconds of the whole demonstration, its start and end included; 0: from the first task's
        beginning to the last one's end.
    """
    ran = max(each.whole[1] for each in tasks) - min(each.whole[0] for each in tasks)
    wall = wall or ran
    computing = length(interval for each in tasks for interval in each.computed)
    of_tasks = sum(each.whole[1] - each.whole[0] for each in tasks)
    return {
        "wall": wall,
        "tasks from first to last": ran,
        "something was computed": computing,
        "share of wall time outside computing": 1 - computing / wall,
        "all tasks together": of_tasks,
        "  Airflow around their interpreters": sum(each.airflow for each in tasks),
        "  start-up of their interpreters": sum(each.start_up for each in tasks),
        "  storing": sum(each.stored for each in tasks),
        "  computing": sum(length(each.computed) for each in tasks),
    }


def newest(api: AirflowApi) -> str:
    """Name of the demonstration's newest run."""
    runs = api.get("dags/ingestion/dagRuns", order_by="-run_after", limit=100)["dag_runs"]
    for run in runs:
        if str(run["dag_run_id"]).startswith("demo__"):
            return str(run["dag_run_id"])
    raise SystemExit("No demonstration has run here: make demo")


def measured(api: AirflowApi, run_id: str) -> list[Spent]:
    """Look at every task of the demonstration that ran a step to its end."""
    found = []
    for task in following.look(api, run_id).tasks:
        if task.of_flow and task.state == "success" and task.began and task.ended:
            whole = (task.began.timestamp(), task.ended.timestamp())
            records = following.log_lines(api, task)
            found.append(spent(f"{task.dag}.{task.name}", whole, records))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="", help="run of ingestion; the newest demonstration's")
    parser.add_argument(
        "--wall", type=float, default=0.0, help="seconds that `make demo` said it took in all"
    )
    given = parser.parse_args(arguments)
    home = services.home_folder()
    known = state.read_state(home)
    if "airflow" not in known.ports:
        raise SystemExit(f"No Airflow was started from {home}: make demo")
    url, keys = f"http://127.0.0.1:{known.ports['airflow']}", credentials.load(home)
    api = AirflowApi(url, orchestrator.USER, keys.airflow_password)
    run_id = given.run or newest(api)
    tasks = measured(api, run_id)
    if not tasks:
        raise SystemExit(f"No step of {run_id} has ended well")
    print(f"{run_id}, {len(tasks)} tasks, {machine()}")
    for each in sorted(tasks, key=lambda each: each.whole):
        print(
            f"  {each.name:<44} {each.whole[1] - each.whole[0]:7.1f} s"
            f"  Airflow {each.airflow:5.1f}  start-up {each.start_up:5.1f}"
            f"  storing {each.stored:5.1f}  computing {length(each.computed):6.1f}"
        )
    for name, value in summary(tasks, given.wall).items():
        print(f"{name:<40} {value:8.1%}" if "share" in name else f"{name:<40} {value:8.1f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
