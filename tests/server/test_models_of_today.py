"""Whole runs of the models of today on the sandbox: what comes back, and that our account is what the sandbox bills."""

import sqlite3
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import httpx  # noqa: TID251 - the test reads the sandbox's own account
import numpy as np
import pytest
from calls import BOX, text_of
from engine_media import psnr, read_video, write_video
from mcp import Client
from PIL import Image

from rotoscope.cli.demo_clip import draw_clip
from rotoscope.settings import Settings
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio
VOID, WAN = "fal-ai/void-video-inpainting", "fal-ai/wan-22-vace-fun-a14b/inpainting"


@pytest.fixture
async def client(server: Any) -> Any:
    async with Client(server) as connected:
        yield connected


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    with anyio.fail_after(120):
        answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, text_of(answer)
    assert answer.structured_content is not None
    return dict(answer.structured_content)


async def billed(sandbox: Sandbox) -> dict[str, Any]:
    """The sandbox's row of the latest run."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(sandbox), base_url="https://sandbox.invalid") as raw:
        row: dict[str, Any] = (await raw.get("/sandbox/ledger")).json()["predictions"][0]
    return row


def charged(settings: Settings) -> float | None:
    """What the latest run was charged by our own account, in US dollars; its result says that the sandbox is free."""
    with closing(sqlite3.connect(settings.home / "ledger.sqlite3")) as ledger:
        (millionths,) = ledger.execute("SELECT charged FROM reservations ORDER BY at DESC LIMIT 1").fetchone()
    return None if millionths is None else float(millionths) / 1_000_000


@pytest.fixture
def clip(home: Path) -> Path:
    draw_clip(home / "clip.mp4")
    return home / "clip.mp4"


@pytest.fixture
def mask_film(home: Path, clip: Path) -> Path:
    """A mask of the clip as a film, white in a part of each frame."""
    frames = read_video(clip)
    mask = np.zeros_like(frames[0])
    mask[40:120, 60:180] = 255
    write_video(home / "mask.mp4", [mask] * len(frames), Fraction(24))
    return home / "mask.mp4"


async def test_sam_3_takes_words_clicks_and_a_box_and_scores_each_mask(
    client: Client, photo: Path, sandbox: Sandbox, settings: Settings
) -> None:
    asked = {"image": str(photo), "instruction": "the astronaut", "points": [{"x": 220, "y": 100}], "box": BOX}
    found = await call(client, "segment_image", **asked, model="fal-ai/sam-3/image")
    row = await billed(sandbox)
    assert (found["status"], row["model"]) == ("succeeded", "fal-ai/sam-3/image")
    assert charged(settings) == row["charged_usd"] == 0.005
    assert all(0 < mask["score"] <= 1 for mask in found["masks"])
    with Image.open(found["masks"][0]["media"]["path"]) as picture:
        assert (picture.mode, picture.size) == ("L", (512, 512))


@pytest.mark.parametrize("model", ["mattsays/sam3-image", "sam3-image"])
async def test_words_give_one_mask_where_a_model_joins_them(client: Client, photo: Path, model: str) -> None:
    found = await call(client, "segment_image", image=str(photo), instruction="the astronaut", model=model)
    assert (found["status"], len(found["masks"])) == ("succeeded", 1)
    assert 0 < found["masks"][0]["area"] < 1


async def test_a_model_that_edits_what_is_black_gets_the_mask_the_other_way_round_and_the_user_does_not_see_it(
    client: Client, clip: Path, mask_film: Path, sandbox: Sandbox, settings: Settings
) -> None:
    asked = {"prompt": "an empty room", "video": str(clip), "mask": str(mask_film), "model": VOID}
    found = await call(client, "edit_video_with_mask", **asked)
    row = await billed(sandbox)
    assert charged(settings) == row["charged_usd"] == 0.05
    frames, source = read_video(Path(found["video"]["path"])), read_video(clip)
    height, width = source[0].shape[:2]
    share = 80 * 120 / (height * width)
    assert found["mask_selects"]["most"] == pytest.approx(share, abs=0.01)
    outside = np.ones((height, width), np.bool_)
    outside[20:140, 40:200] = False
    assert frames[3].shape == source[3].shape
    assert psnr(frames[3][outside], source[3][outside]) > 30
    assert psnr(frames[3][60:100, 80:160], source[3][60:100, 80:160]) < 60


async def test_a_picture_as_mask_is_refused_where_a_film_is_needed(client: Client, clip: Path, home: Path) -> None:
    with Image.open(Path(__file__).parents[2] / "src/rotoscope_sandbox/assets/mask.png") as picture:
        picture.save(home / "still.png")
    asked = {"prompt": "an empty room", "video": str(clip), "mask": str(home / "still.png"), "model": VOID}
    answer = await client.call_tool("edit_video_with_mask", asked)
    assert answer.is_error
    assert "takes a mask film" in text_of(answer)


@pytest.mark.slow
async def test_a_film_is_edited_whole_and_its_bill_is_below_the_bound(
    client: Client, clip: Path, mask_film: Path, sandbox: Sandbox, settings: Settings
) -> None:
    asked = {"prompt": "a lamp", "video": str(clip), "mask": str(mask_film), "model": WAN, "size": "832*480"}
    found = await call(client, "edit_video_with_mask", **asked)
    row = await billed(sandbox)
    assert found["status"] == "succeeded"
    assert charged(settings) in (None, pytest.approx(row["charged_usd"], abs=1e-6))
    assert row["charged_usd"] <= found["cost"]["at_most_usd"]
    assert row["charged_usd"] == pytest.approx(found["video"]["frames"] / 16 * 0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("route", "usd"), [("replicate", 0.32), ("fal", None)])
async def test_a_generated_film_is_charged_as_its_route_bills_it(
    client: Client, sandbox: Sandbox, settings: Settings, route: str, usd: float | None
) -> None:
    asked = {"prompt": "a storm", "duration": 4, "resolution": "480p", "model": f"bytedance/seedance-2.0@{route}"}
    found = await call(client, "generate_video", **asked)
    row = await billed(sandbox)
    assert (found["status"], found["provider"]) == ("succeeded", route)
    assert charged(settings) in (usd, pytest.approx(row["charged_usd"], abs=1e-6))
    assert row["charged_usd"] <= found["cost"]["at_most_usd"]
