"""The viewer in a chat, in a real browser: under a strict policy, in a frame of its own origin, on our HTTP server."""

import base64
import io
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from calls import BOX, SECONDS
from PIL import Image
from viewer_site import Chat, find_violations, open_chat, take_shot

from rotoscope.cli.demo_clip import BALL_BOX, draw_clip
from rotoscope.models.access import SANDBOX_URL
from rotoscope.settings import read_settings
from rotoscope_sandbox import Sandbox, build_sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
CANVAS = "main canvas"
READY = "[data-ready]"
ChatOpener = Callable[..., Any]


@pytest.fixture
def chat_settings(environment: dict[str, str], home: Path) -> dict[str, str]:
    return {**environment, "ROTOSCOPE_ROOTS": str(home)}


@pytest.fixture
async def chat(chat_settings: dict[str, str], sandbox: Sandbox, home: Path) -> AsyncIterator[Chat]:
    async with open_chat(read_settings(chat_settings), sandbox, home) as opened:
        yield opened


async def nothing_was_refused(chat: Chat) -> None:
    """Neither the policy nor the script has anything to complain of."""
    assert await chat.seen("violations") == []
    assert [line for line in chat.log if line.startswith("error") or "rror:" in line] == []


async def canvas_pixels(chat: Chat, nth: int = 0) -> np.ndarray:
    script = "(n) => document.querySelectorAll('main canvas')[n].toDataURL('image/png')"
    drawn = str(await chat.app.evaluate(script, nth))
    with Image.open(io.BytesIO(base64.b64decode(drawn.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGBA"))


def mask_of(result: dict[str, Any], settings: dict[str, str], index: int = 0) -> np.ndarray:
    name = result["masks"][index]["media"]["sha256"]
    (file,) = Path(settings["ROTOSCOPE_HOME"]).glob(f"vault/*/{name}.png")
    with Image.open(file) as picture:
        return np.asarray(picture.convert("L")) > 127


def inner(mask: np.ndarray) -> np.ndarray:
    """The mask without its edge, where another line is drawn."""
    kept = mask.copy()
    for axis in (0, 1):
        for by in range(-3, 4):
            kept &= np.roll(mask, by, axis)
    return kept


async def test_masks_lie_on_the_picture_where_they_are(
    chat: Chat, photo: Path, chat_settings: dict[str, str], tmp_path: Path
) -> None:
    result = await chat.open("segment_image", {"image": str(photo), "box": BOX})
    await chat.app.wait_for_selector(READY)
    mask, seen = mask_of(result, chat_settings), (await canvas_pixels(chat))[..., :3].astype(float)
    with Image.open(photo) as picture:
        photo_pixels = np.asarray(picture.convert("RGB")).astype(float)
    assert seen.shape == photo_pixels.shape
    blue = np.array([86, 180, 233])
    painted, bare = inner(mask), inner(~mask)
    expected = photo_pixels * 0.55 + blue * 0.45
    assert np.abs(seen - expected)[painted].mean() < 4, "the mask's colour lies on its pixels"
    assert np.abs(seen - photo_pixels)[bare].mean() < 3, "and on no others"
    await take_shot(chat.page, "masks", tmp_path)
    assert await find_violations(chat.app) == []
    await nothing_was_refused(chat)


async def test_a_mask_is_switched_off_and_cut_out(
    chat: Chat, photo: Path, chat_settings: dict[str, str], tmp_path: Path
) -> None:
    result = await chat.open("segment_image", {"image": str(photo), "box": BOX}, theme="dark")
    await chat.app.wait_for_selector(READY)
    mask = mask_of(result, chat_settings)
    await chat.app.get_by_role("radio", name="Cut-out").check(force=True)
    alpha = (await canvas_pixels(chat))[..., 3]
    assert (alpha[mask] == 255).all()
    assert (alpha[~mask] == 0).all()
    await take_shot(chat.page, "cut-out-dark", tmp_path)
    assert await find_violations(chat.app) == []
    await chat.app.get_by_role("radio", name="Side by side").check(force=True)
    await chat.app.get_by_role("checkbox").uncheck()
    assert (await canvas_pixels(chat, 0) == await canvas_pixels(chat, 1)).all(), "without masks both are the picture"
    await nothing_was_refused(chat)


async def test_a_phrase_lights_its_mask_and_a_mask_its_phrase(chat: Chat, photo: Path, tmp_path: Path) -> None:
    result = await chat.open("describe_with_masks", {"image": str(photo)})
    await chat.app.wait_for_selector(READY)
    phrases = chat.app.locator(".phrase")
    assert await phrases.all_text_contents() == [one["phrase"] for one in result["segments"]]
    assert await chat.app.locator(".prose").text_content() == result["text"]
    before = await canvas_pixels(chat)
    index = await phrases.nth(1).get_attribute("data-mask")
    await phrases.nth(1).hover()
    assert await chat.app.locator("li.lit").get_attribute("data-mask") == index
    assert (await canvas_pixels(chat) != before).any(), "the mask stands out"
    await take_shot(chat.page, "phrase", tmp_path)
    await chat.app.locator("h1").hover()
    assert (await canvas_pixels(chat) == before).all()
    box = result["masks"][0]["box"]
    script = """([x, y]) => {
        const canvas = document.querySelector("main canvas"), shown = canvas.getBoundingClientRect();
        return [x / canvas.width * shown.width, y / canvas.height * shown.height];
    }"""
    found = None
    for share in (0.5, 0.35, 0.65, 0.2):
        place = [box["left"] + (box["right"] - box["left"]) * share, box["top"] + (box["bottom"] - box["top"]) * share]
        x, y = await chat.app.evaluate(script, place)
        await chat.app.locator(CANVAS).first.hover(position={"x": x, "y": y})
        found = await chat.app.locator(".phrase.lit").first.get_attribute("data-mask") if found is None else found
    assert found is not None
    await chat.page.keyboard.press("Tab")
    await nothing_was_refused(chat)


async def test_what_can_be_done_with_a_mask(chat: Chat, photo: Path, tmp_path: Path) -> None:
    result = await chat.open("segment_image", {"image": str(photo), "box": BOX})
    await chat.app.wait_for_selector(READY)
    await chat.app.get_by_role("button", name="Use as mask for an edit").click()
    await chat.app.wait_for_selector(".note:not([hidden])")
    (message,) = await chat.seen("messages")
    assert message["role"] == "user"
    assert f"job://{result['job_id']}/masks/0" in message["content"][0]["text"]
    await chat.app.get_by_role("button", name="Mask (PNG)").click()
    await chat.until_seen("seen.downloads.length === 1")
    await chat.app.get_by_role("button", name="Cut-out (PNG)").click()
    await chat.until_seen("seen.downloads.length === 2")
    assert {one["contents"][0]["resource"]["mimeType"] for one in await chat.seen("downloads")} == {"image/png"}
    await chat.app.get_by_role("button", name="Copy as COCO").click()
    await chat.until("/Copied|Copy the text/.test(document.querySelector('.note').textContent)")
    await nothing_was_refused(chat)


async def test_a_mask_is_corrected_by_keys(chat: Chat, photo: Path, tmp_path: Path) -> None:
    """What the pointer does, keys do: a point that stays, one that is taken back, a box."""
    await chat.open("segment_image", {"image": str(photo), "box": BOX})
    await chat.app.wait_for_selector(READY)
    await chat.app.get_by_role("button", name="Correct this mask").click()
    keys = chat.page.keyboard
    for key in ("Enter", "ArrowRight", "Enter", "Backspace", "b", "Shift+ArrowRight", "Shift+ArrowDown", "b"):
        await keys.press(key)
    assert await chat.app.locator(".panel [role=status]").text_content() == "1 point and a box."
    await take_shot(chat.page, "correcting", tmp_path)
    assert await find_violations(chat.app) == []
    await chat.app.get_by_role("button", name="Segment again").click()
    await chat.app.get_by_role("button", name="Back to the mask before").wait_for()
    calls = await chat.seen("calls")
    asked = next(one["arguments"] for one in calls if one["name"] == "segment_image")
    assert asked["image"].startswith("artifact://")
    assert asked["points"] == [{"x": 256, "y": 256, "keep": True}]
    assert asked["box"] == {"left": 261, "top": 256, "right": 286, "bottom": 281}
    await chat.until_seen("seen.contexts.length === 1")
    await chat.app.wait_for_selector(READY)
    await chat.app.get_by_role("button", name="Back to the mask before").click()
    await chat.app.wait_for_selector(READY)
    await nothing_was_refused(chat)


async def test_a_point_is_where_a_person_clicks(chat: Chat, photo: Path) -> None:
    await chat.open("segment_image", {"image": str(photo), "box": BOX})
    await chat.app.wait_for_selector(READY)
    await chat.app.get_by_role("button", name="Correct this mask").click()
    canvas = chat.app.locator(CANVAS).first
    shown = await canvas.bounding_box()
    assert shown is not None
    await canvas.click(position={"x": shown["width"] / 4, "y": shown["height"] / 2})
    await canvas.click(position={"x": shown["width"] * 3 / 4, "y": shown["height"] / 2}, modifiers=["Alt"])
    await chat.app.get_by_role("button", name="Segment again").click()
    await chat.until_seen("seen.calls.some((one) => one.name === 'segment_image')")
    (asked,) = [one["arguments"] for one in await chat.seen("calls") if one["name"] == "segment_image"]
    assert [(round(p["x"] / 8), round(p["y"] / 8), p["keep"]) for p in asked["points"]] == [
        (16, 32, True),
        (48, 32, False),
    ]


async def test_a_film_plays_beside_the_film_before_its_edit(chat: Chat, home: Path, tmp_path: Path) -> None:
    draw_clip(home / "clip.mp4")
    mask = await chat.open("segment_image", {"image": str(home / "clip.mp4"), "box": BALL_BOX})
    arguments = {"video": str(home / "clip.mp4"), "mask": f"job://{mask['job_id']}", "prompt": "an empty floor"}
    await chat.open("edit_video_with_mask", arguments)
    await chat.app.wait_for_selector("[data-ready=yes][data-before]")
    await chat.app.get_by_role("button", name="Play").click()
    await chat.until("[...document.querySelectorAll('video')].every((one) => one.currentTime > 0.2)")
    await chat.app.get_by_role("radio", name="Before and after").check(force=True)
    await chat.app.get_by_role("slider", name=re.compile("before ends")).fill("30")
    assert (
        await chat.app.evaluate("getComputedStyle(document.querySelector('.before')).clipPath")
        == "inset(0px 70% 0px 0px)"
    )
    await take_shot(chat.page, "film", tmp_path)
    assert await find_violations(chat.app) == []
    await nothing_was_refused(chat)


async def test_where_no_film_may_be_played_its_frames_are_shown(chat: Chat, tmp_path: Path) -> None:
    capabilities: dict[str, dict[str, str]] = {"serverTools": {}, "serverResources": {}, "openLinks": {}}
    arguments = {"prompt": "a quiet lake", "duration": 4, "resolution": "480p"}
    result = await chat.open("generate_video", arguments, media=False, capabilities=capabilities)
    await chat.app.wait_for_selector("[data-ready=strip]")
    assert await chat.app.locator("video").first.is_hidden() or await chat.app.locator(".poster").is_visible()
    assert (await canvas_pixels(chat, 1))[..., :3].any(), "the filmstrip is drawn"
    await chat.app.get_by_role("button", name="Open the film").click()
    await chat.until_seen("seen.links.length === 1")
    assert (await chat.seen("links"))[0]["url"] == result["video"]["url"]
    assert await find_violations(chat.app) == []
    await take_shot(chat.page, "filmstrip", tmp_path)


async def test_text_of_a_result_stays_text(chat: Chat, photo: Path) -> None:
    evil = "<img src=x onerror=\"parent.postMessage({violation: 'ran'}, '*')\"><b>bold</b>"
    await chat.open("segment_image", {"image": str(photo), "box": BOX, "instruction": evil})
    await chat.app.wait_for_selector(READY)
    assert await chat.app.locator("blockquote").text_content() == evil
    assert await chat.app.locator("main img, main b").count() == 0
    await nothing_was_refused(chat)


async def test_a_running_job_shows_its_progress_and_is_cancelled(
    chat_settings: dict[str, str], tmp_path: Path, home: Path
) -> None:
    slow = build_sandbox(tmp_path / "slow", pace=20.0, public_url=SANDBOX_URL)
    settings = read_settings({**chat_settings, "ROTOSCOPE_INLINE_SECONDS": "0"})
    async with open_chat(settings, slow, home) as chat:
        result = await chat.open("generate_video", {"prompt": "a quiet lake", "duration": 4, "resolution": "480p"})
        assert result["status"] in ("queued", "running")
        bar = chat.app.get_by_role("progressbar")
        await bar.wait_for()
        await chat.until("document.querySelector('[data-elapsed]').textContent !== '0 s'")
        await take_shot(chat.page, "running", tmp_path)
        assert await find_violations(chat.app) == []
        await chat.app.get_by_role("button", name="Cancel the job").click()
        await chat.app.get_by_role("button", name="Yes, cancel").click()
        await chat.app.locator("main[data-status=cancelled]").wait_for()
        with anyio.fail_after(SECONDS):
            job = await chat.page.evaluate(
                "(id) => ask('tools/call', {name: 'get_job', arguments: {job_id: id}})", result["job_id"]
            )
        assert job["structuredContent"]["status"] == "cancelled"
        await take_shot(chat.page, "cancelled", tmp_path)
        await nothing_was_refused(chat)


async def test_a_running_job_becomes_its_result(
    chat_settings: dict[str, str], sandbox: Sandbox, home: Path, photo: Path
) -> None:
    settings = read_settings({**chat_settings, "ROTOSCOPE_INLINE_SECONDS": "0"})
    async with open_chat(settings, sandbox, home) as chat:
        result = await chat.open("segment_image", {"image": str(photo), "box": BOX})
        assert result["status"] in ("queued", "running")
        await chat.app.wait_for_selector(READY)
        assert await chat.app.locator("li[data-mask]").count() == 1
        assert await chat.page.locator("#app").evaluate("(app) => app.offsetHeight") > 300, (
            "the chat is told its height"
        )
        await nothing_was_refused(chat)


async def test_the_page_fits_a_phone(chat: Chat, photo: Path, tmp_path: Path) -> None:
    await chat.page.set_viewport_size({"width": 360, "height": 740})
    await chat.open("describe_with_masks", {"image": str(photo)})
    await chat.app.wait_for_selector(READY)
    assert await chat.app.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off"
    await take_shot(chat.page, "phone", tmp_path)
