"""`rotoscope export`: a job's masks as files of other programs."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope import signals
from rotoscope.contracts.characters import visible_text
from rotoscope.errors import InvalidInput
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from rotoscope.cli.export_files import ExportTarget
    from rotoscope.studio.exports import ExportRequest
    from rotoscope.studio.studio import Studio

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    export = commands.add_parser("export", help="write a job's masks for other programs: COCO, YOLO, CVAT, PNG, SVG")
    export.add_argument("job_id", metavar="JOB", nargs="?", help="a job's id; rotoscope jobs list shows them")
    export.add_argument("--format", metavar="FORMAT", help="see --list-formats")
    export.add_argument(
        "--out", metavar="PATH", help="a file, a folder, or a .zip (default: a name made of the job and the format)"
    )
    export.add_argument("--force", action="store_true", help="write over files that are there")
    export.add_argument("--images", action="store_true", help="write the pictures, too, where a format does without")
    export.add_argument(
        "--simplify", type=float, default=0.0, metavar="PIXELS", help="outlines may be so far off (default 0: exact)"
    )
    export.add_argument("--every", type=int, default=1, metavar="N", help="of a film, every Nth frame")
    export.add_argument("--list-formats", action="store_true", help="print the formats")
    export.set_defaults(run=_export_job)


def _export_job(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.cli.export_files import ExportTarget, check_target
    from rotoscope.cli.output import run_locally
    from rotoscope.media.exports.formats import FORMATS, find_format
    from rotoscope.studio.exports import ExportRequest

    if asked.list_formats:
        width = max(map(len, FORMATS))
        for name, form in FORMATS.items():
            print(f"{name:<{width}}  {form.text}")
        return 0
    if asked.job_id is None or asked.format is None:
        raise InvalidInput(
            "Name a job and a format.", hint="Write rotoscope export JOB --format coco, or see --list-formats."
        )
    find_format(asked.format)
    target = ExportTarget(
        Path(asked.out) if asked.out else None, asked.force, f"{_short_name(asked.job_id)}-{asked.format}"
    )
    check_target(target)
    request = ExportRequest(asked.format, asked.simplify, asked.images, asked.every)
    signals.run_until_signal(partial(run_locally, settings), partial(_write_export, asked.job_id, request, target))
    return 0


async def _write_export(
    job_id: str, request: "ExportRequest", target: "ExportTarget", studio: "Studio", principal: str
) -> None:
    import anyio.to_thread

    from rotoscope.cli.export_files import place_files
    from rotoscope.studio.exports import open_export

    async with open_export(studio, job_id, request, principal) as (_, made):
        files = {file.name: file.path for file in made.files}
        place = await anyio.to_thread.run_sync(place_files, files, target)
    for note in made.notes:
        print(visible_text(f"note: {note}"), file=sys.stderr)
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    print(visible_text(f"wrote {count}: {place}"))


def _short_name(job_id: str) -> str:
    """The beginning of a job's id, as a part of a file's name."""
    bare = job_id.strip().removeprefix("job://")[:8]
    return bare if bare.isalnum() else "job"
