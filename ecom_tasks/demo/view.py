"""Show a run of the whole path: live in a terminal, as plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ecom_tasks.demo.following import DAGS, Progress, Task, log_lines, look, made_by
from ecom_tasks.errors import RetryableError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ecom_tasks.services.api import AirflowApi

_POLL_S = 1.0
_SILENCE_S = 60.0
_LOG_LINES = 12
_OUR_LOGGERS = ("ecom",)


class View:
    """Tells of each task when it begins and ends, and follows until all is over."""

    def __init__(
        self, console: Console, api: AirflowApi, run_id: str, memory: Callable[[], int]
    ) -> None:
        self._console = console
        self._api = api
        self._run_id = run_id
        self._memory = memory
        self._told: dict[tuple[str, str], tuple[str | None, int]] = {}
        self._missed: set[str] = set()
        self._began = time.monotonic()
        self._calm_since = self._began

    def follow(self, alive: Callable[[], list[str]]) -> Progress:
        """Return when every run is over.

        Parameters
        ----------
        alive : returns workers that have ended while others of their kind go on; raises when a
            service has ended, so that nobody waits for ever.

        Raises
        ------
        RetryableError
            Airflow stopped answering, or a DAG was not set off.
        """
        from rich.live import Live

        progress = Progress({}, [])
        live = Live(console=self._console, refresh_per_second=4, transient=True,
                    get_renderable=lambda: self._at_work(progress))  # fmt: skip
        with live:
            while not progress.runs or progress.unfinished():
                self._miss(alive())
                progress = self._look(progress)
                for task in progress.tasks:
                    self._tell(task)
                time.sleep(_POLL_S)
        return progress

    def _miss(self, workers: list[str]) -> None:
        for name in sorted({*workers} - self._missed):
            self._console.print(f"[yellow]{name} has ended: another one does its work[/]")
        self._missed |= {*workers}

    def _look(self, last: Progress) -> Progress:
        """Ask once; a question that fails is forgiven unless it goes on for a minute."""
        reason = "Airflow stopped answering"
        try:
            progress = look(self._api, self._run_id, last)
            if missing := progress.awaited():
                reason = f"{', '.join(missing)} was not set off"
            else:
                self._calm_since = time.monotonic()
        except RetryableError as error:
            progress, reason = last, error.reason
        if time.monotonic() - self._calm_since > _SILENCE_S:
            raise RetryableError(f"{reason} for {_SILENCE_S:.0f} s", "See the scheduler's log")
        return progress

    def _tell(self, task: Task) -> None:
        """Print one line when a task has begun (without a terminal), ended or failed."""
        key, now = (task.dag, task.name), (task.state, task.attempt)
        if self._told.get(key) == now:
            return
        self._told[key] = now
        match task.state:
            case "running" if not self._console.is_terminal:
                self._line(task, "begins", "")
            case "success":
                self._line(task, "done", self._made(task), "green")
            case "failed":
                self._line(task, "failed", "", "red")
            case "up_for_retry":
                why = last_error(log_lines(self._api, task))
                self._line(task, "again", f"attempt {task.attempt} failed: {why}", "yellow")
            case "upstream_failed":
                self._line(task, "skipped", "what it needs has failed", "red")

    def _line(self, task: Task, what: str, text: str, style: str = "default") -> None:
        from rich.markup import escape

        self._console.print(
            f"[dim]{self._clock():>6}[/]  {task.dag:<14} {task.name:<26} "
            f"[{style}]{what:<7}[/] {task.seconds:6.1f} s  {escape(text)}",
            soft_wrap=True,
        )

    def _made(self, task: Task) -> str:
        """Say what came out of a task: name, version and rows, or that it was found finished."""
        from ecom_tasks.artefacts import dataset

        if not task.of_flow:
            return ""
        ref = made_by(self._api, task)
        made = dataset.manifest(ref)
        # A table that is kept by customer and by product counts its rows once.
        rows = (
            made.headline.rows if made.headline else made.metrics.get("rows_published", made.rows)
        )
        text = f"{made.name} {made.version}" + (f", {rows:,} rows" if rows else "")
        return text if made.provenance.run_id == task.run_id else f"{text} (unchanged)"

    def _at_work(self, progress: Progress) -> RenderableType:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        running = [task for task in progress.tasks if task.state == "running"]
        lines: list[RenderableType] = [
            Spinner("dots", Text(f"{task.dag:<14} {task.name:<26} {task.seconds:6.0f} s"))
            for task in running
        ]
        states = [progress.runs[dag].state if dag in progress.runs else "waits" for dag in DAGS]
        summary = "   ".join(f"{dag} {state}" for dag, state in zip(DAGS, states, strict=True))
        footer = f"{self._clock()}   {summary}   {self._memory() / 2**30:.1f} GiB"
        return Group(*lines, Text(footer, style="dim"))

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        return f"{minutes}:{seconds:02}"

    def explain(self, progress: Progress) -> None:
        """Print the end of the log of every task that failed."""
        from rich.markup import escape
        from rich.panel import Panel

        for task in progress.tasks:
            if task.state != "failed":
                continue
            records = log_lines(self._api, task)
            ours = [r for r in records if str(r.get("logger", "")).startswith(_OUR_LOGGERS)]
            lines = [f"{r.get('level', '')!s:<8} {r.get('event', '')}" for r in ours[-_LOG_LINES:]]
            lines += ["", last_error(records)]
            title = f"{task.dag}.{task.name} failed"
            self._console.print(Panel(escape("\n".join(lines).strip()), title=title, style="red"))


def last_error(records: list[dict[str, Any]]) -> str:
    """The error with which a task ended, as its log tells it: class, reason, hint, examples."""
    for record in reversed(records):
        for detail in record.get("error_detail") or []:
            return f"{detail.get('exc_type')}: {detail.get('exc_value')}"
    return "its log names no error"
