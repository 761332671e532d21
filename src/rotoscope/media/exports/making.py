"""From the files of a result to the files of an export. It is heavy, and it decodes: it runs in a worker process."""

from dataclasses import dataclass
from pathlib import Path

from rotoscope.errors import InvalidInput, StorageFailed
from rotoscope.media.exports.formats import find_format
from rotoscope.media.exports.frames import FEWER_FRAMES, MAX_MASKS, FrameTally, make_frames
from rotoscope.media.exports.sources import ExportOrder

__all__ = ["MadeExport", "MadeFile", "make_export"]

_MAX_BYTES = 2_000_000_000  # bytes of all files together
_MAX_FILES = 4 * MAX_MASKS


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file of an export: its name below the export's folder, with forward slashes, and where it is now."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class MadeExport:
    """The files of an export, and what a user should know of it, in sentences."""

    files: tuple[MadeFile, ...]
    notes: tuple[str, ...]


def make_export(order: ExportOrder, stem: Path) -> MadeExport:
    """Make the files of an export.

    Args:
        order: what is to be made.
        stem: the path with which the names of the files begin.

    Raises:
        InvalidInput: no file would come of it; the picture is needed and not at hand; there are more masks, pixels or
            bytes than an export has; a mask is noise, of which the format would make nothing useful.
        StorageFailed: the disk does not take the files.
    """
    tally, files, size = FrameTally(), list[MadeFile](), 0
    for made in find_format(order.format).write(make_frames(order, tally), order.simplify):
        size += len(made.content)
        if size > _MAX_BYTES or len(files) == _MAX_FILES:
            raise InvalidInput("The export is too large.", hint=FEWER_FRAMES, code="too_large")
        path = stem.with_name(f"{stem.name}-file{len(files)}")
        try:
            path.write_bytes(made.content)
        except OSError as error:
            raise StorageFailed(
                "A file of the export could not be written.", hint="Free some space in the results folder."
            ) from error
        files.append(MadeFile(made.name, path))
    if not files:
        raise InvalidInput(
            f"No mask selects anything, so there is nothing to export as {order.format}.",
            hint="Export it as png, which has empty masks too.",
        )
    return MadeExport(tuple(files), tuple(tally.describe()))
