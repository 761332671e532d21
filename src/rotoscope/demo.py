"""The demo: a real MCP client that starts a real server and uses its tools on a bundled photo."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult, Implementation, TextContent

from rotoscope import __version__
from rotoscope.media.pictures import decode
from rotoscope.media.previews import Panel, contact_sheet, encode_jpeg

__all__ = ["Step", "run_demo"]

PHOTO = "astronaut.jpg"
BOX = {"left": 20, "top": 5, "right": 420, "bottom": 512}
WORDS = "the astronaut"
_WAIT_SECONDS = 10
_FINAL = frozenset({"succeeded", "failed", "cancelled", "needs_review"})


@dataclass(frozen=True, slots=True)
class Step:
    """One tool call of the demo: what it is called in the report, the tool and its arguments."""

    name: str
    title: str
    tool: str
    arguments: Mapping[str, object]


async def run_demo(out: Path) -> int:
    """Run every step, write its files to `out`, print what was done; 0 when all succeeded, else 1."""
    photo = _photo(out)
    steps = _steps(str(photo))
    me = Implementation(name="rotoscope-demo", version=__version__)
    with tempfile.TemporaryDirectory(prefix="rotoscope-demo-") as home:
        begun = time.monotonic()
        async with Client(_server(out, home), client_info=me) as client:
            tools = (await client.list_tools()).tools
            print(f"server ready, {len(tools)} tools, {time.monotonic() - begun:.2f} s")
            results = [await _done(client, step, out) for step in steps]
    _lay_out(photo, [panel for panel in results if panel is not None])
    return 0 if all(results) else 1


def _photo(out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    photo = out.absolute() / PHOTO
    photo.write_bytes(files("rotoscope").joinpath("assets", PHOTO).read_bytes())
    return photo


def _lay_out(photo: Path, results: Sequence[Panel]) -> None:
    panels = [Panel("The photo", "NASA, public domain", decode(photo.read_bytes())), *results]
    sheet = photo.parent / "contact-sheet.jpg"
    sheet.write_bytes(encode_jpeg(contact_sheet(panels, columns=2)))
    print(f"contact sheet: {sheet}")


def _server(out: Path, home: str) -> StdioServerParameters:
    """A server of its own: on the sandbox whatever keys are set, because a demo must not cost money."""
    env = {**os.environ, "ROTOSCOPE_HOME": home, "ROTOSCOPE_SANDBOX": "always"}
    return StdioServerParameters(command=sys.executable, args=["-m", "rotoscope", "serve"], env=env, cwd=out.absolute())


def _steps(photo: str) -> list[Step]:
    return [
        Step("box", "segment_image, by a box", "segment_image", {"image": photo, "box": BOX}),
        Step("words", "segment_image, by words", "segment_image", {"image": photo, "instruction": WORDS}),
        Step("describe", "describe_with_masks", "describe_with_masks", {"image": photo}),
    ]


async def _done(client: Client, step: Step, out: Path) -> Panel | None:
    """Call a tool, follow its job to the end and keep its files; None when it did not succeed."""
    begun = time.monotonic()
    answer = await client.call_tool(step.tool, dict(step.arguments), progress_callback=_show)
    found: dict[str, Any] | None
    while (found := answer.structured_content) is not None and found["status"] not in _FINAL:
        wanted = {"job_id": found["job_id"], "wait_seconds": _WAIT_SECONDS}
        answer = await client.call_tool("get_job", wanted, progress_callback=_show)
    seconds = time.monotonic() - begun
    if found is None or found["status"] != "succeeded":
        print(f"{step.title}: failed after {seconds:.2f} s: {_text(answer)}", file=sys.stderr)
        return None
    print(f"{step.title}: {_summary(found)}, {seconds:.2f} s")
    return _kept(step, found, out)


async def _show(progress: float, total: float | None, message: str | None) -> None:
    if sys.stderr.isatty():
        print(f"  {progress / (total or 1):4.0%} {message or ''}", file=sys.stderr)


def _text(answer: CallToolResult) -> str:
    return " ".join(block.text for block in answer.content if isinstance(block, TextContent))


def _summary(found: Mapping[str, Any]) -> str:
    masks = found["masks"]
    areas = ", ".join(f"{mask['area']:.0%}" for mask in masks)
    by = f"{found['model']} at {found['provider']}{' (sandbox)' if found['sandbox'] else ''}"
    return f"{len(masks)} mask{'s' if len(masks) != 1 else ''} covering {areas}, by {by}"


def _kept(step: Step, found: Mapping[str, Any], out: Path) -> Panel:
    """Copy the files of a result beside the photo, under names that a person can read."""
    for n, mask in enumerate(found["masks"]):
        shutil.copyfile(mask["media"]["path"], out / f"{step.name}-mask-{n}.png")
    shutil.copyfile(found["coco"]["path"], out / f"{step.name}-coco.json")
    overlay = out / f"{step.name}-overlay.jpg"
    shutil.copyfile(found["overlay"]["path"], overlay)
    said = found["text"] if step.tool == "describe_with_masks" else _summary(found)
    return Panel(step.title, str(said), decode(overlay.read_bytes()))
