"""What the providers' pages and clients show, beside predictions: words of refusals, catalogues, streams, stand-ins."""

import base64
import datetime as dt
import json
import ssl
import stat
import urllib.request
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from rotoscope_sandbox import Sandbox, build_sandbox
from rotoscope_sandbox.certificates import make_certificate
from rotoscope_sandbox.faults.definitions import parse_fault
from rotoscope_sandbox.serving import serve_in_thread
from rotoscope_sandbox.stand_ins import find_stand_in

pytestmark = pytest.mark.anyio
SA2VA = "bytedance/sa2va-4b-image"
VERSION = "ccf8e58352ce5b2a6cbf5cb68b947ca3bc62009ce66e82071eeae14555414411"
VACE = "/replicate/v1/models/prunaai/vace-14b/predictions"
SAM = "/v1/sam-v2-image"
Ask = Callable[..., Any]


@pytest.mark.parametrize(
    ("given", "kind", "field", "words"),
    [
        ({"prompt": "x", "size": "1*1"}, "enum", "input.size", 'size must be one of the following: "720*1280", '),
        ({"prompt": "x", "frame_num": 0}, "number_gte", "input.frame_num", "Must be greater than or equal to 1"),
        ({"prompt": "x", "frame_num": 999}, "number_lte", "input.frame_num", "Must be less than or equal to 81"),
        ({"prompt": 7}, "invalid_type", "input.prompt", "Invalid type. Expected: string, given: integer"),
        ({}, "required", "input", "prompt is required"),
    ],
)
async def test_a_refused_input_has_the_messages_of_replicates_validator(
    app: Sandbox, ask: Ask, given: dict[str, Any], kind: str, field: str, words: str
) -> None:
    async with ask(app, "replicate") as raw:
        reply = await raw.post(VACE, json={"input": given})
    body = reply.json()
    assert reply.status_code == 422
    [row] = body["invalid_fields"]
    assert (row["type"], row["field"]) == (kind, field)
    assert row["description"].startswith(words)
    assert body["detail"] == f"- {field}: {row['description']}\n"
    assert app.state.accepted == []


@pytest.mark.parametrize(
    "path", ["/v1/models/nobody/nothing", "/v1/nothing", "/v1/collections/none", "/replicate/v1/nothing/at/all"]
)
async def test_a_path_that_replicate_does_not_have_is_answered_in_its_own_form(
    app: Sandbox, ask: Ask, path: str
) -> None:
    async with ask(app, "replicate") as raw:
        reply = await raw.get(path)
    assert reply.status_code == 404
    assert reply.json() == {"title": "Not found", "detail": "The requested resource could not be found.", "status": 404}


@pytest.mark.parametrize("path", ["account", "hardware", "collections", "deployments", "trainings", "models"])
async def test_what_clients_ask_beside_predictions_is_answered(app: Sandbox, ask: Ask, path: str) -> None:
    async with ask(app, "replicate") as raw:
        assert (await raw.get(f"/v1/{path}")).status_code == 200
    async with ask(app) as raw:
        assert (await raw.get(f"/v1/{path}")).status_code in {401, 405}


async def test_a_version_has_the_inputs_of_its_model(app: Sandbox, ask: Ask) -> None:
    async with ask(app, "replicate") as raw:
        model = (await raw.get(f"/v1/models/{SA2VA}")).json()
        [listed] = (await raw.get(f"/v1/models/{SA2VA}/versions")).json()["results"]
        alone = (await raw.get(f"/v1/models/{SA2VA}/versions/{VERSION}")).json()
    assert model["latest_version"] == listed == alone
    schema = alone["openapi_schema"]["components"]["schemas"]["Input"]
    assert set(schema["required"]) == {"image", "instruction"}
    assert set(schema["properties"]) >= {"image", "instruction"}


async def test_a_stream_sends_the_output_and_then_its_end_and_needs_no_key(
    app: Sandbox, ask: Ask, finish: Callable[[Sandbox, str], None]
) -> None:
    given = {"input": {"prompt": "a storm", "duration": 4, "resolution": "480p", "generate_audio": False}}
    async with ask(app, "replicate") as raw:
        prediction = (await raw.post("/v1/models/bytedance/seedance-2.0/predictions", json=given)).json()
    finish(app, prediction["id"])
    async with ask(app) as raw:
        events = (await raw.get(prediction["urls"]["stream"])).text.strip().split("\n\n")
    assert [event.partition("\n")[0] for event in events] == ["event: output", "event: done"]
    assert "/output.mp4" in events[0]


async def test_a_community_model_has_no_stream_as_its_page_shows(app: Sandbox, ask: Ask, scene: Any) -> None:
    given = {"version": VERSION, "input": {"image": scene.uri, "instruction": "it"}}
    async with ask(app, "replicate") as raw:
        assert set((await raw.post("/v1/predictions", json=given)).json()["urls"]) == {"cancel", "get", "web"}


async def test_a_prompt_alone_is_enough_for_a_film(app: Sandbox, ask: Ask, finish: Callable[..., None]) -> None:
    async with ask(app, "replicate") as raw:
        given = {"prompt": "a storm", "frame_num": 24, "size": "480*832"}
        prediction = (await raw.post(VACE, json={"input": given})).json()
        finish(app, prediction["id"])
        done = (await raw.get(f"/replicate/v1/predictions/{prediction['id']}")).json()
        film = await raw.get(done["output"])
    assert done["status"] == "succeeded"
    assert film.headers["content-type"] == "video/mp4"


async def test_credits_go_down_with_what_a_run_costs_and_one_is_a_yes(folder: Path, ask: Ask, scene: Any) -> None:
    ticks = count(1_800_000_000)
    app = build_sandbox(folder, pace=0, clock=lambda: next(ticks) / 4)
    given = {"image": base64.b64encode(scene.png).decode(), "prompt": "it", "overlay_mask": False}
    async with ask(app, "segmind") as raw:
        plain = await raw.post(SAM, json={**given, "base64": 0})
        encoded = await raw.post(SAM, json={**given, "base64": 1})
    left = [float(reply.headers["x-remaining-credits"]) for reply in (plain, encoded)]
    assert left[0] - left[1] == pytest.approx(float(encoded.headers["x-cost"]), abs=1e-9)
    assert left[0] > left[1]
    assert base64.b64decode(encoded.json()["image"]) == plain.content


async def test_a_file_on_the_network_is_replaced_where_that_is_asked_for_and_the_notice_has_it(
    folder: Path, clock: Any, ask: Ask, finish: Callable[..., None]
) -> None:
    address = "https://replicate.delivery/pbxt/x/photo.webp"
    given = {"version": VERSION, "input": {"image": address, "instruction": "it"}}
    states = []
    for number, stand_ins in enumerate((True, False)):
        app = build_sandbox(folder / str(number), pace=0, clock=clock, stand_ins=stand_ins)
        async with ask(app, "replicate") as raw:
            begun = (await raw.post("/v1/predictions", json=given)).json()
            finish(app, begun["id"])
            states.append((await raw.get(f"/v1/predictions/{begun['id']}")).json())
    replaced, refused = states
    assert replaced["status"] == "succeeded"
    assert f"stand in for: {address}" in replaced["output"]["sandbox"]["notice"]
    assert f"stand in for: {address}" in replaced["logs"]
    assert refused["status"] == "failed"
    assert "does not fetch" in refused["error"]


@pytest.mark.parametrize(
    ("field_name", "address", "ending"),
    [
        ("image", "https://example.com/x.webp?y=1", ".jpg"),
        ("src_mask", "https://example.com/x.png", ".png"),
        ("reference_videos", "https://example.com/x.MOV", ".mp4"),
        ("src_mask", "https://example.com/x.mp4#t=1", ".mp4"),
        ("reference_audios", "https://example.com/x.mp3", ".wav"),
    ],
)
def test_what_stands_in_is_of_the_kind_that_the_address_and_the_field_name(
    field_name: str, address: str, ending: str
) -> None:
    place = find_stand_in(field_name, address)
    assert place.suffix == ending
    assert ("mask" in place.name) is ("mask" in field_name)
    assert place.stat().st_size > 1000


async def test_a_file_of_its_own_that_is_gone_is_never_replaced(
    folder: Path, clock: Any, ask: Ask, finish: Callable[..., None]
) -> None:
    app = build_sandbox(folder, pace=0, clock=clock, stand_ins=True)
    gone = f"https://sandbox.example.com/files/{'a' * 26}.png"
    async with ask(app, "replicate") as raw:
        begun = (
            await raw.post("/v1/predictions", json={"version": VERSION, "input": {"image": gone, "instruction": "x"}})
        ).json()
        finish(app, begun["id"])
        assert (await raw.get(f"/v1/predictions/{begun['id']}")).json()["status"] == "failed"


def test_a_run_can_be_made_as_slow_as_asked() -> None:
    assert parse_fault("slow-run").integer("seconds") == 60
    assert parse_fault("slow-run;seconds=900").integer("seconds") == 900


async def test_a_run_that_is_made_slow_is_under_way_until_its_time_is_over(
    app: Sandbox, ask: Ask, scene: Any, clock: Any, finish: Callable[..., None]
) -> None:
    given = {"version": VERSION, "input": {"image": scene.uri, "instruction": "it"}}
    async with ask(app, "replicate") as raw:
        raw.headers["x-sandbox-fault"] = "slow-run;seconds=500"
        begun = (await raw.post("/v1/predictions", json=given)).json()
        del raw.headers["x-sandbox-fault"]
        finish(app, begun["id"])
        states = []
        for _ in range(2):
            states.append((await raw.get(f"/v1/predictions/{begun['id']}")).json()["status"])
            clock.now += 501
    assert states == ["processing", "succeeded"]


def test_over_tls_handed_out_addresses_are_https_and_the_authority_is_all_that_is_trusted(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "tls", dt.datetime.now(dt.UTC))
    assert stat.S_IMODE(certificate.key.stat().st_mode) == 0o600
    app = build_sandbox(tmp_path / "sandbox", pace=0)
    with serve_in_thread(app, certificate=certificate) as url:
        trusting = ssl.create_default_context(cafile=str(certificate.authority))
        body = json.dumps({"input": {"prompt": "a storm", "duration": 4, "resolution": "480p"}}).encode()
        headers = {"authorization": "Bearer r8_test", "content-type": "application/json"}
        asked = urllib.request.Request(f"{url}/v1/models/bytedance/seedance-2.0/predictions", body, headers)
        with urllib.request.urlopen(asked, timeout=30, context=trusting) as reply:
            prediction = json.load(reply)
        assert prediction["urls"]["get"].startswith(f"{url}/v1/predictions/")
        with pytest.raises(urllib.error.URLError, match="certificate"):
            urllib.request.urlopen(url, timeout=30, context=ssl.create_default_context())
