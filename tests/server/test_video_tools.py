"""The video tools as a client of either era meets them, on the sandbox's film engine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import av
import numpy as np
import pytest
from mcp import Client
from mcp.server.mcpserver import MCPServer
from mcp_types import TextContent
from PIL import Image

from rotoscope.cli.demo_clip import BALL_BOX, FRAMES, draw_clip
from rotoscope.media.video.videos import first_frame
from rotoscope.server.lazy_studio import LazyStudio

pytestmark = pytest.mark.anyio
MEDIA = Path(__file__).parents[3] / "shared" / "media"


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    with anyio.fail_after(180):
        answer = await client.call_tool(tool, arguments)
        while (found := answer.structured_content) is not None and found["status"] in ("queued", "running"):
            answer = await client.call_tool("get_job", {"job_id": found["job_id"], "wait_seconds": 30})
    assert found is not None
    assert not answer.is_error, found["error"]
    return dict(found)


def frames(path: str | Path, size: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            given = frame.reformat(*size, format="rgb24") if size else frame
            yield given.to_ndarray(format="rgb24").astype(np.float64)


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    error = ((a - b)[where] ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


async def test_a_storyboard_becomes_a_video_of_exactly_the_asked_length_and_size(client: Client, photo: Path) -> None:
    asked = {"prompt": "按 Image 1 的故事版生成视频", "reference_images": [str(photo)], "duration": 4}
    found = await call(client, "generate_video", **asked, resolution="480p", seed=99)
    video = found["video"]
    assert (video["width"], video["height"], video["frames"], video["frame_rate"]) == (864, 496, 96, 24.0)
    assert video["duration_seconds"] == pytest.approx(4.0, abs=0.001)
    assert video["has_audio"] is True
    assert found["seed"] == 99
    assert any("animatic" in warning for warning in found["warnings"])
    assert sum(1 for _ in frames(video["path"])) == 96
    with Image.open(found["poster"]["path"]) as poster:
        assert poster.size == (864, 496)


async def test_a_mask_found_on_the_first_frame_becomes_a_masked_edit(client: Client, home: Path) -> None:
    clip, still = home / "ball.mp4", home / "still.png"
    draw_clip(clip)
    first_frame(clip).save(still)
    ball = await call(client, "segment_image", image=str(still), box=BALL_BOX)
    found = await call(
        client, "edit_video_with_mask", prompt="an empty room", video=str(clip), mask=f"job://{ball['job_id']}"
    )
    video = found["video"]
    assert (video["width"], video["height"], video["frames"]) == (832, 480, FRAMES)
    with Image.open(ball["masks"][0]["media"]["path"]) as mask:
        selected = np.asarray(mask) > 0
    before, after = next(frames(clip)), next(frames(video["path"]))
    assert before[320, 140, 0] - after[320, 140, 0] > 30, "the red ball is still there"
    rows, columns = np.nonzero(selected)
    away = np.ones_like(selected)
    away[rows.min() - 8 : rows.max() + 8, columns.min() - 8 : columns.max() + 8] = False
    assert psnr(before, after, away) > 30


async def test_the_first_frame_of_a_clip_is_the_picture_that_is_looked_at(client: Client, home: Path) -> None:
    """Who has a clip and no tool to cut a frame out of it gets a mask all the same."""
    clip, still = home / "ball.mp4", home / "still.png"
    draw_clip(clip)
    first_frame(clip).save(still)
    found = await call(client, "segment_image", image=str(clip), box=BALL_BOX)
    same = await call(client, "segment_image", image=str(still), box=BALL_BOX, overlay=False)
    assert found["masks"][0]["media"]["sha256"] == same["masks"][0]["media"]["sha256"]
    assert "The picture is the first frame of the video, 832x480 pixels." in found["warnings"]
    assert not any("first frame" in warning for warning in same["warnings"])


async def test_what_is_to_be_shown_in_a_video_must_be_a_picture(client: Client, home: Path) -> None:
    clip = home / "ball.mp4"
    draw_clip(clip)
    answer = await client.call_tool("generate_video", {"prompt": "a storm", "first_frame": str(clip)})
    assert answer.is_error


async def test_text_alone_tells_of_the_video(client: Client) -> None:
    with anyio.fail_after(180):
        answer = await client.call_tool("generate_video", {"prompt": "a storm", "duration": 4, "resolution": "480p"})
    text = "".join(block.text for block in answer.content if isinstance(block, TextContent))
    found = answer.structured_content
    assert found is not None
    for fact in (found["video"]["path"], "864x496, 4.00 s", "with sound", found["poster"]["uri"]):
        assert fact in text


@pytest.mark.media
@pytest.mark.skipif(not MEDIA.is_dir(), reason="the real clips under ../shared/media are not here")
async def test_a_real_clip_is_edited_inside_the_mask_that_is_followed_and_stays_outside(
    server: MCPServer[LazyStudio], home: Path
) -> None:
    given = {name: home / name for name in ("boxingcat.mp4", "boxingcat_mask.png", "snake.png")}
    for name, path in given.items():
        path.write_bytes((MEDIA / name).read_bytes())
    clip, mask, snake = given.values()
    asked = {
        "prompt": "a snake",
        "video": str(clip),
        "mask": str(mask),
        "reference_images": [str(snake)],
        "model": "prunaai/vace-14b",
    }
    async with Client(server) as client:
        found = await call(client, "edit_video_with_mask", **asked, frame_num=17)
    with Image.open(mask) as image:
        selected = np.asarray(image.convert("L").resize((832, 480), Image.Resampling.NEAREST)) > 0
    assert (found["video"]["width"], found["video"]["height"]) == (1280, 720)  # the clip's, not the model's 832x480
    pairs = list(zip(frames(clip, (832, 480)), frames(found["video"]["path"], (832, 480)), strict=False))
    assert len(pairs) == 17
    first_before, first_after = pairs[0]
    assert np.abs(first_before - first_after)[selected].mean() > 20
    margin = np.zeros_like(selected)
    rows, columns = np.nonzero(selected)
    margin[max(rows.min() - 40, 0) : rows.max() + 40, max(columns.min() - 60, 0) : columns.max() + 60] = True
    for before, after in pairs:
        assert psnr(before, after, ~margin) > 30
