"""What runs are charged, and where the wires show it."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import httpx  # noqa: TID251 - the tests speak to the sandbox as any client would
import pytest
from engine_media import Scene

from rotoscope_sandbox import Sandbox, build_sandbox
from rotoscope_sandbox.billing import Measured, bill_run
from rotoscope_sandbox.predictions import RunStatus

pytestmark = pytest.mark.anyio
Ask = Callable[..., Any]
Finish = Callable[[Sandbox, str], None]
SAM3, SAM2 = "fal-ai/sam-3/image", "fal-ai/sam2/image"
WAN, VOID = "fal-ai/wan-22-vace-fun-a14b/inpainting", "fal-ai/void-video-inpainting"
SEEDANCE = "bytedance/seedance-2.0"
FILM = Measured(computing_seconds=100, seconds=5, frames=81, width=1280, height=720, input_seconds=3)


@pytest.mark.parametrize(
    ("wire", "model", "given", "usd"),
    [
        ("replicate", SEEDANCE, {"resolution": "480p"}, 5 * 0.08),
        ("replicate", SEEDANCE, {}, 5 * 0.18),
        ("replicate", SEEDANCE, {"resolution": "1080p", "reference_videos": ["a"]}, 5 * 0.55),
        ("replicate", "prunaai/vace-14b", {}, 0.1525),
        ("fal", SAM3, {}, 0.005),
        ("fal", WAN, {"resolution": "480p"}, 81 / 16 * 0.05),
        ("fal", WAN, {"resolution": "580p"}, 81 / 16 * 0.075),
        ("fal", WAN, {}, 81 / 16 * 0.10),
        ("fal", VOID, {"quad_mask_video_url": "a"}, 0.05),
        ("fal", VOID, {"quad_mask_video_url": "a", "enable_pass2_refinement": True}, 0.10),
        ("fal", VOID, {"mask_prompt": "a"}, 0.10),
        ("fal", VOID, {"mask_prompt": "a", "enable_pass2_refinement": True}, 0.15),
        ("fal", f"{SEEDANCE}/text-to-video", {}, 5 * 0.3024),
        ("fal", f"{SEEDANCE}/fast/text-to-video", {}, 5 * 0.24192),
        ("fal", f"{SEEDANCE}/mini/image-to-video", {}, 5 * 0.1512),
        ("fal", f"{SEEDANCE}/reference-to-video", {"image_urls": ["a"]}, 5 * 0.3024),
        ("fal", f"{SEEDANCE}/reference-to-video", {"video_urls": ["a"]}, (5 + 3) * 0.3024 * 0.6),
        ("segmind", "sam-v2-image", {}, 0.104),
    ],
)
def test_a_run_that_succeeds_costs_what_its_provider_publishes(
    wire: str, model: str, given: dict[str, Any], usd: float
) -> None:
    assert bill_run(wire, model, given, FILM, RunStatus.SUCCEEDED).usd == pytest.approx(usd)


@pytest.mark.parametrize(
    ("wire", "model", "charged"),
    [
        ("replicate", "prunaai/vace-14b", {RunStatus.FAILED, RunStatus.CANCELED}),
        ("replicate", SEEDANCE, set()),
        ("fal", SAM3, set()),
        ("fal", SAM2, set()),
        ("segmind", "sam-v2-image", set()),
    ],
)
def test_without_a_success_only_the_time_of_a_community_model_is_charged(
    wire: str, model: str, charged: set[RunStatus]
) -> None:
    ends = set(RunStatus) - {RunStatus.SUCCEEDED}
    assert {end for end in ends if bill_run(wire, model, {}, FILM, end).usd > 0} == charged


def test_an_input_that_a_runner_refuses_may_be_charged_at_fal() -> None:
    for model, usd in ((SAM3, 0.005), (VOID, 0.05), (WAN, 0.0)):
        assert bill_run("fal", model, {}, FILM, RunStatus.FAILED, is_input_refused=True).usd == usd


@pytest.mark.parametrize("query", [f"endpoint_id={SAM3}&endpoint_id={SAM2}", f"endpoint_id={SAM3},{SAM2}"])
async def test_the_price_list_says_0_of_what_has_no_price(fal: httpx.AsyncClient, query: str) -> None:
    reply = (await fal.get(f"/v1/models/pricing?{query}")).json()
    assert reply == {
        "prices": [
            {"endpoint_id": SAM3, "unit_price": 0.005, "unit": "units", "currency": "USD"},
            {"endpoint_id": SAM2, "unit_price": 0.0, "unit": "compute seconds", "currency": "USD"},
        ],
        "next_cursor": None,
        "has_more": False,
    }


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [
        ("", 422, "validation_error"),
        ("endpoint_id=" + ",".join([SAM3] * 51), 422, "validation_error"),
        ("endpoint_id=fal-ai/unknown", 404, "not_found"),
    ],
)
async def test_the_platform_has_errors_of_its_own_form(
    fal: httpx.AsyncClient, query: str, status: int, kind: str
) -> None:
    reply = await fal.get(f"/v1/models/pricing?{query}")
    assert (reply.status_code, reply.json()["error"]["type"]) == (status, kind)


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer a:b"}])
async def test_the_platform_wants_a_key(app: Sandbox, ask: Ask, headers: dict[str, str]) -> None:
    async with ask(app) as raw:
        for path in ("/v1/models/pricing?endpoint_id=a", "/v1/models/billing-events"):
            reply = await raw.get(path, headers=headers)
            assert (reply.status_code, reply.json()["error"]["type"]) == (401, "authorization_error")


@pytest.mark.slow
async def test_what_a_request_was_billed_stands_in_its_result_and_in_its_event(
    app: Sandbox, fal: httpx.AsyncClient, finish: Finish, scene: Scene
) -> None:
    given = {"image_url": scene.uri, "prompt": "the disc"}
    accepted = [(await fal.post(f"/{SAM3}", json=given)).json() for _ in range(3)]
    for one in accepted:
        finish(app, one["request_id"])
    result = await fal.get(accepted[0]["response_url"])
    assert result.headers["x-fal-billable-units"] == "1"
    ids = [one["request_id"] for one in accepted]
    [event] = (await fal.get("/v1/models/billing-events", params={"request_id": ids[0]})).json()["billing_events"]
    assert event == event | {
        "request_id": ids[0],
        "endpoint_id": SAM3,
        "output_units": 1.0,
        "unit_price": 0.005,
        "percent_discount": 0,
        "cost_subtotal": 0.005,
        "cost_total": 0.005,
        "cost_estimate_nano_usd": 5_000_000,
    }
    page = (await fal.get("/v1/models/billing-events", params={"limit": 2})).json()
    rest = (await fal.get("/v1/models/billing-events", params={"cursor": page["next_cursor"]})).json()
    assert [row["request_id"] for row in page["billing_events"] + rest["billing_events"]] == ids[::-1]
    assert (page["has_more"], rest["has_more"]) == (True, False)


async def test_events_of_another_day_or_endpoint_are_left_out(
    app: Sandbox, fal: httpx.AsyncClient, finish: Finish, scene: Scene, clock: Any
) -> None:
    accepted = (await fal.post(f"/{SAM3}", json={"image_url": scene.uri, "prompt": "it"})).json()
    finish(app, accepted["request_id"])

    async def count_events(**query: str) -> int:
        return len((await fal.get("/v1/models/billing-events", params=query)).json()["billing_events"])

    assert [await count_events(), await count_events(endpoint_id=SAM2)] == [1, 0]
    clock.now += 25 * 3600
    assert [await count_events(), await count_events(start="2027-01-01T00:00:00Z")] == [0, 1]


async def test_what_failed_before_a_runner_or_was_cancelled_has_no_event(
    slow_app: Sandbox, ask: Ask, clock: Any, scene: Scene
) -> None:
    async with ask(slow_app, "fal") as raw:
        accepted = (await raw.post(f"/{SAM3}", json={"image_url": scene.uri, "prompt": "it"})).json()
        clock.now += 0.4
        await raw.put(accepted["cancel_url"])
        reply = await raw.get("/v1/models/billing-events", params={"request_id": accepted["request_id"]})
    assert reply.json()["billing_events"] == []


async def test_a_film_on_replicate_has_the_metrics_that_it_is_billed_by(app: Sandbox, ask: Ask, finish: Finish) -> None:
    given = {"prompt": "a storm", "duration": 4, "resolution": "480p"}
    async with ask(app, "replicate") as raw:
        begun = (await raw.post(f"/v1/models/{SEEDANCE}/predictions", json={"input": given})).json()
        finish(app, begun["id"])
        metrics = (await raw.get(begun["urls"]["get"])).json()["metrics"]
        [row] = (await raw.get("/sandbox/ledger")).json()["predictions"]
    shown = {name: metrics[name] for name in ("video_output_count", "resolution_target", "model_variant")}
    assert shown == {"video_output_count": 1, "resolution_target": "480p", "model_variant": "non_video_in"}
    assert row["charged_usd"] == pytest.approx(0.08 * metrics["video_output_duration_seconds"]) == 0.32


async def test_a_stopped_run_of_a_community_model_is_charged_for_its_time(
    slow_app: Sandbox, ask: Ask, finish: Finish, clock: Any, scene: Scene
) -> None:
    slow_app.state.faults.add("never-ends", wire="replicate", times=1)
    version = "ccf8e58352ce5b2a6cbf5cb68b947ca3bc62009ce66e82071eeae14555414411"
    given = {"version": version, "input": {"image": scene.uri, "instruction": "it"}}
    async with ask(slow_app, "replicate") as raw:
        begun = (await raw.post("/v1/predictions", json=given)).json()
        finish(slow_app, begun["id"])
        clock.now += 10.3
        stopped = (await raw.post(begun["urls"]["cancel"])).json()
        [row] = (await raw.get("/sandbox/ledger")).json()["predictions"]
    assert stopped["status"] == "canceled"
    assert row["charged_usd"] == pytest.approx(0.0014 * stopped["metrics"]["predict_time"])
    assert row["charged_usd"] > 0


async def test_credits_fall_by_what_each_run_costs(folder: Path, ask: Ask, scene: Scene) -> None:
    ticks = count(1_800_000_000)
    app = build_sandbox(folder, pace=0, clock=lambda: next(ticks) / 4)
    given = {"image": scene.uri, "prompt": "it"}
    async with ask(app, "segmind") as raw:
        before = (await raw.get("/v1/get-user-credits")).json()["credits"]
        reply = await raw.post("/v1/sam-v2-image", json=given)
        refused = await raw.post("/v1/sam-v2-image", json={"image": scene.uri})
        after = (await raw.get("/v1/get-user-credits")).json()["credits"]
    cost, left = (float(reply.headers[name]) for name in ("x-cost", "x-remaining-credits"))
    assert refused.status_code == 400
    assert cost == pytest.approx(0.00104 * float(reply.headers["x-generation-time"]), abs=1e-6)
    assert (before, after) == (1000.0, left)
    assert before - after == pytest.approx(cost, abs=1e-6)
    async with ask(app) as raw:
        assert (await raw.get("/v1/get-user-credits")).status_code == 401
