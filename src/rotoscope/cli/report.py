"""`rotoscope report JOB --out FILE`: a job as one HTML file that can be mailed."""

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope import signals
from rotoscope.errors import InvalidInput
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from rotoscope.server.viewer.report import Report

__all__ = ["add_parser", "make_report"]

_DEFAULT_MB, _MOST_MB = 15, 500
_MB = 1_000_000


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    report = commands.add_parser("report", help="write a job as one HTML file that can be mailed")
    report.add_argument("job_id", metavar="JOB")
    report.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write it (report.html)")
    report.add_argument(
        "--max-mb",
        type=int,
        default=_DEFAULT_MB,
        metavar="N",
        help=f"megabytes of media in it (default {_DEFAULT_MB}); what does not fit is left out and named",
    )
    report.set_defaults(run=_write_report)


def _write_report(asked: argparse.Namespace, settings: Settings) -> int:
    if not 0 <= asked.max_mb <= _MOST_MB:
        raise InvalidInput(f"--max-mb {asked.max_mb} is not 0 to {_MOST_MB}.", hint=f"Leave it out for {_DEFAULT_MB}.")
    if not asked.out.parent.is_dir():
        raise InvalidInput(f"There is no folder {asked.out.parent}.", hint="Make it, or name another file.")
    made = signals.run_until_signal(partial(make_report, settings, asked.job_id, asked.max_mb * _MB))
    asked.out.write_text(made.html, encoding="utf-8")
    print(f"{asked.out}: {len(made.html.encode()) / _MB:.1f} MB")
    for sentence in made.left_out:
        print(f"left out: {sentence}", file=sys.stderr)
    return 0


async def make_report(settings: Settings, job_id: str, most_bytes: int) -> "Report":
    """The report of a job, with media of at most so many bytes.

    Raises:
        UnknownJob: there is no such job.
    """
    import anyio.to_thread

    from rotoscope.cli.output import LOCAL_PRINCIPAL, run_in_studio
    from rotoscope.contracts.results import JobRecord
    from rotoscope.media.vault import artifact_hash
    from rotoscope.server.viewer.report import build_report
    from rotoscope.studio.studio import Studio

    async def work(studio: Studio) -> "Report":
        async def read(uri: str, most: int) -> bytes | int | None:
            async with studio.open_artifact(artifact_hash(uri), LOCAL_PRINCIPAL) as found:
                if found is None:
                    return None
                size = found[0].stat().st_size
                return size if size > most else await anyio.to_thread.run_sync(found[0].read_bytes)

        record = await studio.result(await studio.job(job_id, LOCAL_PRINCIPAL), JobRecord)
        assert isinstance(record, JobRecord)
        return await build_report(record, read, most_bytes, time.strftime("%Y-%m-%d %H:%M"))

    return await run_in_studio(settings, work, in_background=False)
