"""What a person sees of the command line: a progress bar on stderr, tables and requests on stdout."""

import json
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rotoscope.compose import open_studio
from rotoscope.contracts.arguments import Arguments
from rotoscope.contracts.results import JobList, JobResult
from rotoscope.jobs.job import Job
from rotoscope.media.paths import Roots
from rotoscope.models.access import Access
from rotoscope.models.catalog import Catalog
from rotoscope.models.manifest import Manifest, Price, Route
from rotoscope.predictions.dialects import DIALECTS
from rotoscope.predictions.states import Call
from rotoscope.settings import Settings

__all__ = ["job_table", "model_table", "perform", "print_example"]

_LOCAL = "local"
_WIDE = 110


def person_roots(settings: Settings, start: Path, home: Path) -> Roots:
    """At the command line a person names the files, so every folder may be read; hidden ones still may not."""
    return Roots(settings.roots or (start, home, Path(start.anchor)), start)


async def perform(settings: Settings, tool: str, arguments: Arguments) -> JobResult | JobList:
    """Perform one tool call in this process, to its very end, with a progress bar."""
    roots = person_roots(settings, Path.cwd(), Path.home())
    async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
        studio = open_studio(settings, roots, 1.0, tasks, closing)
        with _progress() as progress:
            bar = progress.add_task(tool, total=1.0)

            async def tell(job: Job) -> None:
                progress.update(bar, completed=job.progress, description=job.message or job.state)

            result = await studio.perform(tool, arguments, _LOCAL, float("inf"), tell)
        tasks.cancel_scope.cancel()
    return result


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def job_table(jobs: JobResult | JobList) -> None:
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
                takes_words(manifest),
                route.provider,
                price_words(manifest.price),
                f"{manifest.timing.typical_seconds:g} s",
                _ready(catalog, access, route),
            )
    _console().print(table)
    for problem in catalog.problems:
        Console(stderr=True).print(f"left out: {problem}", markup=False)


def takes_words(manifest: Manifest) -> str:
    """The kinds of prompt that a model takes."""
    return (" and " if manifest.combines else " or ").join(manifest.prompts) or "text"


def price_words(price: Price | None) -> str:
    """A price; one that nobody has seen is unknown, not free."""
    return f"{price.note} {price.usd:g} USD a {price.unit.replace('_', ' ')}".strip() if price else "unknown"


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
    variable = catalog.providers[route.provider].key_variables[0]
    return "yes" if access.usable(route.provider) else f"set {variable}"


def _console() -> Console:
    """Piped output is as wide as it needs to be; nobody's terminal wraps it."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, 2 * _WIDE))
