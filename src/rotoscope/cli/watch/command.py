"""The command `rotoscope jobs watch`."""

import argparse
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from rotoscope import signals
from rotoscope.errors import InvalidInput
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from rotoscope.cli.watch.following import Watch
    from rotoscope.cli.watch.table import LineView, TableView
    from rotoscope.store.records import Job

__all__ = ["add_parser", "make_notifier", "watch_jobs"]

_OK, _FAILED, _NEEDS_REVIEW = 0, 1, 3
_LONG_JOB_SECONDS = 30.0  # whoever waits longer looks at something else
_MAX_JOBS = 100


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the action to those of `rotoscope jobs`."""
    watch = actions.add_parser("watch", help="a live table of open jobs, until they have ended; it only looks")
    watch.add_argument("job_ids", nargs="*", metavar="JOB", help="watch these alone")
    watch.add_argument("--all", action="store_true", dest="goes_on", help="go on when all have ended, for the next")
    watch.add_argument(
        "--notify", action="store_true", help="a desktop notification when a job ends that took longer than 30 s"
    )
    watch.set_defaults(run=_run_watch)


def _run_watch(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.cli.output import LOCAL_PRINCIPAL
    from rotoscope.cli.watch.following import Watch
    from rotoscope.studio.links import parse_job_id

    job_ids = tuple(dict.fromkeys(map(parse_job_id, asked.job_ids)))
    if asked.goes_on and job_ids:
        raise InvalidInput("--all goes on with whatever is opened, and some jobs are named.", hint="Leave one out.")
    if len(job_ids) > _MAX_JOBS:
        raise InvalidInput(f"More than {_MAX_JOBS} jobs are named.", hint="Name none, and all open ones are watched.")
    watch = Watch(LOCAL_PRINCIPAL, job_ids, goes_on=asked.goes_on)
    on_end = make_notifier(sys.platform, os.environ) if asked.notify else _ignore_end
    return signals.run_until_signal(partial(watch_jobs, settings, watch, on_end))


async def watch_jobs(
    settings: Settings, watch: "Watch", on_end: "Callable[[Job], Awaitable[None]]", console: "Console | None" = None
) -> int:
    """Watch jobs until they have ended.

    Args:
        settings: where the ledger is.
        watch: which jobs.
        on_end: called with each that ends meanwhile.
        console: where they are shown; None: standard output.

    Returns:
        The exit code: 0 all succeeded, or there was nothing to watch; 1 one failed or was cancelled; 3 one needs a
        review.

    Raises:
        UnknownJob: there is no such job.
        StorageFailed: the ledger cannot be read.
    """
    from rotoscope.cli.watch.following import Changes, follow_jobs, have_all_ended, read_jobs
    from rotoscope.composition.reading import open_ledger_reads
    from rotoscope.jobs.concurrency import run_with_background

    async with signals.closing_stack() as closing:
        reads, database = open_ledger_reads(settings, closing)
        found = await read_jobs(watch, reads, {})
        if not watch.job_ids and not watch.goes_on and have_all_ended(found):
            print("No job is open, so there is nothing to watch; --all waits for the next.", file=sys.stderr)
            return _OK
        changes = Changes(database)
        listening = [partial(database.listen, changes)] if database.announces_changes else []
        with _make_view(console) as view:
            work = partial(follow_jobs, watch, reads, changes, view, time.time, on_end)
            return _exit_code(await run_with_background(work, *listening))


def _make_view(console: "Console | None") -> "TableView | LineView":
    from rich.console import Console

    from rotoscope.cli.watch.table import LineView, TableView

    console = console or Console(markup=False, emoji=False, highlight=False)
    return TableView(console) if console.is_terminal and not console.is_dumb_terminal else LineView(console.file)


def _exit_code(jobs: "Mapping[str, Job]") -> int:
    states = {job.state for job in jobs.values()}
    return _NEEDS_REVIEW if "needs_review" in states else _FAILED if states & {"failed", "cancelled"} else _OK


async def _ignore_end(_: "Job") -> None:
    """Nobody is to be notified."""


def make_notifier(platform: str, environ: Mapping[str, str]) -> "Callable[[Job], Awaitable[None]]":
    """What notifies of the end of a long job; where the system has no notifications, that is said now, once."""
    import anyio.to_thread

    from rotoscope.cli.watch.notice import Notice, find_notice_command, send_notice

    if find_notice_command(platform, Notice("", "")) is None:
        hint = "Install notify-send (libnotify)." if platform.startswith("linux") else "None is known for it."
        print(f"rotoscope: this system has no command for desktop notifications. {hint}", file=sys.stderr)
        return _ignore_end

    async def notify(job: "Job") -> None:
        seconds = (job.finished_at or job.updated_at) - job.created_at
        notice = Notice.clean(f"{job.tool}: {job.state.replace('_', ' ')}", f"{job.message} {seconds:.0f} s, {job.id}")
        command = find_notice_command(platform, notice) if seconds > _LONG_JOB_SECONDS else None
        if command is not None:
            await anyio.to_thread.run_sync(send_notice, command, environ)

    return notify
