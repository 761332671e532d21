"""Replicate's wire, driven by Replicate's own client where it can say what is meant."""

import base64
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx  # noqa: TID251 - the official client takes an httpx transport
import numpy as np
import pytest
from numpy.typing import NDArray
from replicate.client import Client
from replicate.exceptions import ReplicateError

from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio

MODEL = "bytedance/sa2va-4b-image"
VERSION = "ccf8e58352ce5b2a6cbf5cb68b947ca3bc62009ce66e82071eeae14555414411"
BASE = "https://sandbox.invalid"


def client_of(app: Sandbox, base: str = BASE) -> Client:
    return Client(api_token="r8_test", base_url=base, transport=httpx.ASGITransport(app))


def mentioned(folder: Path, word: bytes) -> bool:
    return any(word in place.read_bytes() for place in folder.rglob("*") if place.is_file())


@pytest.fixture
def given(scene: Any) -> dict[str, Any]:
    return {"image": scene.uri, "instruction": "segment the ball"}


async def test_run_by_version_gives_the_mask_of_the_picture_and_the_models_answer(
    app: Sandbox,
    given: dict[str, Any],
    scene: Any,
    opened_mask: Callable[[bytes], NDArray[np.bool_]],
    likeness: Callable[..., float],
) -> None:
    """The official client's `run` asks for the version's schema as well."""
    output: Any = await client_of(app).async_run(f"{MODEL}:{VERSION}", given)
    assert output["response"] == "Sure, [SEG].<|end|>"
    mask = opened_mask(await output["img"].aread())
    assert mask.shape == scene.mask.shape
    assert likeness(mask, scene.mask) > 0.8


async def test_words_are_answered_with_low_confidence_and_a_notice(app: Sandbox, given: dict[str, Any]) -> None:
    output: Any = await client_of(app).async_run(f"{MODEL}:{VERSION}", given, use_file_output=False)
    assert output["sandbox"]["confidence"] <= 0.25
    assert "understood no word" in output["sandbox"]["notice"]
    assert "box or points" in output["sandbox"]["notice"]


async def test_a_prediction_starts_then_runs_then_succeeds_as_time_passes(
    slow_app: Sandbox, given: dict[str, Any], clock: Any, finish: Callable[..., None]
) -> None:
    predictions = client_of(slow_app).predictions
    created = await predictions.async_create(VERSION, given)
    assert (created.status, created.logs, created.output) == ("starting", "", None)
    finish(slow_app, created.id)
    clock.now += 0.4
    assert (await predictions.async_get(created.id)).status == "processing"
    clock.now += 0.5
    done = await predictions.async_get(created.id)
    assert done.status == "succeeded"
    assert done.progress is None or done.progress.percentage <= 1
    assert done.logs is not None
    assert "propagate in video: 100%|" in done.logs
    assert done.metrics is not None
    assert done.metrics["predict_time"] == pytest.approx(0.5)


async def test_an_id_has_26_lower_case_letters_and_digits(app: Sandbox, given: dict[str, Any]) -> None:
    created = await client_of(app).predictions.async_create(f"{MODEL}:{VERSION}", given)
    assert len(created.id) == 26
    assert created.id.islower() or created.id.isdigit()
    assert created.id.isalnum()
    assert (created.model, created.version) == (MODEL, VERSION)


async def test_a_canceled_prediction_stays_canceled_and_a_second_cancel_changes_nothing(
    slow_app: Sandbox, given: dict[str, Any], clock: Any, finish: Callable[..., None]
) -> None:
    predictions = client_of(slow_app).predictions
    created = await predictions.async_create(VERSION, given)
    canceled = await predictions.async_cancel(created.id)
    assert canceled.status == "canceled"
    finish(slow_app, created.id)
    clock.now += 5
    again = await predictions.async_cancel(created.id)
    assert (again.status, again.completed_at, again.output) == ("canceled", canceled.completed_at, None)


async def test_canceling_what_succeeded_returns_it_unchanged(app: Sandbox, given: dict[str, Any]) -> None:
    predictions = client_of(app).predictions
    created = await predictions.async_create(VERSION, given)
    done = await predictions.async_get(created.id)
    unchanged = await predictions.async_cancel(created.id)
    assert unchanged.status == done.status == "succeeded"
    assert unchanged.output == done.output is not None


async def test_an_uploaded_file_can_be_an_input(app: Sandbox, scene: Any) -> None:
    client = client_of(app)
    upload = await client.files.async_create(io.BytesIO(scene.png), filename="a.png", metadata={"job": "7"})
    assert (upload.size, upload.metadata) == (len(scene.png), {"job": "7"})
    assert [one.id for one in await client.files.async_list()] == [upload.id]
    output: Any = await client.async_run(f"{MODEL}:{VERSION}", {"image": upload.urls["get"], "instruction": "ball"})
    assert output["img"] is not None
    await client.files.async_delete(upload.id)
    with pytest.raises(ReplicateError, match="404"):
        await client.files.async_get(upload.id)


async def test_an_output_can_be_the_input_of_the_next_prediction(app: Sandbox, given: dict[str, Any]) -> None:
    client = client_of(app)
    first: Any = await client.async_run(f"{MODEL}:{VERSION}", given, use_file_output=False)
    second: Any = await client.async_run(
        f"{MODEL}:{VERSION}", given | {"image": first["img"].replace("sandbox.invalid", "elsewhere.invalid")}
    )
    assert second["img"] is not None


async def test_a_remote_picture_is_not_fetched_and_the_failure_says_so(app: Sandbox) -> None:
    predictions = client_of(app).predictions
    given = {"image": "https://example.com/cat.png", "instruction": "cat"}
    created = await predictions.async_create(VERSION, given)
    failed = await predictions.async_get(created.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert "does not fetch remote pictures" in failed.error


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\nbroken"])
async def test_what_is_no_picture_fails_in_words(app: Sandbox, content: bytes) -> None:
    """Untrusted bytes meet Pillow only, which is limited to three formats."""
    predictions = client_of(app).predictions
    image = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    created = await predictions.async_create(VERSION, {"image": image, "instruction": "x"})
    failed = await predictions.async_get(created.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert "picture" in failed.error


async def test_the_list_is_newest_first_and_filters_by_time(
    app: Sandbox, given: dict[str, Any], clock: Any, ask: Callable[..., Any]
) -> None:
    client = client_of(app)
    old = await client.predictions.async_create(VERSION, given)
    clock.now += 60
    new = [await client.predictions.async_create(VERSION, given | {"instruction": str(n)}) for n in range(2)]
    page = await client.predictions.async_list()
    assert [one.id for one in page.results] == [new[1].id, new[0].id, old.id]
    since = datetime.fromtimestamp(clock.now - 30, UTC).isoformat()
    async with ask(app, "replicate") as raw:
        body = (await raw.get("/v1/predictions", params={"created_after": since})).json()
    assert (body["next"], body["previous"]) == (None, None)
    assert [row["input"]["instruction"] for row in body["results"]] == ["1", "0"]
    assert {row["source"] for row in body["results"]} == {"api"}


async def test_a_long_list_comes_in_pages_with_absolute_links(app: Sandbox, ask: Callable[..., Any]) -> None:
    bad = {"image": "https://example.com/x.png", "instruction": "x"}
    async with ask(app, "replicate") as raw:
        for _ in range(101):
            await raw.post("/v1/predictions", json={"version": VERSION, "input": bad})
        first = (await raw.get("/v1/predictions")).json()
        assert len(first["results"]) == 100
        assert first["next"].startswith(f"{BASE}/v1/predictions?")
        second = (await raw.get(first["next"])).json()
        assert len(second["results"]) == 1
        assert second["next"] is None
        assert second["previous"] is not None


async def test_the_gateway_takes_a_community_model_by_its_path_and_points_its_urls_elsewhere(
    app: Sandbox, given: dict[str, Any], ask: Callable[..., Any]
) -> None:
    """Source: the gateway document; its urls name api.replicate.com, where its key must not go."""
    created = await client_of(app, f"{BASE}/replicate").models.predictions.async_create(MODEL, given)
    assert created.urls is not None
    assert created.urls["get"].startswith("https://api.replicate.com/v1/predictions/")
    async with ask(app, "replicate") as raw:
        reply = await raw.post(f"/replicate/v1/models/{MODEL}/predictions", json={"input": given})
        assert reply.status_code == 200
        got = (await raw.get(f"/replicate/v1/predictions/{created.id}")).json()
    assert got["status"] == "succeeded"
    assert got["output"]["img"].startswith(f"{BASE}/outputs/")


async def test_replicate_itself_runs_a_community_model_only_by_version(
    app: Sandbox, given: dict[str, Any], ask: Callable[..., Any]
) -> None:
    async with ask(app, "replicate") as raw:
        by_path = await raw.post(f"/v1/models/{MODEL}/predictions", json={"input": given})
        by_name = await raw.post("/v1/predictions", json={"version": MODEL, "input": given})
    assert (by_path.status_code, by_name.status_code) == (404, 422)
    assert by_name.json()["title"] == "Invalid version or not permitted"
    assert app.state.accepted == []


@pytest.mark.parametrize("model", ["bytedance/seedance-9.9", "nobody/nothing"])
async def test_an_unknown_model_is_not_found(app: Sandbox, model: str, ask: Callable[..., Any]) -> None:
    async with ask(app, "replicate") as raw:
        reply = await raw.post(f"/v1/models/{model}/predictions", json={"input": {"prompt": "x"}})
    assert reply.status_code == 404
    assert reply.json()["status"] == 404


async def test_a_missing_input_is_refused_before_anything_is_accepted(app: Sandbox, ask: Callable[..., Any]) -> None:
    async with ask(app, "replicate") as raw:
        reply = await raw.post("/v1/predictions", json={"version": VERSION, "input": {"instruction": 7}})
    body = reply.json()
    assert reply.status_code == body["status"] == 422
    assert {"title", "detail", "status"} <= body.keys()
    assert {row["field"] for row in body["invalid_fields"]} == {"input", "input.instruction"}
    assert app.state.accepted == []


async def test_without_a_key_nothing_is_answered(app: Sandbox, ask: Callable[..., Any]) -> None:
    async with ask(app) as raw:
        reply = await raw.post("/v1/predictions", json={"version": VERSION, "input": {}})
    assert reply.status_code == 401
    assert reply.json()["title"] == "Unauthenticated"


async def test_a_wait_that_runs_out_is_answered_with_starting_and_one_that_suffices_with_the_output(
    app: Sandbox, given: dict[str, Any], ask: Callable[..., Any]
) -> None:
    async with ask(app, "replicate") as raw:
        body = {"version": VERSION, "input": given}
        waited = await raw.post("/v1/predictions", json=body, headers={"prefer": "wait"})
    assert waited.status_code == 201
    assert waited.json()["output"]["img"].startswith("https:")


async def test_a_deadline_stops_a_prediction_that_has_not_started(
    slow_app: Sandbox, given: dict[str, Any], clock: Any, ask: Callable[..., Any]
) -> None:
    """Replicate: a deadline before the start is `aborted`, and not charged."""
    async with ask(slow_app, "replicate") as raw:
        body = {"version": VERSION, "input": given}
        created = (await raw.post("/v1/predictions", json=body, headers={"cancel-after": "0s"})).json()
        assert created["deadline"] is not None
        clock.now += 10
        assert (await raw.get(f"/v1/predictions/{created['id']}")).json()["status"] == "aborted"
        wrong = await raw.post("/v1/predictions", json=body, headers={"cancel-after": "soon"})
        assert wrong.status_code == 400


async def test_one_hour_after_its_end_a_prediction_keeps_neither_input_nor_output(
    app: Sandbox, given: dict[str, Any], clock: Any
) -> None:
    predictions = client_of(app).predictions
    created = await predictions.async_create(VERSION, given)
    assert (await predictions.async_get(created.id)).status == "succeeded"
    clock.now += 3601
    gone = await predictions.async_get(created.id)
    assert (gone.status, gone.output, gone.input, gone.logs) == ("succeeded", None, {}, "")


async def test_the_journal_and_the_account_show_what_came_in_and_never_a_key(app: Sandbox, folder: Path) -> None:
    given = {"instruction": "segment the ball", "image": "https://example.com/ball.png"}
    created = await client_of(app).predictions.async_create(VERSION, given)
    await client_of(app).predictions.async_get(created.id)
    assert [(seen.method, seen.path) for seen in app.state.requests] == [
        ("POST", "/v1/predictions"),
        ("GET", f"/v1/predictions/{created.id}"),
    ]
    assert app.state.accepted == [created.id]
    assert b"segment the ball" in app.state.requests[0].body
    assert not mentioned(folder, b"r8_test")
