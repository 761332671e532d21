"""Whole edits by models that take no mask, on the sandbox: the mask is never sent, and judges what came of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import httpx  # noqa: TID251 - the test reads the sandbox's own account
import numpy as np
import pytest
from calls import text_of
from engine_media import psnr, read_video, save_png, write_video
from films import film
from mcp import Client

from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio
WAN, SEEDANCE = "fal-ai/wan/v2.7/edit-video", "bytedance/seedance-2.0/edit"
KLING = "fal-ai/kling-video/o3/standard/video-to-video/edit"
SIZE, RATE = (160, 96), 12
INSIDE = (slice(30, 70), slice(50, 110))


@pytest.fixture
async def client(server: Any) -> Any:
    async with Client(server) as connected:
        yield connected


async def call(client: Client, **arguments: Any) -> dict[str, Any]:
    with anyio.fail_after(240):
        answer = await client.call_tool("edit_video_with_mask", {"prompt": "make it green", **arguments})
    assert not answer.is_error, text_of(answer)
    assert answer.structured_content is not None
    return dict(answer.structured_content)


async def ledger(sandbox: Sandbox) -> list[dict[str, Any]]:
    """The sandbox's rows of all runs, the latest first."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(sandbox), base_url="https://sandbox.invalid") as raw:
        rows: list[dict[str, Any]] = (await raw.get("/sandbox/ledger")).json()["predictions"]
    return rows


async def sent_inputs(sandbox: Sandbox) -> list[Mapping[str, Any]]:
    """The inputs of all runs that the sandbox has had, the latest first."""
    return [sandbox.state.core.store.get(row["id"]).request.input for row in await ledger(sandbox)]


async def billed(sandbox: Sandbox) -> float:
    """US dollars that the latest run was charged."""
    return float((await ledger(sandbox))[0]["charged_usd"])


def draw(size: tuple[int, int]) -> np.ndarray:
    """A red box on a grey ground with some texture."""
    width, height = size
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    ground = 120 + 20 * np.sin(across / 9) + 20 * np.cos(down / 7)
    picture = np.repeat(ground[..., None], 3, axis=2).astype(np.uint8)
    picture[inside(size)] = (200, 40, 40)
    return picture


def inside(size: tuple[int, int]) -> tuple[slice, slice]:
    return tuple(  # type: ignore[return-value]
        slice(one.start * size[0] // SIZE[0], one.stop * size[0] // SIZE[0]) for one in INSIDE
    )


def make_clip(path: Path, size: tuple[int, int] = SIZE, rate: int = RATE, seconds: float = 2.0) -> Path:
    write_video(path, [draw(size)] * round(rate * seconds), Fraction(rate))
    return path


def make_mask(path: Path, size: tuple[int, int] = SIZE, rate: int = RATE, seconds: float = 2.0) -> Path:
    mask = np.zeros((size[1], size[0], 3), np.uint8)
    mask[inside(size)] = 255
    write_video(path, [mask] * round(rate * seconds), Fraction(rate))
    return path


@pytest.fixture
def clip(home: Path) -> str:
    return str(make_clip(home / "clip.mp4"))


@pytest.fixture
def mask(home: Path) -> str:
    return str(make_mask(home / "mask.mp4"))


async def test_the_mask_is_not_sent_and_judges_the_result(
    client: Client, clip: str, mask: str, sandbox: Sandbox
) -> None:
    found = await call(client, video=clip, mask=mask, model=WAN)
    assert found["status"] == "succeeded"
    assert any("The mask is not sent" in one for one in found["warnings"])
    changes = found["changes"]
    assert changes["mask_share"] == pytest.approx(40 * 60 / (160 * 96), abs=0.02)
    assert changes["changed_inside"] > 0.9
    assert 0.02 < changes["changed_outside"] < 0.6, "the stand-in changes the rest a little, and that shows"
    assert changes["psnr_outside_db"] < 35
    (given,) = await sent_inputs(sandbox)
    assert set(given) == {"prompt", "video_url", "resolution", "audio_setting", "seed"}
    assert "mask" not in json.dumps(given)


async def test_the_outside_is_kept_by_a_mask_that_was_not_sent(client: Client, clip: str, mask: str) -> None:
    found = await call(client, video=clip, mask=mask, model=WAN, keep_outside=True)
    assert found["changes"]["outside_restored"] is True
    assert found["changes"]["psnr_outside_db"] >= 40
    frames, source = read_video(Path(found["video"]["path"])), read_video(Path(clip))
    outside = np.ones(source[0].shape[:2], np.bool_)
    outside[20:80, 40:120] = False
    assert psnr(frames[3][outside], source[3][outside]) >= 40
    assert psnr(frames[3][40:60, 60:100], source[3][40:60, 60:100]) < 20
    assert any("outside of it the original is laid back" in one for one in found["warnings"])


async def test_no_request_or_upload_holds_the_mask(client: Client, clip: str, mask: str, sandbox: Sandbox) -> None:
    await call(client, video=clip, mask=mask, model=WAN)
    requests = list(sandbox.state.requests)
    uploads = [one for one in requests if "/storage/upload/initiate" in one.path]
    assert len(uploads) == 1, [one.path for one in requests]


@dataclass(frozen=True)
class Route:
    """A way to a model that edits by words: what its request holds, and the least clip that it takes."""

    model: str
    video: str
    inputs: Mapping[str, Any]
    clip: tuple[tuple[int, int], int, float] = (SIZE, RATE, 2.0)
    is_seeded: bool = True


ROUTES = (
    Route(f"{WAN}@fal", "video_url", {"resolution": "720p", "audio_setting": "origin"}),
    Route(f"{WAN}@replicate", "video", {"resolution": "720p", "audio_setting": "origin"}),
    *(
        Route(
            f"fal-ai/kling-video/o3/{tier}/video-to-video/edit",
            "video_url",
            {"keep_audio": True},
            ((1200, 720), 24, 3.0),
            is_seeded=False,
        )
        for tier in ("standard", "pro")
    ),
    Route(
        f"{SEEDANCE}@replicate",
        "reference_videos",
        {
            "prompt": "Edit Video 1: make it green",
            "duration": 4,
            "resolution": "480p",
            "aspect_ratio": "adaptive",
            "generate_audio": False,
        },
        (SIZE, RATE, 3.5),
    ),
    Route(
        f"{SEEDANCE}@fal",
        "video_urls",
        {
            "prompt": "Edit @Video1: make it green",
            "duration": "4",
            "resolution": "480p",
            "aspect_ratio": "auto",
            "generate_audio": False,
        },
        (SIZE, RATE, 3.5),
        is_seeded=False,
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES, ids=lambda one: one.model)
async def test_each_route_edits_and_is_judged_by_a_mask_that_its_request_does_not_hold(
    client: Client, home: Path, sandbox: Sandbox, route: Route
) -> None:
    clip, mask = make_clip(home / "c.mp4", *route.clip), make_mask(home / "m.mp4", *route.clip)
    more = {"size": "480p"} if SEEDANCE in route.model else {}
    asked = {"video": str(clip), "mask": str(mask), "model": route.model, "keep_outside": True, **more}
    shown = await call(client, **asked, dry_run=True)
    assert any("The mask is not sent" in one for one in shown["warnings"])
    assert "mask" not in json.dumps(shown["planned_request"])
    found = await call(client, **asked)
    assert found["status"] == "succeeded"
    changes = found["changes"]
    assert changes["outside_restored"] is True
    assert changes["changed_inside"] > 0.8
    assert changes["psnr_outside_db"] is None or changes["psnr_outside_db"] >= 40
    assert any("The mask is not sent" in one for one in found["warnings"])
    (given,) = await sent_inputs(sandbox)
    names = {"prompt", route.video, *route.inputs} | ({"seed"} if route.is_seeded else set())
    assert set(given) == names
    assert {name: given[name] for name in route.inputs} == dict(route.inputs)
    assert found["cost"]["at_most_usd"] >= (await billed(sandbox)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("route", [ROUTES[0], ROUTES[1], ROUTES[4]], ids=lambda one: one.model)
async def test_what_a_target_finds_judges_the_result_and_is_not_sent(
    client: Client, home: Path, sandbox: Sandbox, route: Route
) -> None:
    clip = make_clip(home / "c.mp4", *route.clip)
    more = {"size": "480p"} if SEEDANCE in route.model else {}
    found = await call(client, video=str(clip), target="the red box", model=route.model, **more)
    assert found["status"] == "succeeded"
    assert any("What the target finds is not sent" in one for one in found["warnings"])
    assert [step["tool"] for step in found["steps"]] == ["segment_video", "edit_video_with_mask"]
    assert found["changes"]["mask_share"] == pytest.approx(40 * 60 / (160 * 96), abs=0.05)
    assert found["changes"]["changed_inside"] > 0.8
    edited = (await sent_inputs(sandbox))[0]
    assert "mask" not in json.dumps(edited)


async def test_without_a_mask_or_a_target_the_whole_frame_counts_as_outside(client: Client, clip: str) -> None:
    found = await call(client, video=clip, model=WAN)
    assert any("without a mask or a target nothing says what it was to change" in one for one in found["warnings"])
    changes = found["changes"]
    assert (changes["mask_share"], changes["changed_inside"]) == (0, None)
    assert changes["changed_outside"] > 0.1
    assert "No mask was given" in changes["note"]
    assert found["mask_selects"] is None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "Nothing says which part"),
        ({"model": "fal-ai/wan-22-vace-fun-a14b/inpainting"}, "Nothing says which part"),
        ({"model": WAN, "keep_outside": True}, "keep_outside needs a mask"),
    ],
    ids=["no model", "a model that takes a mask", "keep_outside"],
)
async def test_what_needs_a_mask_is_refused_without_one(
    client: Client, clip: str, sandbox: Sandbox, more: dict[str, Any], words: str
) -> None:
    answer = await client.call_tool("edit_video_with_mask", {"prompt": "make it green", "video": clip, **more})
    assert answer.is_error
    assert words in text_of(answer)
    assert sandbox.state.accepted == []


async def test_another_mask_is_another_request_and_the_same_one_joins(
    client: Client, clip: str, mask: str, home: Path, sandbox: Sandbox
) -> None:
    whole = np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)
    whole[:48] = 0
    write_video(home / "half.mp4", [whole] * 24, Fraction(RATE))
    found: list[dict[str, Any]] = []

    async def ask(given: str) -> None:
        found.append(await call(client, video=clip, mask=given, model=WAN, seed=1))

    async with anyio.create_task_group() as tasks:
        for given in (mask, mask, str(home / "half.mp4")):
            tasks.start_soon(ask, given)
    assert len({one["job_id"] for one in found}) == 2
    assert len(sandbox.state.accepted) == 2
    shares = sorted({one["changes"]["mask_share"] for one in found})
    assert shares == pytest.approx([40 * 60 / (160 * 96), 0.5], abs=0.02)


async def test_a_picture_judges_the_first_frame_and_keeps_no_outside(
    client: Client, clip: str, home: Path, sandbox: Sandbox
) -> None:
    picture = save_png(home / "mask.png", read_video(make_mask(home / "m.mp4"))[0])
    still = str(home / "mask.png")
    assert picture
    found = await call(client, video=clip, mask=still, model=WAN)
    assert found["changes"]["frames_compared"] == 1
    asked = {"prompt": "x", "video": clip, "mask": still, "model": WAN, "keep_outside": True}
    answer = await client.call_tool("edit_video_with_mask", asked)
    assert "keep_outside needs a mask film" in text_of(answer)
    assert len(sandbox.state.accepted) == 1


@pytest.mark.parametrize(
    ("model", "clip", "words"),
    [
        (WAN, (SIZE, 12, 1.0), "lasts 1 s; the model takes at least 2 s"),
        (KLING, ((720, 480), 24, 3.0), "has 720x480 pixels; the model takes at least 720"),
        (KLING, ((720, 720), 12, 3.0), "has 12 frames a second; the model takes at least 24"),
    ],
    ids=["short", "small", "slow"],
)
async def test_a_clip_that_a_model_does_not_take_is_refused_before_anything_is_sent(
    client: Client, home: Path, sandbox: Sandbox, model: str, clip: Any, words: str
) -> None:
    asked = {"prompt": "x", "video": str(make_clip(home / "c.mp4", *clip)), "model": model}
    answer = await client.call_tool("edit_video_with_mask", asked)
    assert answer.is_error
    assert words in text_of(answer)
    assert sandbox.state.accepted == []


async def test_a_clip_longer_than_the_model_takes_is_edited_in_parts_and_judged_as_a_whole(
    client: Client, home: Path, sandbox: Sandbox
) -> None:
    clip, mask = make_clip(home / "c.mp4", SIZE, 12, 17.0), make_mask(home / "m.mp4", SIZE, 12, 17.0)
    asked = {"video": str(clip), "mask": str(mask), "model": WAN, "keep_outside": True}
    shown = await call(client, **asked, dry_run=True)
    assert shown["cost"]["estimate_usd"] == pytest.approx(2 * 0.1 * 107 / 12, rel=0.2)
    found = await call(client, **asked)
    assert found["status"] == "succeeded"
    assert len(await ledger(sandbox)) == 2
    assert found["video"]["frames"] == 204
    changes = found["changes"]
    assert changes["frames_compared"] == 204
    assert changes["changed_inside"] > 0.8
    assert changes["psnr_outside_db"] is None or changes["psnr_outside_db"] >= 40


async def test_the_sound_of_the_clip_stays(client: Client, home: Path) -> None:
    loud = film(home / "loud.mp4", frames=33, rate=16, tone=True)
    found = await call(client, video=str(loud), model=WAN)
    assert found["changes"]["sound"] == "kept"


async def test_only_models_that_edit_by_words_are_named_beside_one_where_no_mask_is_given(
    client: Client, clip: str, mask: str
) -> None:
    alone = await call(client, video=clip, model=WAN, dry_run=True)
    assert KLING in alone["message"]
    assert "inpainting" not in alone["message"]
    masked = await call(client, video=clip, mask=mask, model=WAN, dry_run=True)
    assert "fal-ai/wan-22-vace-fun-a14b/inpainting" in masked["message"]
    assert "edit-video" not in (await call(client, video=clip, mask=mask, dry_run=True))["message"]
