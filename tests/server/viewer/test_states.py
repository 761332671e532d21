"""Each state of the viewer in a chat, in a real browser: what a person reads, wide in light, narrow in dark."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from calls import BOX
from viewer_site import Chat, find_violations, open_chat, take_shot

from rotoscope.settings import read_settings
from rotoscope_sandbox import Sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
NO_JOB = "f" * 32  # of which there is no resource: what is shown stays as a test has made it
PHRASE = "an extraordinarily long description of one single thing that goes on and on " * 3
ARABIC = "رائد فضاء يبتسم أمام العلم وخلفه مكوك الفضاء"
Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
async def chat(environment: dict[str, str], sandbox: Sandbox, home: Path) -> AsyncIterator[Chat]:
    # Every price is asked about where a client has said nothing of forms or dry runs; only some tests meet that.
    settings = read_settings({**environment, "ROTOSCOPE_ROOTS": str(home), "ROTOSCOPE_ASK_ABOVE_USD": "0.05"})
    async with open_chat(settings, sandbox, home) as opened:
        yield opened


async def look_at(chat: Chat, name: str, tmp_path: Path) -> None:
    """Keep pictures of a state as it looks wide in light and narrow in dark; nothing is cut off, and axe is content."""
    for width, theme in ((1000, "light"), (360, "dark")):
        await chat.page.set_viewport_size({"width": width, "height": 800})
        script = "(theme) => document.documentElement.dataset.theme = theme"
        await chat.app.evaluate(script, theme)
        await chat.until("document.documentElement.scrollWidth <= innerWidth")
        await take_shot(chat.page, f"{name}-{theme}-{width}", tmp_path)
        assert await find_violations(chat.app) == []
    await chat.page.set_viewport_size({"width": 1000, "height": 800})


async def nothing_was_refused(chat: Chat) -> None:
    assert await chat.seen("violations") == []
    # A job of a test's making has no resource: the chat's server says so, and the browser logs it.
    assert [line for line in chat.log if "rror:" in line and "Failed to load resource" not in line] == []


async def text_of_page(chat: Chat) -> str:
    return str(await chat.app.evaluate("document.querySelector('main').innerText"))


def ended(result: dict[str, Any], status: str, code: str, message: str, hint: str, **more: Any) -> dict[str, Any]:
    """A job that ended otherwise than a real one."""
    return {
        **result, "job_id": NO_JOB, "status": status, "masks": [], "masks_total": 0, "overlay": None, "coco": None,
        "message": message, "next_step": hint, "error": {"code": code, "message": message, "hint": hint}, **more,
    }  # fmt: skip


async def test_a_job_that_ended_otherwise_says_why_and_what_to_do(chat: Chat, photo: Path, tmp_path: Path) -> None:
    asked = {"image": str(photo), "box": BOX, "instruction": "the helmet"}
    made = await chat.open("segment_image", asked)
    await chat.app.wait_for_selector("[data-ready]")
    real = {"cost": {**made["cost"], "charged_usd": 0.012}, "sandbox": False}
    hint = "Give a picture of at most 4096 pixels a side, or another model: model://sam-3."
    file = {**made["overlay"], "content_type": "image/png"}
    states = {
        "failed": ended(made, "failed", "provider_failed", "The model ended with an error: out of memory.", hint,
                        **real, files=[file], warnings=["The picture was made smaller."]),
        "needs_review": ended(made, "needs_review", "needs_review", "The provider took the request and gave no answer.",
                              f"It may have been charged. rotoscope jobs resolve {NO_JOB} says how it ended.",
                              cost={"estimate_usd": 0.012, "charged_usd": None}),
        "cancelled": ended(made, "cancelled", "cancelled", "The job was cancelled before it began.",
                           "Nothing was charged: call again if it is wanted.", cost={"charged_usd": 0.0}),
    }  # fmt: skip
    for name, record in states.items():
        await chat.show("segment_image", asked, {"structuredContent": record, "content": [], "isError": True})
        await chat.app.wait_for_selector(f"main[data-status={name}]")
        seen = await text_of_page(chat)
        assert record["error"]["message"] in seen
        assert record["error"]["hint"] in seen
        assert seen.count(record["error"]["hint"]) == 1, "the next step stands there once"
        await look_at(chat, f"state-{name}", tmp_path)
    assert "Charged: nothing" in await text_of_page(chat)
    await nothing_was_refused(chat)


async def test_a_refused_call_is_shown_with_its_next_step(chat: Chat, home: Path, tmp_path: Path) -> None:
    result = await chat.show("segment_image", {"image": str(home / "none.png"), "box": BOX}, None)
    await chat.app.wait_for_selector("[role=alert]")
    assert result["isError"] is True
    said, seen = result["content"][0]["text"], " ".join((await text_of_page(chat)).split())
    code, _, words = said.partition(": ")
    assert all(part in seen for part in (code, *words.split(". ")[:1])), seen
    await look_at(chat, "state-refused", tmp_path)
    await nothing_was_refused(chat)


async def test_a_dry_run_shows_the_request_and_its_price(chat: Chat, photo: Path, tmp_path: Path) -> None:
    arguments = {"prompt": "a quiet lake at dawn", "duration": 4, "resolution": "480p", "dry_run": True}
    result = await chat.open("generate_video", arguments)
    await chat.app.wait_for_selector("pre")
    seen = await text_of_page(chat)
    assert "Price only" in seen
    assert result["planned_request"]["url"] in seen
    assert '"prompt": "a quiet lake at dawn"' in seen
    assert f"about {result['cost']['estimate_usd']:.2f}" in seen
    await look_at(chat, "state-dry-run", tmp_path)
    await nothing_was_refused(chat)


async def test_words_and_masks_of_every_kind_fit(chat: Chat, photo: Path, tmp_path: Path) -> None:
    asked = {"image": str(photo)}
    made = await chat.open("describe_with_masks", asked)
    await chat.app.wait_for_selector("[data-ready]")
    mask = made["masks"][0]
    link = {"argument": "image", "uri": made["request"]["image"], "url": "", "content_type": "image/png"}
    link["uri"] = made["overlay"]["uri"]
    base = {**made, "job_id": NO_JOB, "inputs": [link]}
    phrases = [f"thing {n}" for n in range(50)]
    states: dict[str, dict[str, Any]] = {
        "text-only": {"masks": [], "masks_total": 0, "segments": [], "overlay": None, "coco": None,
                      "text": "Two people sit on a bench. " * 12},
        "no-masks": {"masks": [], "masks_total": 0, "segments": [], "text": None, "coco": None},
        "many-masks": _described(" and ".join(phrases), phrases, mask),
        "long-phrases": _described(f"There is {PHRASE}.", [PHRASE], mask),
        "right-to-left": _described(ARABIC, ["رائد فضاء", "مكوك الفضاء"], mask),
    }  # fmt: skip
    for name, change in states.items():
        record = {**base, **change}
        if name == "right-to-left":
            record["request"] = {**record["request"], "instruction": ARABIC}
        await chat.show("describe_with_masks", asked, {"structuredContent": record, "content": []})
        await chat.app.wait_for_selector(".outcome" if name == "text-only" else "[data-ready]")
        assert await chat.app.locator("li[data-mask]").count() == len(record["masks"])
        assert await chat.app.locator(".phrase").count() == len(record["segments"])
        await look_at(chat, f"state-{name}", tmp_path)
        if name == "right-to-left":
            script = "getComputedStyle(document.querySelector('.prose')).direction"
            assert await chat.app.evaluate(script) == "rtl"
        if name == "no-masks":
            assert "No mask" in await text_of_page(chat)
    await nothing_was_refused(chat)


def _described(text: str, phrases: list[str], mask: dict[str, Any]) -> dict[str, Any]:
    """A description whose phrases all have the same mask picture."""
    segments, masks = [], []
    for index, phrase in enumerate(phrases):
        start = text.index(phrase)
        segments.append({"phrase": phrase, "start": start, "end": start + len(phrase), "mask": index})
        masks.append({**mask, "label": phrase})
    return {"text": text, "segments": segments, "masks": masks, "masks_total": len(masks)}


async def test_a_host_that_reads_no_resources_shows_pictures_by_their_address(
    chat: Chat, photo: Path, tmp_path: Path
) -> None:
    # It names no address either, but its policy lets that of the server in.
    await chat.open(
        "segment_image", {"image": str(photo), "box": BOX},
        capabilities={"message": {}}, refuses=["resources/read", "tools/call"],
    )  # fmt: skip
    await chat.app.wait_for_selector("[data-ready]")
    drawn = "document.querySelector('main canvas').getContext('2d').getImageData(250, 200, 1, 1).data[3]"
    assert await chat.app.evaluate(drawn) == 255
    seen = await text_of_page(chat)
    assert "· cannot be read here" not in seen, "masks come by their address too"
    assert "ask the assistant to correct" in seen
    assert await chat.app.get_by_role("button", name="Correct this mask").count() == 0
    await look_at(chat, "state-no-resources", tmp_path)
    await nothing_was_refused(chat)


@pytest.mark.parametrize("request_of_page", ["refuses", "silent"])
async def test_a_host_that_lets_nothing_in_shows_the_preview(
    chat: Chat, photo: Path, tmp_path: Path, request_of_page: str
) -> None:
    result = await chat.show("segment_image", {"image": str(photo), "box": BOX}, None)
    shown = await chat.page.evaluate(
        "(id) => ask('tools/call', {name: 'view_media', arguments: {uri: `job://${id}/overlay`}})",
        result["structuredContent"]["job_id"],
    )
    picture = [block for block in shown["content"] if block["type"] == "image"]
    assert len(picture) == 1
    for name, blocks in (("preview", picture), ("nothing", [])):
        await chat.show(
            "segment_image", {"image": str(photo), "box": BOX}, {**result, "content": blocks},
            capabilities={"openLinks": {}}, media=False, **{request_of_page: ["resources/read", "tools/call"]},
        )  # fmt: skip
        await chat.app.wait_for_selector("[data-ready]")
        seen = await text_of_page(chat)
        assert ("Only the small picture" in seen) == (name == "preview")
        assert ("The picture cannot be read here" in seen) == (name == "nothing")
        await look_at(chat, f"state-{name}-{request_of_page}", tmp_path)


async def test_a_host_that_lets_no_tool_be_called_says_so_of_a_running_job(
    chat: Chat, photo: Path, tmp_path: Path
) -> None:
    result = await chat.open("segment_image", {"image": str(photo), "box": BOX})
    open_job = {**result, "job_id": NO_JOB, "status": "running", "progress": 0.4, "masks": [], "overlay": None}
    shown = {"structuredContent": {**open_job, "message": "The model runs.", "expected_seconds": 80.0}, "content": []}
    await chat.show("segment_image", {}, shown, capabilities={"openLinks": {}})
    await chat.app.get_by_role("progressbar").wait_for()
    assert "ask the assistant how the job is getting on" in await text_of_page(chat)
    assert await chat.app.get_by_role("button", name="Cancel").count() == 0
    await look_at(chat, "state-no-tools", tmp_path)
    await nothing_was_refused(chat)


async def test_a_chat_that_goes_silent_is_no_blank_page(chat: Chat, photo: Path, tmp_path: Path) -> None:
    """No network: the page was loaded, and nothing that it asks is answered."""
    asked = {"image": str(photo), "box": BOX}
    await chat.show("segment_image", asked, None, silent=["ui/initialize"])
    await chat.until("/has not answered yet/.test(document.querySelector('main').innerText)")
    await look_at(chat, "state-silent", tmp_path)


FILM = {"prompt": "a quiet lake at dawn", "duration": 4, "resolution": "480p"}


@pytest.mark.parametrize("forms", [False, True], ids=["refused without a yes", "asked by a form"])
async def test_a_yes_to_a_price_takes_one_key(chat: Chat, tmp_path: Path, forms: bool) -> None:
    result = await chat.show("generate_video", FILM, None, forms=forms)
    assert "structuredContent" not in result
    yes = chat.app.get_by_role("button", name="Yes, run it")
    await yes.wait_for()
    seen = await text_of_page(chat)
    assert "0.32" in seen
    assert str(FILM["prompt"]) in seen
    await look_at(chat, f"state-price-{'form' if forms else 'refusal'}", tmp_path)
    assert await chat.seen("calls") == [], "before the yes nothing was asked"
    await yes.focus()
    await chat.page.keyboard.press("Enter")
    await chat.app.wait_for_selector("main[data-status=succeeded] [data-ready]")
    calls = await chat.seen("calls")
    paid = [one for one in calls if one["name"] == "generate_video" and not one["arguments"].get("dry_run")]
    assert len(paid) == 1
    assert len(await chat.seen("contexts")) == 1, "the assistant learns that the call runs"
    await nothing_was_refused(chat)


async def test_a_no_to_a_price_runs_nothing(chat: Chat) -> None:
    await chat.show("generate_video", FILM, None)
    await chat.app.get_by_role("button", name="No", exact=True).click()
    await chat.until("/Nothing was run or spent/.test(document.querySelector('main').innerText)")
    assert await chat.seen("calls") == []


async def test_where_no_tool_may_be_called_the_yes_is_the_next_message(chat: Chat) -> None:
    await chat.show("generate_video", FILM, None, capabilities={"message": {}})
    await chat.app.get_by_role("button", name="Yes, run it").click()
    await chat.until_seen("seen.messages.length === 1")
    await chat.show("generate_video", FILM, None, capabilities={"openLinks": {}})
    await chat.until("/Answer the assistant in the chat/.test(document.querySelector('main').innerText)")


async def test_a_film_that_no_message_carries_plays_by_its_address_or_says_where_it_is(
    chat: Chat, tmp_path: Path
) -> None:
    """Films over 8 MiB: over HTTP there is an address; over stdio a path on the person's own machine."""
    await chat.open("generate_video", {**FILM, "dry_run": True})  # whoever has seen the price is not asked
    made = await chat.open("generate_video", FILM)
    assert made["status"] == "succeeded", made
    large = {**made["video"], "file_size": 20_000_000}
    result = {"structuredContent": {**made, "job_id": NO_JOB, "video": large}, "content": []}
    await chat.show("generate_video", FILM, result)
    await chat.app.wait_for_selector("[data-ready=yes]")
    await chat.app.get_by_role("button", name="Play").click()
    await chat.until("document.querySelector('video').currentTime > 0")
    path = "/home/ada/.local/share/rotoscope/vault/ab/abcdef0123456789abcdef0123456789abcdef0123456789.mp4"
    here = {**large, "url": f"file://{path}", "path": path}
    result["structuredContent"] = {**made, "job_id": NO_JOB, "video": here}
    await chat.show("generate_video", FILM, result)
    await chat.app.wait_for_selector("[data-ready=strip]")
    seen = " ".join((await text_of_page(chat)).split())
    assert "20.0 MB" in seen
    assert f"File: {path}" in seen
    assert f"rotoscope view {NO_JOB}" in seen
    for n in (0, 1):
        drawn = f"(([canvas]) => canvas.width)([document.querySelectorAll('main canvas')[{n}]])"
        assert await chat.app.evaluate(drawn) > 100, "poster and filmstrip stand in"
    await look_at(chat, "state-large-film", tmp_path)
    await nothing_was_refused(chat)
