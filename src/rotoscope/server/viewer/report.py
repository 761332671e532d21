"""A job as one HTML file that can be mailed: the viewer's page with the job and its media inside, up to a size."""

import base64
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from rotoscope.contracts.results import JobRecord
from rotoscope.media.sniff import HEAD_BYTES, content_type_of
from rotoscope.server.viewer.page import page_policy, render_viewer

__all__ = ["Report", "build_report"]

_HEAD = '<meta charset="utf-8">'
_JSON = "application/json"
_LOCAL_PLACES = ("path", "url")
"""What says where a file lies on this machine, or opens for a day alone."""
ReadFile = Callable[[str, int], Awaitable[bytes | int | None]]
"""Reads a file by its link, if it has at most so many bytes; else how many it has, or None where there is none."""


@dataclass(frozen=True, slots=True)
class Report:
    """The file, and what is not in it, each with the reason, as sentences."""

    html: str
    left_out: tuple[str, ...]


@dataclass(slots=True)
class _Gathered:
    """The files of a report so far."""

    left_bytes: int
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    async def add(self, name: str, uri: str, read: ReadFile) -> None:
        """Add a file, if it is there and fits."""
        if uri in self.files:
            return
        if not uri.startswith("artifact://"):
            self.left_out.append(f"{name}: it was passed on by its address and is not kept here.")
            return
        content = await read(uri, self.left_bytes)
        if content is None:
            self.left_out.append(f"{name}: it is no longer kept.")
        elif isinstance(content, int):
            left = max(self.left_bytes, 0) / 1e6
            self.left_out.append(f"{name}: it has {content / 1e6:.1f} MB, and {left:.1f} MB are left (--max-mb).")
        else:
            self.left_bytes -= len(content)
            kind = _JSON if name == "coco" else content_type_of(content[:HEAD_BYTES]) or ""
            self.files[uri] = {"type": kind, "data": base64.b64encode(content).decode()}


async def build_report(record: JobRecord, read: ReadFile, most_bytes: int, made: str) -> Report:
    """The report of a job: what shows it best comes first, until the size is reached.

    Args:
        record: the job.
        read: reads its files.
        most_bytes: of all media together, as they are kept; in the file they take a third more.
        made: when it is made, as text.
    """
    gathered = _Gathered(most_bytes)
    for name, uri in _wanted_files(record):
        await gathered.add(name, uri, read)
    data = {
        "mode": "report",
        "record": _portable_record(record),
        "files": gathered.files,
        "left_out": gathered.left_out,
        "made": made,
    }
    policy = f'<meta http-equiv="Content-Security-Policy" content="{page_policy()}">'
    return Report(render_viewer(data).replace(_HEAD, f"{_HEAD}\n{policy}", 1), tuple(gathered.left_out))


def _wanted_files(record: JobRecord) -> Iterator[tuple[str, str]]:
    """Names and links, the most telling first. Of what was given only that is shown from which the result was made."""
    named = record.named_files()
    first = ("poster", "filmstrip", "overlay")
    yield from ((name, named[name].uri) for name in first if name in named)
    shown = [one for one in record.inputs if one.argument in ("image", "video")]
    yield from ((one.argument, one.uri) for one in shown if one.argument == "image" and record.masks)
    yield from ((name, file.uri) for name, file in named.items() if name not in (*first, "video"))
    yield from ((name, named[name].uri) for name in ("video",) if name in named)
    yield from ((f"{one.argument} before the edit", one.uri) for one in shown if one.argument == "video")


def _portable_record(record: JobRecord) -> dict[str, Any]:
    """The record without what is of this machine alone: its paths, its addresses, and the model's log."""
    whole = record.model_dump(mode="json", exclude={"provider_logs", "next_step"})
    portable: dict[str, Any] = _without_places(whole)
    portable["request"] = {name: _file_name(value) for name, value in whole["request"].items()}
    return portable


def _without_places(value: Any) -> Any:
    match value:
        case dict():
            is_file = "uri" in value
            return {
                name: "" if is_file and name in _LOCAL_PLACES else _without_places(one) for name, one in value.items()
            }
        case list():
            return [_without_places(one) for one in value]
        case str():
            return re.sub(r"file://\S*", "", value)
        case _:
            return value


def _file_name(value: object) -> object:
    """A path as the name of its file; everything else as it is."""
    if isinstance(value, list):
        return [_file_name(one) for one in value]
    if not isinstance(value, str):
        return value
    text = value.removeprefix("file://")
    for kind in (PurePosixPath, PureWindowsPath):
        path: PurePath = kind(text)
        if path.is_absolute() or text.startswith("~"):
            return path.name
    return value
