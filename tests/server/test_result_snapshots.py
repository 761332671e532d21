"""One result of each tool on each rung of the ladder, as a client sees it: a difference is a decision.

What changes from run to run is masked: ids, hashes, paths, times and what an engine measures.
`UPDATE_SNAPSHOTS=1 make test` writes the snapshots again.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from calls import ServerBuilder
from client import ClientOpener
from early_progress import leave_out_early
from mcp import Client
from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult, Implementation

from rotoscope.cli.demo_clip import BALL_BOX, draw_clip
from rotoscope.media.video.videos import first_frame
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.settings import Settings
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio
Compare = Callable[[str, object], None]

MASKED = (
    (r"\b[0-9a-f]{64}\b", "HASH"),
    (r"\b[0-9a-f]{32}\b", "JOB"),
    (r"https://sandbox\.invalid/\S+", "https://sandbox.invalid/FILE"),
    (r"box [\d,]+", "box BOX"),
    (r"(area|score) [\d.]+", r"\1 N"),
    (r"[\d.]+ s (so far|more)", r"N s \1"),
    (r"(, in about [\d.]+ s)?; it should", "; it should"),
    (r"\d{4}-\d\d-\d\dT[\d:]+Z", "TIME"),
    (r"(queued|running): [^\n]*", "open: WORDS"),
    (r"JOB (queued|running) \d+%", "JOB open N%"),
    (r"progress \d+%", "progress N%"),
    (r"seed:? \d+", "seed N"),
    (r"(?<=/)HASH(?=/|\.)|(?<=/)[0-9a-f]{2}(?=/HASH)", "HASH"),
)
MEASURED = frozenset(
    {"elapsed_seconds", "expected_seconds", "seed", "area", "score", "file_size", "size", "created_at", "data", "box"}
    | {"source_expires_at", "createdAt", "lastUpdatedAt", "pollIntervalMs", "metrics"}
)
OPEN = frozenset({"status", "progress", "message", "statusMessage"})


PATH_LENGTH = 80


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder whose path has one length wherever the tests' files lie: what fits into a result depends on it."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as made:
        top = Path(made).resolve()
        folder = top / "x".ljust(PATH_LENGTH - len(str(top)) - 1, "x")
        folder.mkdir()
        yield folder


def masked(value: Any, home: Path, name: str = "") -> Any:
    if name == "provider_run" or (name in MEASURED and value is not None):
        return f"<{name}>"
    match value:
        case str():
            text = value.replace(str(home), "HOME")
            for pattern, word in MASKED:
                text = re.sub(pattern, word, text)
            return text
        case list():
            return [masked(one, home) for one in value]
        case dict():
            still_open = value.get("status") in ("queued", "running", "working")
            return {
                key: f"<{key}>" if still_open and key in OPEN else masked(one, home, key) for key, one in value.items()
            }
        case _:
            return value


@pytest.fixture
def asked(home: Path, photo: Path) -> dict[str, dict[str, Any]]:
    """A request for each tool that opens a job."""
    clip, mask = home / "ball.mp4", home / "mask.png"
    draw_clip(clip)
    frame = first_frame(clip)
    area = frame.convert("L").point(lambda _: 0)
    area.paste(255, tuple(BALL_BOX[side] for side in ("left", "top", "right", "bottom")))  # type: ignore[arg-type]
    area.save(mask)
    box = {"left": 20, "top": 5, "right": 420, "bottom": 512}
    return {
        "segment_image": {"image": str(photo), "box": box},
        "describe_with_masks": {"image": str(photo)},
        "generate_video": {"prompt": "a storm", "duration": 4, "resolution": "480p"},
        "edit_video_with_mask": {"prompt": "an empty room", "video": str(clip), "mask": str(mask), "frame_num": 17},
    }


async def called(client: Client, tool: str, arguments: dict[str, Any]) -> CallToolResult:
    with anyio.fail_after(180):
        answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    return answer


def seen(answer: CallToolResult, home: Path) -> Any:
    return masked(answer.model_dump(mode="json", by_alias=True, exclude_none=True), home.parent)


@pytest.mark.parametrize("tool", ["segment_image", "describe_with_masks", "generate_video", "edit_video_with_mask"])
async def test_a_result_that_came_in_time_is_as_its_snapshot_says(
    server: MCPServer[LazyStudio], home: Path, asked: dict[str, dict[str, Any]], compare: Compare, tool: str
) -> None:
    """To a client that nobody knows; then its job to one that accepts links and pictures."""
    async with Client(server) as client:
        answer = await called(client, tool, asked[tool])
        compare(f"result.{tool}.inline", seen(answer, home))
        assert answer.structured_content is not None
        given = {"job_id": answer.structured_content["job_id"]}
        if tool == "segment_image":
            compare("result.get_job.inline", seen(await called(client, "get_job", given), home))
            compare("result.cancel_job.inline", seen(await called(client, "cancel_job", given), home))
            compare("result.list_jobs.inline", seen(await called(client, "list_jobs", {}), home))
            view = await called(client, "view_media", {"uri": f"job://{given['job_id']}/overlay"})
            compare("result.view_media.inline", seen(view, home))
            dry = await called(client, tool, {**asked[tool], "dry_run": True})
            compare(f"result.{tool}.dry_run", seen(dry, home))
    if tool in ("segment_image", "generate_video"):
        async with Client(server, client_info=Implementation(name="claude-code", version="1")) as client:
            compare(f"result.get_job.blocks.{tool}", seen(await called(client, "get_job", given), home))


async def test_progress_is_reported_as_its_snapshot_says(
    server: MCPServer[LazyStudio], asked: dict[str, dict[str, Any]], compare: Compare
) -> None:
    reported: list[tuple[float | None, str]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        reported.append((total, re.sub(r"(?<=: ).*", "WORDS", re.sub(r"[0-9a-f]{32}", "JOB", message or ""))))

    async with Client(server) as client:
        with anyio.fail_after(180):
            await client.call_tool("segment_image", asked["segment_image"], progress_callback=note)
    first = leave_out_early(message for _, message in reported)[0]
    compare("progress.first", next(one for one in reported if one[1] == first))


@pytest.mark.parametrize("tool", ["segment_image", "describe_with_masks", "generate_video", "edit_video_with_mask"])
async def test_a_job_handle_is_as_its_snapshot_says(
    settings: Settings,
    sandbox: Sandbox,
    serve: ServerBuilder,
    home: Path,
    asked: dict[str, dict[str, Any]],
    compare: Compare,
    tool: str,
) -> None:
    async with Client(serve(replace(settings, inline_seconds=0.0), sandbox)) as client:
        compare(f"result.{tool}.handle", seen(await called(client, tool, asked[tool]), home))


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["segment_image", "describe_with_masks", "generate_video", "edit_video_with_mask"])
async def test_a_task_and_what_it_ends_with_are_as_their_snapshots_say(
    settings: Settings,
    sandbox: Sandbox,
    serve: ServerBuilder,
    speak: ClientOpener,
    home: Path,
    asked: dict[str, dict[str, Any]],
    compare: Compare,
    tool: str,
) -> None:
    """To a client that takes tasks, of a server that is reported to wait for none."""
    async with speak(serve(replace(settings, inline_seconds=0.0), sandbox)) as wire:
        begun = await wire.call(tool, **asked[tool])
        with anyio.fail_after(180):
            ended = await wire.finished(begun["taskId"])
    compare(f"result.{tool}.task", masked({"announced": begun, "ended": ended}, home.parent))
