"""fal's wire, driven by fal's own client over a loopback socket where it can say what is meant."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import fal_client
import fal_client.client
import httpx  # noqa: TID251 - the tests speak to the sandbox as any client would
import numpy as np
import pytest
from engine_media import make_scenery
from fal_client.client import FalClientHTTPError
from numpy.typing import NDArray

from rotoscope_sandbox import Sandbox, build_sandbox
from rotoscope_sandbox.serving import serve_in_thread
from rotoscope_sandbox.weights import MISSING_NOTICE

DESCRIBE = "fal-ai/sa2va/8b/image"
SAM2 = "fal-ai/sam2/image"


@pytest.fixture
def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The base URL of a sandbox on a free port; fal's client is pointed at it by its module's globals."""
    with serve_in_thread(build_sandbox(folder, pace=0)) as base:
        monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{base}/")
        monkeypatch.setattr(fal_client.client, "RUN_URL_FORMAT", f"{base}/sync/")
        monkeypatch.setattr(fal_client.client, "REST_URL", base)
        monkeypatch.setattr(fal_client.client, "CDN_URL", base)
        yield base


@pytest.fixture
def official(served: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[fal_client.SyncClient]:
    """fal's client; it never closes its connections, so they are closed for it."""
    assert served
    opened: list[httpx.Client] = []
    open_cdn_client = fal_client.SyncClient._get_cdn_client

    def remembered(client: fal_client.SyncClient) -> httpx.Client:
        opened.append(open_cdn_client(client))
        return opened[-1]

    monkeypatch.setattr(fal_client.SyncClient, "_get_cdn_client", remembered)
    client = fal_client.SyncClient(key="test:key")
    yield client
    for one in (*opened, client._client):
        one.close()


def test_submit_follow_and_fetch_as_fals_own_client_does(official: fal_client.SyncClient, scene: Any) -> None:
    handle = official.submit(DESCRIBE, {"prompt": "describe", "image_url": scene.uri})
    events = list(handle.iter_events(with_logs=True))
    assert isinstance(events[-1], fal_client.Completed)
    assert events[-1].error is None
    messages = [line["message"] for line in events[-1].logs or []]
    assert messages[0] == "dividing the picture into areas"
    output = handle.get()
    assert len(output["masks"]) == output["output"].count("[SEG]") > 0
    assert output["masks"][0]["url"].startswith("http://127.0.0.1:")


def test_subscribe_and_run_give_the_same_answer(official: fal_client.SyncClient, scene: Any) -> None:
    given = {"image_url": scene.uri, "prompts": [{"x": 190, "y": 110, "label": 1}]}
    queued, direct = official.subscribe(SAM2, given), official.run(SAM2, given)
    assert queued["sandbox"] == direct["sandbox"]
    assert queued["image"]["file_size"] == direct["image"]["file_size"]


def test_fals_own_client_gets_run_lengths_of_every_frame_or_of_each_object(
    official: fal_client.SyncClient, tmp_path: Path
) -> None:
    scenery = make_scenery(tmp_path / "clip.mp4")
    video = official.upload_file(scenery.path)
    box = {"x_min": 46, "y_min": 28, "x_max": 82, "y_max": 66, "frame_index": 5}
    merged = official.subscribe("fal-ai/sam-3/video-rle", {"video_url": video, "prompt": "", "box_prompts": [box]})
    assert (len(merged["rle"]), len(merged["boxes"]), len(merged["metadata"])) == (13, 13, 13)
    starts = [int(number) for number in merged["rle"][5].split()[::2]]
    assert starts == sorted(starts)
    assert {(start - 1) // 160 for start in starts} >= set(range(36, 60)), "a run in each row of the disc"
    apart = official.subscribe("fal-ai/sam-3/video-rle-objects", {"video_url": video, "prompt": "disc"})
    assert (apart["width"], apart["height"], apart["num_frames"]) == (160, 96, 13)
    assert [frame["frame_index"] for frame in apart["frames"]] == list(range(13))
    assert {one["track_id"] for frame in apart["frames"] for one in frame["objects"]} >= {0}
    film = official.subscribe("fal-ai/sam2/video", {"video_url": video, "box_prompts": [box]})
    assert film["video"]["content_type"] == "video/mp4"


@pytest.mark.parametrize("repository", ["fal_v3", "fal"])
def test_an_uploaded_picture_can_be_an_input(
    official: fal_client.SyncClient, scene: Any, repository: Literal["fal_v3", "fal"]
) -> None:
    """Both of fal's storage flows: the CDN with its token, and the upload URL that takes a PUT."""
    url = official.upload(scene.png, "image/png", "photo.png", repository=repository)
    assert url.endswith(".png")
    output = official.subscribe(SAM2, {"image_url": url, "prompts": [{"x": 190, "y": 110}]})
    assert (output["image"]["width"], output["image"]["height"]) == (320, 240)


def test_a_large_file_is_uploaded_in_parts_by_fals_own_client(
    official: fal_client.SyncClient, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above a size, the client begins an upload, sends numbered parts and completes it with their etags."""
    monkeypatch.setattr(fal_client.client, "MULTIPART_THRESHOLD", 1000)
    monkeypatch.setattr(fal_client.client, "MULTIPART_CHUNK_SIZE", 4000)
    content = np.random.default_rng(1).bytes(10_000)
    url = official.upload(content, "video/mp4", "clip.mp4", repository="fal_v3")
    assert url.startswith(f"{served}/files/")
    assert url.endswith(".mp4")
    assert httpx.get(url).content == content


def test_a_wrong_input_is_a_422_with_a_list_of_what_is_wrong(official: fal_client.SyncClient) -> None:
    with pytest.raises(FalClientHTTPError) as caught:
        official.submit(DESCRIBE, {"prompt": "describe"})
    assert caught.value.status_code == 422


def test_a_second_cancel_is_refused_because_the_request_is_complete(
    official: fal_client.SyncClient, scene: Any
) -> None:
    handle = official.submit(DESCRIBE, {"prompt": "describe", "image_url": scene.uri})
    handle.get()
    with pytest.raises(FalClientHTTPError) as caught:
        handle.cancel()
    assert caught.value.status_code == 400


async def submitted(client: httpx.AsyncClient, model: str = SAM2, **given: Any) -> dict[str, Any]:
    reply = await client.post(f"/{model}", json=given)
    assert reply.status_code == 200, reply.text
    accepted: dict[str, Any] = reply.json()
    return accepted


@pytest.mark.anyio
async def test_positions_go_2_1_0_then_the_request_runs_then_completes(
    slow_app: Sandbox, ask: Callable[..., Any], clock: Any, scene: Any, finish: Callable[..., None]
) -> None:
    async with ask(slow_app, "fal") as client:
        accepted = await submitted(client, image_url=scene.uri, prompts=[{"x": 190, "y": 110}])
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", accepted["request_id"])
        assert accepted["status_url"].endswith(f"/fal-ai/sam2/requests/{accepted['request_id']}/status")
        finish(slow_app, accepted["request_id"])
        seen = []
        for step in (0.01, 0.1, 0.1, 0.1, 0.4, 0.2):
            clock.now += step
            reply = await client.get(accepted["status_url"], params={"logs": "1"})
            assert reply.headers["x-fal-request-id"] == accepted["request_id"]
            seen.append((reply.status_code, reply.json()["status"], reply.json()["queue_position"]))
            assert "logs" in reply.json()
        assert seen == [
            (202, "IN_QUEUE", 2),
            (202, "IN_QUEUE", 1),
            (202, "IN_QUEUE", 0),
            (202, "IN_PROGRESS", 0),
            (202, "IN_PROGRESS", 0),
            (200, "COMPLETED", 0),
        ]


@pytest.mark.anyio
async def test_a_result_that_is_not_there_yet_is_a_400(slow_app: Sandbox, ask: Callable[..., Any], scene: Any) -> None:
    async with ask(slow_app, "fal") as client:
        accepted = await submitted(client, image_url=scene.uri, prompts=[{"x": 190, "y": 110}])
        reply = await client.get(accepted["response_url"])
    assert (reply.status_code, reply.json()["detail"]) == (400, "Request is still in progress")


@pytest.mark.anyio
async def test_a_canceled_request_completes_with_the_error_for_it(
    slow_app: Sandbox, ask: Callable[..., Any], scene: Any
) -> None:
    async with ask(slow_app, "fal") as client:
        queued = await submitted(client, image_url=scene.uri, prompts=[{"x": 190, "y": 110}])
        first = await client.put(queued["cancel_url"])
        second = await client.put(queued["cancel_url"])
        assert (first.status_code, first.json()) == (200, {"status": "OK"})
        assert (second.status_code, second.json()) == (400, {"status": "ALREADY_COMPLETED"})
        status = (await client.get(queued["status_url"])).json()
        assert (status["status"], status["error_type"]) == ("COMPLETED", "client_cancelled")
        assert (await client.get(queued["response_url"])).status_code == 499
        unknown = await client.put("/fal-ai/sam2/requests/0b9a1f6e-0000-4000-8000-000000000000/cancel")
        assert (unknown.status_code, unknown.json()) == (404, {"status": "NOT_FOUND"})


@pytest.mark.anyio
async def test_canceling_a_running_request_is_a_signal(
    slow_app: Sandbox, ask: Callable[..., Any], clock: Any, scene: Any, finish: Callable[..., None]
) -> None:
    async with ask(slow_app, "fal") as client:
        accepted = await submitted(client, image_url=scene.uri, prompts=[{"x": 190, "y": 110}])
        finish(slow_app, accepted["request_id"])
        clock.now += 0.4
        reply = await client.put(accepted["cancel_url"])
    assert (reply.status_code, reply.json()) == (202, {"status": "CANCELLATION_REQUESTED"})


@pytest.mark.anyio
async def test_a_remote_picture_is_not_fetched_and_the_result_says_so(fal: httpx.AsyncClient) -> None:
    accepted = await submitted(fal, image_url="https://example.com/cat.png", box_prompts=[{}])
    status = (await fal.get(accepted["status_url"])).json()
    assert (status["status"], status["error_type"]) == ("COMPLETED", "file_download_error")
    reply = await fal.get(accepted["response_url"])
    assert reply.status_code == 422
    wrong = reply.json()["detail"][0]
    assert (wrong["loc"], wrong["type"]) == (["body", "image_url"], "file_download_error")
    assert "does not fetch remote pictures" in wrong["msg"]


@pytest.mark.anyio
async def test_boxes_and_points_select_and_take_away(
    fal: httpx.AsyncClient,
    scene: Any,
    opened_mask: Callable[[bytes], NDArray[np.bool_]],
    likeness: Callable[..., float],
) -> None:
    left, top, right, bottom = scene.box
    box = {"x_min": left - 4, "y_min": top - 4, "x_max": right + 4, "y_max": bottom + 4}
    accepted = await submitted(fal, image_url=scene.uri, box_prompts=[box], prompts=[{"x": 10, "y": 10, "label": 0}])
    output = (await fal.get(accepted["response_url"])).json()
    image = output["image"]
    content = (await fal.get(image["url"])).content
    mask = opened_mask(content)
    assert (image["content_type"], image["width"], image["height"]) == ("image/png", 320, 240)
    assert image["file_size"] == len(content)
    assert likeness(mask, scene.mask) > 0.95
    assert output["sandbox"]["method"] == "grabcut from a box"
    assert output["sandbox"]["notice"] == MISSING_NOTICE


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_apply_mask_paints_the_mask_on_the_picture(fal: httpx.AsyncClient, scene: Any, kind: str) -> None:
    accepted = await submitted(
        fal, image_url=scene.uri, prompts=[{"x": 190, "y": 110}], apply_mask=True, output_format=kind
    )
    image = (await fal.get(accepted["response_url"])).json()["image"]
    reply = await fal.get(image["url"])
    assert reply.headers["content-type"] == image["content_type"] == f"image/{kind}"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "given",
    [
        {"prompts": [{"x": 999, "y": 1}]},
        {"prompts": [{"x": 9}]},
        {"prompts": [{"x": 9, "y": 9, "label": 0}]},
        {"box_prompts": [{"x_min": 9, "y_min": 9, "x_max": 9, "y_max": 30}]},
        {"box_prompts": [{"x_min": 9}]},
    ],
)
async def test_points_and_boxes_that_mean_nothing_are_refused_in_words(
    fal: httpx.AsyncClient, scene: Any, given: dict[str, Any]
) -> None:
    accepted = await submitted(fal, image_url=scene.uri, **given)
    reply = await fal.get(accepted["response_url"])
    assert reply.status_code == 422
    assert "prompts" in reply.json()["detail"][0]["loc"][1]


@pytest.mark.anyio
async def test_sam2_needs_a_point_or_a_box(fal: httpx.AsyncClient, scene: Any) -> None:
    reply = await fal.post(f"/{SAM2}", json={"image_url": scene.uri, "apply_mask": "yes"})
    assert [row["type"] for row in reply.json()["detail"]] == ["boolean_type"]
    reply = await fal.post(f"/{SAM2}", json={"image_url": scene.uri})
    assert (reply.status_code, reply.json()["detail"][0]["type"]) == (422, "missing")


@pytest.mark.anyio
async def test_every_segment_of_a_description_has_its_mask_in_order(
    fal: httpx.AsyncClient, scene: Any, opened_mask: Callable[[bytes], NDArray[np.bool_]]
) -> None:
    """Source: seed document of fal-ai/sa2va/8b/image; the text's spaces are its own."""
    accepted = await submitted(fal, DESCRIBE, image_url=scene.uri, prompt="What is there?")
    output = (await fal.get(accepted["response_url"])).json()
    assert output["output"].endswith("<|im_end|>")
    phrases = re.findall(r"<p>  (.+?)  </p>   \[SEG\] ", output["output"])
    assert len(phrases) == len(output["masks"]) >= 2
    for phrase, image in zip(phrases, output["masks"], strict=True):
        mask = opened_mask((await fal.get(image["url"])).content)
        assert f"({max(1, round(mask.mean() * 100))}% of the image)" in phrase
        assert " area " in phrase
    assert "understood no word" in output["sandbox"]["notice"]


@pytest.mark.anyio
async def test_the_status_stream_ends_with_completed(fal: httpx.AsyncClient, scene: Any) -> None:
    accepted = await submitted(fal, image_url=scene.uri, prompts=[{"x": 190, "y": 110}])
    reply = await fal.get(f"{accepted['status_url']}/stream")
    assert reply.text.startswith("data: ")
    assert '"COMPLETED"' in reply.text


@pytest.mark.anyio
async def test_what_did_not_start_in_time_is_a_504(
    slow_app: Sandbox, ask: Callable[..., Any], clock: Any, scene: Any
) -> None:
    async with ask(slow_app, "fal") as client:
        given = {"image_url": scene.uri, "prompts": [{"x": 190, "y": 110}]}
        accepted = (await client.post(f"/{SAM2}", json=given, headers={"x-fal-request-timeout": "0.1"})).json()
        clock.now += 1
        reply = await client.get(accepted["response_url"])
    assert reply.status_code == 504
    assert reply.headers["x-fal-request-timeout-type"] == "user"
    assert reply.json()["error_type"] == reply.headers["x-fal-error-type"] == "request_timeout"


@pytest.mark.anyio
async def test_what_was_submitted_can_be_listed_with_its_input(fal: httpx.AsyncClient, scene: Any, clock: Any) -> None:
    old = await submitted(fal, image_url=scene.uri, prompts=[{"x": 1, "y": 1}])
    clock.now += 100
    new = await submitted(fal, image_url=scene.uri, prompts=[{"x": 2, "y": 2}])
    path = "/v1/models/requests/by-endpoint"
    bare = (await fal.get(path, params={"endpoint_id": SAM2, "limit": 1})).json()
    assert {"json_input", "json_output"}.isdisjoint(bare["items"][0])
    body = (await fal.get(path, params={"endpoint_id": SAM2, "limit": 1, "expand": "payloads"})).json()
    assert [row["request_id"] for row in body["items"]] == [new["request_id"]]
    assert body["items"][0]["json_input"]["prompts"] == [{"x": 2, "y": 2}]
    more = (await fal.get(path, params={"endpoint_id": SAM2, "cursor": body["next_cursor"]})).json()
    assert [row["request_id"] for row in more["items"]] == [old["request_id"]]
    since = (await fal.get(path, params={"endpoint_id": SAM2, "start": "2100-01-01T00:00:00Z"})).json()
    assert since["items"] == []


@pytest.mark.anyio
async def test_unknown_applications_requests_and_callers_are_refused(
    app: Sandbox, fal: httpx.AsyncClient, ask: Callable[..., Any]
) -> None:
    assert (await fal.post("/fal-ai/unknown", json={})).status_code == 404
    assert (await fal.get("/fal-ai/sam2/requests/unknown-request-id-0000/status")).status_code == 404
    async with ask(app) as nobody:
        reply = await nobody.post(f"/{SAM2}", json={})
    assert reply.status_code == 401
    assert "detail" in reply.json()
    assert reply.headers["x-fal-request-id"]
