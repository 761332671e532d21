"""The demo: a real MCP client that starts a real server and uses all its tools on a bundled photo and a drawn clip."""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult, Implementation, TextContent

from rotoscope import __version__
from rotoscope.cli.demo_clip import BALL_BOX, SHADOW_POINT, draw_clip
from rotoscope.media.image.pictures import decode_upright
from rotoscope.media.image.previews import SheetPanel, contact_sheet, encode_jpeg
from rotoscope.media.video.videos import filmstrip, first_frame

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["DemoRun", "run_demo"]

PHOTO = "astronaut.jpg"
BOX = {"left": 350, "top": 2, "right": 462, "bottom": 285}
"""The space shuttle behind her."""
INSTRUCTION = "the astronaut"
VIDEO_PROMPT = "She smiles, then the camera moves closer. 她微笑着，镜头慢慢靠近。"  # noqa: RUF001 - Chinese has commas of its own
_WAIT_SECONDS = 10
_FINAL = frozenset({"succeeded", "failed", "cancelled", "needs_review"})


@dataclass(slots=True)
class DemoRun:
    """Where the demo takes place: the client, the folder for its files, and the panels of the contact sheet."""

    client: Client
    out: Path
    panels: list[SheetPanel] = field(default_factory=list)
    failures: int = 0

    async def run_step(
        self, name: str, title: str, tool: str, arguments: Mapping[str, object]
    ) -> dict[str, Any] | None:
        """Call a tool, follow its job to the end and keep its files; None when it did not succeed."""
        begun = time.monotonic()
        answer = await self.client.call_tool(tool, dict(arguments), progress_callback=_print_progress)
        found: dict[str, Any] | None
        while (found := answer.structured_content) is not None and found["status"] not in _FINAL:
            wanted = {"job_id": found["job_id"], "wait_seconds": _WAIT_SECONDS}
            answer = await self.client.call_tool("get_job", wanted, progress_callback=_print_progress)
        seconds = time.monotonic() - begun
        if found is None or found["status"] != "succeeded":
            print(f"{title}: failed after {seconds:.2f} s: {_answer_text(answer)}", file=sys.stderr)
            self.failures += 1
            return None
        _print_line(f"{title}: {_result_summary(found)}, {seconds:.2f} s")
        self.panels.append(_copy_result_files(name, title, found, self.out))
        return found


async def run_demo(out: Path, weights: Path) -> int:
    """Run every step, write its files to `out`, print what was done; 0 when all succeeded, else 1.

    Args:
        out: a folder.
        weights: the file of the sandbox's weights; it need not be there.
    """
    _print_line("the built-in sandbox plays every model: no key is used and nothing is paid")
    how = "its net" if weights.is_file() else "colours alone, without the weights of its net"  # noqa: ASYNC240 - a stat
    _print_line(f"the sandbox's masks: by {how}")
    photo, clip, still = await anyio.to_thread.run_sync(_write_demo_files, out)
    me = Implementation(name="rotoscope-demo", version=__version__)
    with tempfile.TemporaryDirectory(prefix="rotoscope-demo-") as home:
        begun = time.monotonic()
        async with Client(_server_parameters(out, home, weights), client_info=me) as client:
            tools = (await client.list_tools()).tools
            _print_line(f"server ready, {len(tools)} tools, {time.monotonic() - begun:.2f} s")
            stage = DemoRun(client, out)
            await _run_photo_steps(stage, str(photo))
            await _run_video_steps(stage, str(photo), str(clip), str(still))
    await anyio.to_thread.run_sync(_write_contact_sheet, photo, clip, stage.panels)
    if stage.failures:
        print("rotoscope: some steps failed; rotoscope doctor checks this machine.", file=sys.stderr)
        return 1
    _print_line("next: rotoscope install CLIENT brings it into your assistant (rotoscope install --help names them)")
    return 0


async def _run_photo_steps(stage: DemoRun, photo: str) -> None:
    await stage.run_step("box", "segment_image, the shuttle by a box", "segment_image", {"image": photo, "box": BOX})
    await stage.run_step(
        "words", "segment_image, by words", "segment_image", {"image": photo, "instruction": INSTRUCTION}
    )
    await stage.run_step("describe", "describe_with_masks", "describe_with_masks", {"image": photo})


async def _run_video_steps(stage: DemoRun, photo: str, clip: str, still: str) -> None:
    asked = {"prompt": VIDEO_PROMPT, "reference_images": [photo], "duration": 4, "resolution": "480p", "seed": 99}
    await stage.run_step("video", "generate_video", "generate_video", asked)
    ball = await stage.run_step(
        "ball",
        "segment_image, a ball, and its shadow by a click",
        "segment_image",
        {"image": still, "box": BALL_BOX, "points": [SHADOW_POINT]},
    )
    if ball is not None:
        edit = {"prompt": "an empty room", "video": clip, "mask": f"job://{ball['job_id']}"}
        await stage.run_step("edit", "edit_video_with_mask, with that mask", "edit_video_with_mask", edit)
    named = {"prompt": "an empty room", "video": clip, "target": "the ball", "keep_outside": True}
    await stage.run_step("target", "edit_video_with_mask, by the words 'the ball'", "edit_video_with_mask", named)


def _server_parameters(out: Path, home: str, weights: Path) -> StdioServerParameters:
    """A server of its own: on the sandbox whatever keys are set, because a demo must not cost money."""
    own = {"ROTOSCOPE_HOME": home, "ROTOSCOPE_SANDBOX": "always", "ROTOSCOPE_SANDBOX_WEIGHTS": str(weights)}
    env = {**os.environ, **own}
    return StdioServerParameters(command=sys.executable, args=["-m", "rotoscope", "serve"], env=env, cwd=out.absolute())


def _write_demo_files(out: Path) -> tuple[Path, Path, Path]:
    """The photo, the clip and its first frame, as files."""
    out.mkdir(parents=True, exist_ok=True)
    photo, clip, still = (out.absolute() / name for name in (PHOTO, "ball.mp4", "ball-first-frame.png"))
    photo.write_bytes(files("rotoscope").joinpath("assets", PHOTO).read_bytes())
    draw_clip(clip)
    first_frame(clip).save(still)
    return photo, clip, still


def _write_contact_sheet(photo: Path, clip: Path, results: list[SheetPanel]) -> None:
    given = [SheetPanel("The photo", "NASA, public domain", decode_upright(photo.read_bytes()))]
    given_clip = SheetPanel("The clip", "drawn by the demo", _two_frames(clip))
    sheet = photo.parent / "contact-sheet.jpg"
    sheet.write_bytes(encode_jpeg(contact_sheet([*given, *results[:5], given_clip, *results[5:]], columns=2)))
    _print_line(f"contact sheet: {sheet}")


def _two_frames(video: Path) -> "Image.Image":
    return filmstrip(video, count=2, height=240)


async def _print_progress(progress: float, total: float | None, message: str | None) -> None:
    if sys.stderr.isatty():
        print(f"  {progress / (total or 1):4.0%} {message or ''}", file=sys.stderr)


def _print_line(words: str) -> None:
    """Print a line; when whoever read has gone, the demo goes on for its files."""
    with contextlib.suppress(BrokenPipeError):
        print(words, flush=True)


def _answer_text(answer: CallToolResult) -> str:
    return " ".join(block.text for block in answer.content if isinstance(block, TextContent))


def _result_summary(found: Mapping[str, Any]) -> str:
    by = f"by {found['model']} at {found['provider']}{' (sandbox)' if found['sandbox'] else ''}"
    if "video" in found:
        video = found["video"]
        return f"{video['width']}x{video['height']}, {video['duration_seconds']:.2f} s, {by}"
    areas = ", ".join(f"{mask['area']:.0%}" for mask in found["masks"])
    return f"{len(found['masks'])} mask{'s' if len(found['masks']) != 1 else ''} covering {areas}, {by}"


def _copy_result_files(name: str, title: str, found: Mapping[str, Any], out: Path) -> SheetPanel:
    """Copy the files of a result beside the photo, under names that a person can read."""
    for n, mask in enumerate(found.get("masks", ())):
        shutil.copyfile(mask["media"]["path"], out / f"{name}-mask-{n}.png")
    kept = {"coco": ".json", "overlay": ".jpg", "video": ".mp4", "poster": ".jpg", "filmstrip": ".jpg"}
    written = {}
    for role, ending in kept.items():
        if found.get(role):
            written[role] = out / f"{name}-{role}{ending}"
            shutil.copyfile(found[role]["path"], written[role])
    said = found["text"] if found["tool"] == "describe_with_masks" else _result_summary(found)
    shown = _two_frames(written["video"]) if "video" in written else decode_upright(written["overlay"].read_bytes())
    return SheetPanel(title, str(said), shown)
