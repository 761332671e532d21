"""How watched jobs look: a live table in a terminal, or a line for each change."""

from collections.abc import Sequence
from typing import IO, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rotoscope.contracts.characters import visible_text
from rotoscope.contracts.money import format_usd
from rotoscope.contracts.times import timestamp
from rotoscope.jobs.progress import estimate_progress
from rotoscope.store.leases import idle_since
from rotoscope.store.records import UNPAID_STAGES, Job

__all__ = ["LineView", "TableView", "describe_cost", "job_table", "shown_state"]

_MOST_ROWS = 30
_WIDE = 140  # columns of a terminal in which whole ids have space
_SHORT_ID = 10
_STYLES = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "needs_review": "bold red"}


class TableView:
    """A table that is drawn again in its place.

    Args:
        console: the terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="visible")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, jobs: Sequence[Job], now: float) -> None:
        """Draw the table."""
        self._live.update(job_table(jobs, now, self._console.width), refresh=True)


class LineView:
    """A line for each change of a job: for files and pipes.

    Args:
        out: where the lines go.
    """

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._last: dict[str, tuple[object, ...]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left open."""

    def show(self, jobs: Sequence[Job], now: float) -> None:
        """Write the lines of those that have changed."""
        for job in jobs:
            is_idle = idle_since(job, now) is not None
            state = (shown_state(job), job.message, job.progress, is_idle)
            if self._last.get(job.id) == state:
                continue
            self._last[job.id] = state
            current = _current_job(job, now)
            words = f"{job.id} {job.tool} {state[0]} {current.progress:.0%} {describe_cost(job)}; {current.message}"
            self._out.write(visible_text(words).replace("\n", " ") + "\n")
            self._out.flush()


def job_table(jobs: Sequence[Job], now: float, width: int) -> Table:
    """The table of some jobs at a moment.

    Args:
        jobs: as the ledger has them.
        now: Unix seconds.
        width: of the terminal, in columns.
    """
    table = Table("job", "tool", "model", "state", "progress", "time", "cost", "message", box=SIMPLE_HEAD)
    table.columns[0].no_wrap = table.columns[3].no_wrap = table.columns[5].no_wrap = True
    hidden = len(jobs) - _MOST_ROWS
    for job in jobs[-_MOST_ROWS:]:
        current, state = _current_job(job, now), shown_state(job)
        table.add_row(
            job.id if width >= _WIDE else f"{job.id[:_SHORT_ID]}…",
            job.tool,
            Text(visible_text(job.model)),
            Text(state, style=_STYLES.get(state, "")),
            _progress_bar(current),
            _describe_time(current, now),
            describe_cost(job),
            Text(visible_text(_short_message(job, now))),
        )
    if hidden > 0:
        table.caption = f"and {hidden} older ones"
    return table


def shown_state(job: Job) -> str:
    """The state as results show it: a job whose run goes on at the provider is running, whoever follows it."""
    return "running" if job.state == "queued" and job.stage not in UNPAID_STAGES else str(job.state)


def describe_cost(job: Job) -> str:
    """What a job has cost; while that is not known, what it is likely to cost."""
    if job.sandbox:
        return "nothing (sandbox)"
    if job.charge.usd is not None:
        return format_usd(job.charge.usd)
    estimate = job.plan.estimate_usd
    return "not known" if estimate is None else f"about {format_usd(estimate)}"


def _current_job(job: Job, now: float) -> Job:
    return estimate_progress(job, now, _idle_words(job, now))


def _short_message(job: Job, now: float) -> str:
    """The message without the seconds that have passed: those have a column of their own."""
    return _idle_words(job, now) or job.message or "Waiting to begin."


def _idle_words(job: Job, now: float) -> str | None:
    since = idle_since(job, now)
    return None if since is None else f"No process drives it since {timestamp(since)}; rotoscope jobs drive does."


def _progress_bar(job: Job) -> "ProgressBar | str":
    if job.is_final:
        return ""
    return ProgressBar(total=1.0, completed=job.progress, width=14)


def _describe_time(job: Job, now: float) -> str:
    elapsed = max((job.finished_at or now) - job.created_at, 0.0)
    expected = job.plan.expected_seconds
    return f"{elapsed:.0f} s" + (f" / {expected:.0f} s" if expected and not job.is_final else "")
