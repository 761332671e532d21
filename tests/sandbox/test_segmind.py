"""Segmind's wire: v1 answers with the picture, v2 is asked about."""

import base64
import io
from collections.abc import Callable
from typing import Any

import httpx  # noqa: TID251 - the tests speak to the sandbox as any client would
import numpy as np
import pytest
from PIL import Image

from rotoscope_sandbox import Sandbox
from rotoscope_sandbox.weights import MISSING_NOTICE

pytestmark = pytest.mark.anyio

SLUG = "sam-v2-image"
CLICK = {"prompt": "", "coordinates": "[190,110]"}


def pixels(content: bytes) -> Any:
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "JPEG"
        return np.asarray(picture)


async def test_v1_answers_with_a_jpeg_and_has_in_headers_how_the_mask_was_made(
    segmind: httpx.AsyncClient, scene: Any, likeness: Callable[..., float]
) -> None:
    reply = await segmind.post(f"/v1/{SLUG}", json={"image": scene.uri, "overlay_mask": False, **CLICK})
    assert (reply.status_code, reply.headers["content-type"]) == (200, "image/jpeg")
    assert likeness(pixels(reply.content) > 127, scene.mask) > 0.95
    assert reply.headers["x-sandbox-method"].startswith("merge tree")
    assert 0 < float(reply.headers["x-sandbox-confidence"]) <= 0.9
    assert reply.headers["x-sandbox-notice"] == MISSING_NOTICE
    assert {"x-request-id", "x-remaining-credits", "x-generation-time"} <= set(reply.headers)


async def test_overlay_mask_paints_and_is_the_default(segmind: httpx.AsyncClient, scene: Any) -> None:
    raw = base64.b64encode(scene.png).decode()
    reply = await segmind.post(f"/v1/{SLUG}", json={"image": raw, **CLICK})
    assert pixels(reply.content).shape == (240, 320, 3)


async def test_base64_answers_with_json(segmind: httpx.AsyncClient, scene: Any) -> None:
    given = {"image": scene.uri, "base64": True, "overlay_mask": False, **CLICK}
    reply = await segmind.post(f"/v1/{SLUG}", json=given)
    assert pixels(base64.b64decode(reply.json()["image"])).shape == (240, 320)


async def test_a_prompt_wins_over_coordinates_and_is_not_understood(segmind: httpx.AsyncClient, scene: Any) -> None:
    """Source: Segmind's page: coordinates are ignored when a prompt is given."""
    given = {"image": scene.uri, "prompt": "boy", "coordinates": "[1,1]"}
    reply = await segmind.post(f"/v1/{SLUG}", json=given)
    assert reply.headers["x-sandbox-method"].startswith("salience")
    assert "understood no word" in reply.headers["x-sandbox-notice"]
    assert float(reply.headers["x-sandbox-confidence"]) <= 0.25


async def test_coordinates_that_remove_take_a_part_away(segmind: httpx.AsyncClient, scene: Any) -> None:
    given = {"image": scene.uri, "overlay_mask": False, "coordinates": "[[190,110],[20,20]]"}
    both = pixels((await segmind.post(f"/v1/{SLUG}", json=given)).content) > 127
    fewer = await segmind.post(f"/v1/{SLUG}", json=given | {"remove_coordinates": "[300,220]"})
    assert both[20, 20]
    assert (pixels(fewer.content) > 127).sum() < both.sum()
    assert not pixels(fewer.content)[220, 300] > 127


async def test_a_form_with_a_file_is_as_good_as_json(segmind: httpx.AsyncClient, scene: Any) -> None:
    reply = await segmind.post(
        f"/v1/{SLUG}",
        data={"coordinates": "[190,110]", "overlay_mask": "false"},
        files={"image": ("a.png", scene.png, "image/png")},
    )
    assert pixels(reply.content).shape == (240, 320)


async def test_v2_is_queued_then_processing_then_completed(
    slow_app: Sandbox, ask: Callable[..., Any], clock: Any, scene: Any, finish: Callable[..., None]
) -> None:
    async with ask(slow_app, "segmind") as client:
        accepted = (await client.post(f"/v2/{SLUG}", json={"image": scene.uri, **CLICK})).json()
        assert accepted["status"] == "QUEUED"
        finish(slow_app, accepted["request_id"])
        seen = []
        for step in (0.1, 0.4, 0.5):
            clock.now += step
            seen.append((await client.get(accepted["status_url"])).json()["status"])
        assert seen == ["QUEUED", "PROCESSING", "COMPLETED"]
        body = (await client.get(accepted["response_url"])).json()
        picture = await client.get(body["output"]["image"])
    assert body["metrics"]["inference_time"] == pytest.approx(0.5)
    assert body["metrics"]["cost"] == pytest.approx(0.5 * 0.00104)
    assert body["output"]["sandbox"]["method"].startswith("merge tree")
    assert pixels(picture.content).shape == (240, 320, 3)


async def test_a_failed_v2_request_is_an_ordinary_body_under_422(segmind: httpx.AsyncClient) -> None:
    given = {"image": "https://example.com/boy.jpg", "prompt": "boy"}
    accepted = (await segmind.post(f"/v2/{SLUG}", json=given)).json()
    for url in (accepted["status_url"], accepted["response_url"]):
        reply = await segmind.get(url)
        assert (reply.status_code, reply.json()["status"]) == (422, "FAILED")
        assert "does not fetch remote pictures" in reply.json()["error"]
    direct = await segmind.post(f"/v1/{SLUG}", json=given)
    assert direct.status_code == 400
    assert "does not fetch" in direct.json()["error"]


async def test_a_v2_record_lives_one_hour(segmind: httpx.AsyncClient, scene: Any, clock: Any) -> None:
    accepted = (await segmind.post(f"/v2/{SLUG}", json={"image": scene.uri, **CLICK})).json()
    assert (await segmind.get(accepted["response_url"])).status_code == 200
    clock.now += 3600
    assert (await segmind.get(accepted["response_url"])).status_code == 404


async def test_history_shows_both_forms_with_what_was_sent(segmind: httpx.AsyncClient, scene: Any) -> None:
    await segmind.post(f"/v1/{SLUG}", json={"image": scene.uri, **CLICK})
    accepted = (await segmind.post(f"/v2/{SLUG}", json={"image": scene.uri, "prompt": "boy"})).json()
    await segmind.get(accepted["response_url"])
    path = "/inference-request/request-history"
    rows = (await segmind.get(path, params={"model_name": SLUG, "per_page": 5})).json()["data"]
    assert [row["request_body"]["prompt"] for row in rows] == ["boy", ""]
    assert {row["model_status"] for row in rows} == {"COMPLETED"}
    assert all(row["generation_url"].endswith(".jpg") for row in rows)
    assert (await segmind.get(f"{path}/{accepted['request_id']}")).json()["request_id"] == accepted["request_id"]
    assert (await segmind.get(path, params={"to_date": "2001-01-01"})).json()["data"] == []
    assert (await segmind.get(path, params={"from_date": "soon"})).status_code == 400


async def test_an_uploaded_asset_can_be_an_input(segmind: httpx.AsyncClient, scene: Any) -> None:
    urls = (await segmind.post("/upload-asset", json={"data_urls": [scene.uri]})).json()["file_urls"]
    reply = await segmind.post(f"/v1/{SLUG}", json={"image": urls[0], **CLICK})
    assert reply.status_code == 200
    assert (await segmind.post("/upload-asset", json={"data_urls": ["data:image/png;base64,?"]})).status_code == 400
    assert (await segmind.post("/upload-asset", json={})).status_code == 400


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"coordinates": "[1,1]"}, "image"),
        ({"image": "aGVsbG8="}, "prompt"),
        ({"image": "aGVsbG8=", "prompt": "x"}, "PNG, JPEG or WEBP"),
        ({"image": "not base64!", "prompt": "x"}, "base64"),
        ({"image": 7, "prompt": "x"}, "image"),
    ],
)
async def test_bad_input_is_a_400_with_one_error_text(
    segmind: httpx.AsyncClient, given: dict[str, Any], word: str
) -> None:
    reply = await segmind.post(f"/v1/{SLUG}", json=given)
    assert reply.status_code == 400
    assert word in reply.json()["error"]


@pytest.mark.parametrize("coordinates", ["190,110", "[190]", '["a","b"]', "[[1,1],2]", "{}", "7", "[999,1]"])
async def test_coordinates_in_another_form_are_a_400(segmind: httpx.AsyncClient, scene: Any, coordinates: str) -> None:
    reply = await segmind.post(f"/v1/{SLUG}", json={"image": scene.uri, "coordinates": coordinates})
    assert reply.status_code == 400


async def test_refusals_have_segminds_shapes(app: Sandbox, segmind: httpx.AsyncClient, ask: Callable[..., Any]) -> None:
    wrong_method = await segmind.get(f"/v1/{SLUG}")
    assert (wrong_method.status_code, wrong_method.headers["content-type"].split(";")[0]) == (405, "text/html")
    wrong_type = await segmind.post(f"/v1/{SLUG}", content=b"x", headers={"content-type": "text/plain"})
    assert wrong_type.status_code == 406
    assert "Content-Type" in wrong_type.json()["error"]
    assert (await segmind.post("/v1/unknown-model", json={})).json().keys() == {"error"}
    async with ask(app) as nobody:
        reply = await nobody.post(f"/v1/{SLUG}", json={})
    assert (reply.status_code, set(reply.json())) == (401, {"error"})
    assert app.state.accepted == []
