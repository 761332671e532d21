"""What a person sees of the command line: a progress bar on stderr, tables and requests on stdout."""

import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rotoscope.compose import open_studio
from rotoscope.contracts.arguments import Arguments, CancelJob, GetJob, ViewMedia
from rotoscope.contracts.results import JobList, JobResult, MediaFile
from rotoscope.errors import RotoscopeError
from rotoscope.jobs.job import Job
from rotoscope.media.paths import Roots
from rotoscope.models.access import Access
from rotoscope.models.catalog import Catalog
from rotoscope.models.manifest import Manifest, Route
from rotoscope.models.words import price_in_words, prompts_in_words
from rotoscope.predictions.dialects import DIALECTS
from rotoscope.predictions.states import Call
from rotoscope.settings import Settings
from rotoscope.studio import Studio
from rotoscope.viewing import kept_view

__all__ = ["job_table", "model_table", "perform", "person_roots", "print_example"]

_LOCAL = "local"
_WIDE = 110
# A job of another process may have nobody who drives it: asking about it must come to an end.
_BUDGETS: Mapping[type[Arguments], float] = {CancelJob: 30.0, GetJob: 45.0}


def person_roots(settings: Settings, start: Path, home: Path) -> Roots:
    """At the command line a person names the files, so every folder may be read; hidden ones still may not."""
    return Roots(settings.roots or (start, home, Path(start.anchor)), start)


async def perform(settings: Settings, tool: str, arguments: Arguments) -> JobResult | JobList | MediaFile:
    """Perform one tool call in this process, to its very end, with a progress bar."""
    roots = person_roots(settings, Path.cwd(), Path.home())
    async with AsyncExitStack() as closing:

        async def work() -> JobResult | JobList | MediaFile:
            studio = open_studio(settings, roots, tasks, closing)
            if isinstance(arguments, ViewMedia):
                return await kept_view(studio, arguments.uri, _LOCAL)
            return await _with_bar(studio, tool, arguments)

        async with anyio.create_task_group() as tasks:
            outcome = await _caught(work)
            tasks.cancel_scope.cancel()
    if isinstance(outcome, RotoscopeError):
        raise outcome
    return outcome


async def _caught(
    work: Callable[[], Awaitable[JobResult | JobList | MediaFile]],
) -> JobResult | JobList | MediaFile | RotoscopeError:
    """A refusal as a value: raised inside a task group it would come out wrapped."""
    try:
        return await work()
    except RotoscopeError as error:
        return error


async def _with_bar(studio: Studio, tool: str, arguments: Arguments) -> JobResult | JobList:
    console = Console(stderr=True)
    known: Job | None = None
    with _progress(console) as progress:
        bar = progress.add_task(tool, total=1.0)

        async def tell(job: Job) -> None:
            nonlocal known
            progress.update(bar, completed=job.progress, description=job.message or job.state)
            if not console.is_terminal and (known is None or known.message != job.message):
                print(f"job {job.id}: {job.progress:.0%} {job.message or job.state}", file=sys.stderr)
            known = job

        try:
            return await studio.perform(tool, arguments, _LOCAL, _BUDGETS.get(type(arguments), float("inf")), tell)
        except anyio.get_cancelled_exc_class():
            if known is not None:
                print(f"\nInterrupted. The job is {known.id}: rotoscope jobs show {known.id}", file=sys.stderr)
            raise


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal)


def job_table(jobs: JobResult | JobList | MediaFile) -> None:
    """Print jobs for a person."""
    table = Table("job", "status", "progress", "tool", "model", "created", "message")
    for job in jobs.jobs if isinstance(jobs, JobList) else ():
        model = f"{job.model} (sandbox)" if job.sandbox else job.model
        table.add_row(job.job_id, job.status, f"{job.progress:.0%}", job.tool, model, job.created_at, job.message)
    _console().print(table)


def model_table(catalog: Catalog, access: Access) -> None:
    """Print every model for a person: what it is for, where it runs, what is known of price and time."""
    table = Table("model", "tool", "takes", "provider", "price", "typical", "ready")
    for manifest in sorted(catalog.models.values(), key=lambda m: (m.tool, m.rank, m.id)):
        for route in manifest.routes:
            table.add_row(
                manifest.id,
                manifest.tool,
                prompts_in_words(manifest),
                route.provider,
                price_in_words(manifest.price),
                f"{manifest.timing.typical_seconds:g} s",
                _ready(catalog, access, route),
            )
    _console().print(table)
    for problem in catalog.problems:
        Console(stderr=True).print(f"left out: {problem}", markup=False)


def print_example(manifest: Manifest, catalog: Catalog, access: Access) -> None:
    """Print the exact request of a manifest's example, for each of its routes, without sending it."""
    print(f"{manifest.id}: valid; {manifest.tool}, {len(manifest.inputs)} inputs.")
    for route in manifest.routes:
        provider = catalog.providers[route.provider]
        call = Call(
            route.provider,
            route.endpoint,
            dict(manifest.example),
            route.version,
            route.form,
            manifest.timing.deadline_seconds,
        )
        worded = DIALECTS[provider.dialect](access.bases[route.provider]).submit(call)
        print(f"\n{worded.method} {worded.url}")
        print(f"{provider.auth.header}: {provider.auth.prefix}${provider.key_variables[0]}")
        for name, value in worded.headers.items():
            print(f"{name}: {value}")
        print(f"Content-Type: application/json\n\n{json.dumps(worded.json, ensure_ascii=False, indent=2)}")


def _ready(catalog: Catalog, access: Access, route: Route) -> str:
    if access.sandbox:
        return "sandbox"
    return "yes" if access.usable(route.provider) else f"set {catalog.providers[route.provider].wants}"


def _console() -> Console:
    """Piped output is as wide as it needs to be; nobody's terminal wraps it."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, 2 * _WIDE))
