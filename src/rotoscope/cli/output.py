"""What a person sees of the command line: a progress bar on stderr, tables and requests on stdout."""

import io
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal, TypeVar, cast

import anyio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rotoscope import signals
from rotoscope.cli.money import Grouping, describe_charges, group_spending, price_table, spending_csv, spending_table
from rotoscope.composition import open_studio
from rotoscope.contracts.arguments import Arguments, CancelJob, GetJob, ViewMedia
from rotoscope.contracts.characters import escape_invisible, visible_text
from rotoscope.contracts.results import JobList, JobRecord, JobResult, MediaFile, Status
from rotoscope.errors import RotoscopeError
from rotoscope.media.paths import Roots
from rotoscope.models.catalog import Access, Catalog
from rotoscope.models.descriptions import describe_route_price
from rotoscope.models.manifest import Manifest
from rotoscope.models.manifest_check import CheckReport
from rotoscope.models.model_table import list_model_rows
from rotoscope.providers.dialects import make_dialect
from rotoscope.providers.states import Call
from rotoscope.settings import Settings, user_home, working_folder
from rotoscope.store.records import Job
from rotoscope.store.reservations import DailySpend
from rotoscope.store.retention import SweepResult
from rotoscope.studio.dry_run import build_planned_request
from rotoscope.studio.preview import keep_view
from rotoscope.studio.studio import Studio

__all__ = [
    "LOCAL_PRINCIPAL",
    "SpendingView",
    "command_line_roots",
    "drive_all",
    "perform_to_end",
    "print_example",
    "print_job_table",
    "print_model_table",
    "print_prices",
    "print_spending",
    "resolve_review",
    "resume_to_end",
    "run_in_studio",
    "run_locally",
    "show_job",
    "sweep_old_jobs",
]

LOCAL_PRINCIPAL = "local"
"""The principal of the command line: whoever may run commands on this machine, as over stdio."""
_MIN_WIDTH = 110
_DAY = 86_400.0  # seconds
_COLLECTING_SECONDS = 60.0
Answer = TypeVar("Answer")
# A job of another process may have nobody who drives it: asking about it must come to an end.
_WAIT_BUDGETS: Mapping[type[Arguments], float] = {CancelJob: 30.0, GetJob: 45.0}


def command_line_roots(settings: Settings, start: Path, home: Path | None) -> Roots:
    """At the command line a person names the files, so every folder may be read; hidden ones still may not."""
    return Roots(settings.roots or (start, *([home] if home else []), Path(start.anchor)), start)


async def perform_to_end(
    settings: Settings, tool: str, arguments: Arguments, *, marks_delivered: bool = True
) -> JobResult | JobList | MediaFile:
    """Perform one tool call in this process, to its very end, with a progress bar.

    Args:
        settings: the operator's decisions.
        tool: the tool.
        arguments: what it is asked.
        marks_delivered: whether its answer tells a job's end. A person who only looks leaves that to who asked for
            the job.
    """

    async def work(studio: Studio) -> JobResult | JobList | MediaFile:
        if isinstance(arguments, ViewMedia):
            return await keep_view(studio, arguments.uri, LOCAL_PRINCIPAL)
        result = await _perform_with_bar(studio, tool, arguments)
        if marks_delivered and isinstance(result, JobResult):
            await studio.mark_delivered(result, LOCAL_PRINCIPAL)
        return result

    return await run_in_studio(settings, work)


async def show_job(settings: Settings, asked: GetJob) -> JobResult:
    """One job as a person looks at it, with the end of the model's log. Looking is no delivery."""

    async def work(studio: Studio) -> JobResult:
        await _perform_with_bar(studio, "get_job", asked)
        return await studio.result(await studio.job(asked.job_id, LOCAL_PRINCIPAL), JobRecord)

    return await run_in_studio(settings, work)


async def run_locally(settings: Settings, work: Callable[[Studio, str], Awaitable[Answer]]) -> Answer:
    """Do something on behalf of whoever runs commands here, with a studio that drives no jobs meanwhile.

    Args:
        settings: the operator's decisions.
        work: what to do, with the studio and the principal.
    """
    return await run_in_studio(settings, lambda studio: work(studio, LOCAL_PRINCIPAL), in_background=False)


async def drive_all(settings: Settings) -> frozenset[Status]:
    """Run every open job to its end that this process may drive; the states in which they ended."""
    return await run_in_studio(settings, _drive_open_jobs)


async def resume_to_end(settings: Settings, job_id: str) -> JobResult:
    """Take up a job that was paid for and ended without its result, and drive it to its end."""

    async def work(studio: Studio) -> JobResult:
        job = await studio.resume(job_id, LOCAL_PRINCIPAL)
        # A person looks; the assistant that asked gets the result when it asks again.
        return await studio.result(await studio.wait(job, float("inf"), _LineReporter().report_job))

    return await run_in_studio(settings, work)


async def resolve_review(
    settings: Settings, job_id: str, prediction_id: str | None, *, force: bool = False
) -> JobResult:
    """A person's word on a job that needs review; with a prediction's id its result is collected at once.

    What the provider keeps of that prediction is held against what the job has sent; `force` takes it all the same.
    """

    async def work(studio: Studio) -> JobResult:
        job = await studio.resolve_review(job_id, LOCAL_PRINCIPAL, prediction_id, force=force)
        # A person has seen it; the assistant that made the request still gets the end when it asks again.
        return await studio.result(await studio.wait(job, _COLLECTING_SECONDS if prediction_id else 0))

    return await run_in_studio(settings, work)


async def sweep_old_jobs(settings: Settings) -> SweepResult:
    """Remove what is old enough, now."""
    # Without the retention that a process runs by itself: what that removes would be missing from the count.
    return await run_in_studio(settings, lambda studio: studio.sweep(), in_background=False)


@dataclass(frozen=True, slots=True)
class SpendingView:
    """How what was spent is to be shown.

    Attributes:
        days: how many days back.
        form: a table for a person, JSON, or CSV.
        by: what the rows are added up by; None: a row for each day, principal, model and provider.
        refresh: whether providers are asked first what they have charged.
    """

    days: int
    form: Literal["table", "json", "csv"] = "table"
    by: Grouping | None = None
    refresh: bool = False


async def print_spending(settings: Settings, view: SpendingView) -> None:
    """Print what was spent and may still be charged, and the caps."""

    async def work(studio: Studio) -> Sequence[DailySpend]:
        for read in await studio.read_charges() if view.refresh else ():
            _print_status(describe_charges(read))
        return await studio.spending(time.time() - view.days * _DAY)

    found = group_spending(await run_in_studio(settings, work, in_background=False), view.by)
    if view.form == "json":
        print(escape_invisible(json.dumps([asdict(one) for one in found], indent=2)))
        return
    if view.form == "csv":
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(newline="")  # the lines end as CSV says, on every system
        print(spending_csv(found), end="")
        return
    _make_console().print(spending_table(found, view.by))
    for name, cap in (("call", settings.max_usd_per_call), ("day", settings.max_usd_per_day)):
        print(f"cap for one {name}: {'none' if cap is None else f'{cap:g} USD'} (ROTOSCOPE_MAX_USD_PER_{name.upper()})")


async def print_prices(settings: Settings, *, refresh: bool, as_json: bool) -> bool:
    """Print every route's price beside the published one.

    Args:
        settings: the operator's decisions.
        refresh: whether providers are asked now.
        as_json: JSON in place of a table.

    Returns:
        Whether every provider that was asked has answered.
    """
    lines, refusals = await run_in_studio(
        settings, lambda studio: studio.compare_prices(refresh=refresh), in_background=False
    )
    if as_json:
        print(escape_invisible(json.dumps([asdict(one) for one in lines], indent=2)))
    else:
        _make_console().print(price_table(lines))
    for title, why in refusals.items():
        _print_status(f"{title} did not tell its prices: {why}")
    return not refusals


async def run_in_studio(
    settings: Settings, work: Callable[[Studio], Awaitable[Answer]], *, in_background: bool = True
) -> Answer:
    """Do something with a studio of this process, then end it cleanly: what still runs is given back.

    In the background it drives jobs and removes what is old, as a server does, unless that is not wanted.
    """
    roots = command_line_roots(settings, working_folder(), user_home())
    outcome: list[Answer] = []
    refusal: RotoscopeError | None = None
    async with signals.closing_stack() as closing, anyio.create_task_group() as tasks:
        try:
            studio = open_studio(settings, roots, tasks, closing)
            if in_background:
                studio.start_background(tasks)
            outcome.append(await work(studio))
        except RotoscopeError as error:
            refusal = error  # raised inside a task group it would come out wrapped
        tasks.cancel_scope.cancel()
    if refusal is not None:
        raise refusal
    return outcome[0]


async def _drive_open_jobs(studio: Studio) -> frozenset[Status]:
    states: set[Status] = set()
    for left in await studio.open_jobs(LOCAL_PRINCIPAL):
        job = await studio.wait(left, float("inf"), _LineReporter().report_job)
        _print_status(f"job {job.id}: {job.state} {job.message}")
        states.add(job.state)
    for job, why in await studio.idle_jobs(LOCAL_PRINCIPAL):
        print(f"job {job.id}: left as it is. {why}", file=sys.stderr)
    return frozenset(states)


class _LineReporter:
    """Tells of a job in lines on stderr: one for each thing that it says."""

    def __init__(self) -> None:
        self._last_message = ""

    async def report_job(self, job: Job) -> None:
        words = job.message.partition(". ")[0]
        if words != self._last_message:
            self._last_message = words
            _print_status(f"job {job.id}: {job.progress:.0%} {job.message or job.state}")


class _Stderr:
    """The stream of messages for a person. When it is gone, closed terminals and readers end no job."""

    def write(self, words: str) -> int:
        with suppress(OSError):
            sys.stderr.write(words)
        return len(words)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()

    @property
    def encoding(self) -> str:
        return sys.stderr.encoding


_STDERR = cast("IO[str]", _Stderr())


def _print_status(words: str) -> None:
    print(visible_text(words), file=_STDERR)


async def _perform_with_bar(studio: Studio, tool: str, arguments: Arguments) -> JobResult | JobList:
    console = Console(file=_STDERR)
    known: Job | None = None
    with _make_progress_bar(console) as progress:
        bar = progress.add_task(tool, total=1.0)

        async def show_progress(job: Job) -> None:
            nonlocal known
            progress.update(bar, completed=job.progress, description=visible_text(job.message or job.state))
            if not console.is_terminal and (known is None or known.message != job.message):
                _print_status(f"job {job.id}: {job.progress:.0%} {job.message or job.state}")
            known = job

        try:
            return await studio.perform(
                tool, arguments, LOCAL_PRINCIPAL, _WAIT_BUDGETS.get(type(arguments), float("inf")), show_progress
            )
        except anyio.get_cancelled_exc_class():
            if known is not None:
                _print_status(f"\nInterrupted. The job is {known.id}: rotoscope jobs show {known.id}")
            raise


def _make_progress_bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal)


def print_job_table(jobs: JobResult | JobList | MediaFile) -> None:
    """Print jobs for a person."""
    if isinstance(jobs, JobList) and not jobs.jobs:
        print("There are no jobs to show.")
        return
    table = Table("job", "status", "progress", "tool", "model", "created", "message")
    for job in jobs.jobs if isinstance(jobs, JobList) else ():
        model = f"{job.model} (sandbox)" if job.sandbox else job.model
        seen = visible_text(job.message)
        table.add_row(job.job_id, job.status, f"{job.progress:.0%}", job.tool, model, job.created_at, seen)
    _make_console().print(table)


def print_model_table(catalog: Catalog, access: Access, *, as_json: bool = False) -> None:
    """Print every way to every model: tool, provider, what is known of price and time, whether its key is set."""
    rows = list_model_rows(catalog, describe_route_price, access)
    if as_json:
        print(escape_invisible(json.dumps([asdict(row) for row in rows], ensure_ascii=False, indent=2)))
    else:
        table = Table("tool", "model", "provider", "price", "typical", "key", "takes")
        for row in rows:
            seconds = f"{row.typical_seconds:g} s"
            table.add_row(row.tool, row.model, row.provider, row.price, seconds, row.key, row.takes)
        _make_console().print(table)
    for problem in catalog.problems:
        Console(stderr=True).print(f"left out: {visible_text(problem)}", markup=False)


def print_example(manifest: Manifest, report: CheckReport, catalog: Catalog, access: Access) -> None:
    """Print what the check of a manifest found, and the exact request of its example for each of its routes."""
    print(f"{manifest.id}: valid; {manifest.tool}, {len(manifest.inputs)} inputs. {report.calls} calls planned.")
    for note in report.notes:
        print(visible_text(f"note: {note}"))
    for route in manifest.routes:
        view, provider = manifest.at(route), catalog.providers[route.provider]
        call = Call(
            route.provider,
            route.endpoint_for(view.example),
            dict(view.example),
            route.version,
            provider.form_of(route.form),
            view.timing.deadline_seconds,
        )
        request = build_planned_request(
            make_dialect(provider.dialect, access.base_urls[route.provider], version_path=provider.version_path),
            provider,
            call,
        )
        print(f"\n{request.method} {request.url}")
        for name, value in request.headers.items():
            print(f"{name}: {value}")
        print(f"\n{escape_invisible(json.dumps(request.body, ensure_ascii=False, indent=2))}")


def _make_console() -> Console:
    """Piped output is as wide as it needs to be; nobody's terminal wraps it."""
    console = Console(markup=False, emoji=False, highlight=False)
    wide = max(console.width, 2 * _MIN_WIDTH)
    return console if console.is_terminal else Console(width=wide, markup=False, emoji=False, highlight=False)
