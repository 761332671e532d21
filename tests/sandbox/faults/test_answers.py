"""Faults that are answers, as an ordinary client of each wire sees them, in process."""

import io
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import anyio
import httpx  # noqa: TID251 - the tests speak to the sandbox as any client would
import pytest
from PIL import Image, UnidentifiedImageError

from rotoscope_sandbox import Sandbox, build_sandbox

pytestmark = pytest.mark.anyio

WIRES = ["replicate", "gateway", "fal", "segmind", "segmind-v1"]
ASKED = ["replicate", "gateway", "fal", "segmind"]


def words(reply: httpx.Response) -> str:
    """The error's text, where the wire has it."""
    body = reply.json()
    return str(body.get("detail") or body.get("error"))


# Action is refused at the POST, and never accepted.


@pytest.mark.parametrize("wire", WIRES)
async def test_throttled_has_the_time_to_come_back(wire_client: Any, app: Sandbox, clock: Any, wire: str) -> None:
    app.state.faults.add("throttled")
    async with wire_client(wire) as one:
        reply = await one.submit()
        assert reply.status_code == 429
        if wire.startswith("segmind"):
            until = datetime.fromisoformat(reply.headers["x-rate-limit-reset-at-utc"]).timestamp()
            assert until == clock.now + 2
            assert "retry-after" not in reply.headers
        else:
            assert reply.headers["retry-after"] == "2"
        assert app.state.accepted == []
        assert (await one.submit()).status_code == one.success_status


@pytest.mark.parametrize("wire", WIRES)
async def test_odd_throttle_has_the_time_to_come_back_in_its_text_only(wire_client: Any, wire: str) -> None:
    async with wire_client(wire) as one:
        reply = await one.submit("odd-throttle")
    assert words(reply) == "Request was throttled. Your rate limit resets in ~30s."
    assert not {"retry-after", "x-rate-limit-reset-at-utc"} & set(reply.headers)


@pytest.mark.parametrize("value", ["86400", "-5", "soon"])
async def test_odd_throttle_has_odd_headers(wire_client: Any, value: str) -> None:
    async with wire_client("fal") as one:
        assert (await one.submit(f"odd-throttle;retry-after={value}")).headers["retry-after"] == value


async def test_odd_throttle_can_have_a_date(wire_client: Any, clock: Any) -> None:
    async with wire_client("replicate") as one:
        date = (await one.submit("odd-throttle;retry-after=date;seconds=90")).headers["retry-after"]
    assert parsedate_to_datetime(date) == datetime.fromtimestamp(clock.now + 90, UTC)
    async with wire_client("segmind") as one:
        assert (await one.submit("odd-throttle;reset=whenever")).headers["x-rate-limit-reset-at-utc"] == "whenever"


@pytest.mark.parametrize(
    ("wire", "status", "text"),
    [
        ("replicate", 402, "billing"),
        ("gateway", 402, "billing"),
        ("fal", 403, "Exhausted balance"),
        ("segmind", 406, "Not enough credits"),
        ("segmind-v1", 406, "Not enough credits"),
    ],
)
async def test_no_credit_is_answered_in_each_providers_form(
    wire_client: Any, app: Sandbox, wire: str, status: int, text: str
) -> None:
    app.state.faults.add("no-credit")
    async with wire_client(wire) as one:
        for _ in range(3):
            reply = await one.submit()
            assert reply.status_code == status
            assert text in words(reply)
    assert app.state.accepted == []


async def test_no_credit_of_fal_can_be_a_402(wire_client: Any) -> None:
    async with wire_client("fal") as one:
        assert (await one.submit("no-credit;status=402")).status_code == 402


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("status", [401, 403])
async def test_key_refused_refuses_the_key(wire_client: Any, app: Sandbox, wire: str, status: int) -> None:
    async with wire_client(wire) as one:
        assert (await one.submit(f"key-refused;status={status}")).status_code == status
    assert app.state.accepted == []


@pytest.mark.parametrize("kind", ["input", "policy"])
@pytest.mark.parametrize("wire", WIRES)
async def test_input_refused_refuses_the_input(wire_client: Any, app: Sandbox, wire: str, kind: str) -> None:
    async with wire_client(wire) as one:
        reply = await one.submit(f"input-refused;kind={kind}")
    assert reply.status_code == (400 if wire.startswith("segmind") else 422)
    if wire == "fal":
        assert reply.json()["detail"][0]["type"] == ("content_policy_violation" if kind == "policy" else "value_error")
    assert ("flagged" in words(reply)) is (kind == "policy")
    assert app.state.accepted == []


async def test_input_refused_can_come_later_as_the_failure_of_the_run(wire_client: Any) -> None:
    async with wire_client("replicate") as one:
        reply = await one.ask(await one.submit_accepted("input-refused;kind=policy;later=yes"))
        assert (reply.json()["status"], "flagged" in reply.json()["error"]) == ("failed", True)
    async with wire_client("fal") as one:
        accepted = await one.submit_accepted("input-refused;kind=policy;later=yes")
        assert (await one.ask(accepted)).json()["error_type"] == "content_policy_violation"
        assert (await one.result(accepted)).status_code >= 400
    async with wire_client("segmind") as one:
        reply = await one.result(await one.submit_accepted("input-refused;later=yes"))
        assert (reply.status_code, reply.json()["status"]) == (422, "FAILED")


# Action is accepted, but the reply is wrong.


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_server_error_accepts_and_answers_with_a_server_error(
    wire_client: Any, app: Sandbox, wire: str, status: int
) -> None:
    app.state.faults.add(f"server-error;status={status}")
    async with wire_client(wire) as one:
        reply = await one.submit()
    assert reply.status_code == status
    assert len(app.state.accepted) == 1
    # Segmind's v1 says in JSON only what was not billed.
    is_json = reply.headers["content-type"] == "application/json"
    assert is_json is not wire.startswith("segmind")


@pytest.mark.parametrize("wire", WIRES)
async def test_server_error_can_accept_nothing(wire_client: Any, app: Sandbox, wire: str) -> None:
    async with wire_client(wire) as one:
        reply = await one.submit("server-error;accepted=no")
    assert (reply.status_code, reply.headers["content-type"]) == (500, "application/json")
    assert app.state.accepted == []


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(("kind", "content_type"), [("html", "text/html"), ("type", "text/plain")])
async def test_unreadable_reply_is_no_json(
    wire_client: Any, app: Sandbox, wire: str, kind: str, content_type: str
) -> None:
    async with wire_client(wire) as one:
        reply = await one.submit(f"unreadable-reply;kind={kind}")
    assert (reply.status_code // 100, reply.headers["content-type"]) == (2, content_type)
    assert len(app.state.accepted) == 1


@pytest.mark.parametrize("wire", ASKED)
async def test_unreadable_reply_is_half_a_json(wire_client: Any, app: Sandbox, wire: str) -> None:
    async with wire_client(wire) as one:
        reply = await one.submit("unreadable-reply;kind=json")
    with pytest.raises(ValueError, match="Unterminated"):
        reply.json()
    assert len(app.state.accepted) == 1


@pytest.mark.parametrize("wire", ASKED)
@pytest.mark.parametrize("id_", ["missing", "number"])
async def test_no_id_names_no_prediction(wire_client: Any, app: Sandbox, wire: str, id_: str) -> None:
    app.state.faults.add(f"no-id;id={id_}")
    async with wire_client(wire) as one:
        reply = await one.submit()
    assert reply.status_code == one.success_status
    name = "request_id" if wire in ("fal", "segmind") else "id"
    assert reply.json().get(name) == (7 if id_ == "number" else None)
    assert app.state.accepted[0] not in reply.text + str(reply.headers)


async def test_no_id_of_segminds_v1_leaves_the_request_unnamed(wire_client: Any, app: Sandbox) -> None:
    async with wire_client("segmind-v1") as one:
        reply = await one.submit("no-id")
    assert (reply.status_code, "x-request-id" in reply.headers, len(app.state.accepted)) == (200, False, 1)


# Action goes wrong while it is asked about.


@pytest.mark.parametrize("wire", ASKED)
async def test_poll_error_is_a_burst_and_then_over(wire_client: Any, app: Sandbox, wire: str) -> None:
    app.state.faults.add("poll-error;status=502")
    async with wire_client(wire) as one:
        accepted = await one.submit_accepted()
        statuses = [(await one.ask(accepted)).status_code for _ in range(4)]
    assert statuses == [502, 502, 502, 200]


@pytest.mark.parametrize("wire", ASKED)
async def test_key_revoked_refuses_the_key_of_a_poll(wire_client: Any, app: Sandbox, wire: str) -> None:
    async with wire_client(wire) as one:
        accepted = await one.submit_accepted("key-revoked;times=2")
        assert [(await one.ask(accepted)).status_code for _ in range(3)] == [401, 401, 200]
        rule = app.state.faults.add("key-revoked")
        assert [(await one.ask(accepted)).status_code for _ in range(5)] == [401] * 5
    assert app.state.faults.count(rule) == 5


@pytest.mark.parametrize("wire", ASKED)
async def test_status_unknown_answers_a_status_that_no_document_has(wire_client: Any, app: Sandbox, wire: str) -> None:
    app.state.faults.add("status-unknown;times=2")
    async with wire_client(wire) as one:
        accepted = await one.submit_accepted()
        seen = [one.status(await one.ask(accepted)) for _ in range(3)]
    assert seen[:2] == ["warming", "warming"]
    assert seen[2].lower() in ("succeeded", "completed")


@pytest.mark.parametrize("wire", ASKED)
async def test_status_goes_back_goes_back_after_the_end(wire_client: Any, app: Sandbox, wire: str) -> None:
    app.state.faults.add("status-goes-back")
    async with wire_client(wire) as one:
        accepted = await one.submit_accepted()
        seen = [one.status(await one.ask(accepted)).lower() for _ in range(3)]
    assert seen[0] == seen[2]
    assert seen[1] in ("processing", "in_progress")


async def test_status_goes_back_of_fal_takes_back_the_result(wire_client: Any) -> None:
    async with wire_client("fal") as one:
        accepted = await one.submit_accepted("status-goes-back")
        assert one.status(await one.ask(accepted)) == "COMPLETED"
        assert [(await one.result(accepted)).status_code for _ in range(2)] == [400, 200]


async def test_status_goes_back_goes_back_from_running_to_waiting(
    slow_app: Sandbox, wire_client: Any, clock: Any, finish: Callable[[Sandbox, str], None]
) -> None:
    async with wire_client("replicate", slow_app) as one:
        accepted = await one.submit_accepted("status-goes-back;after=running")
        finish(slow_app, accepted["id"])
        clock.now += 0.4
        assert [one.status(await one.ask(accepted)) for _ in range(3)] == ["processing", "starting", "processing"]


@pytest.mark.parametrize("wire", ASKED)
async def test_never_ends_never_ends_but_by_a_cancel(
    wire_client: Any, app: Sandbox, clock: Any, finish: Callable[[Sandbox, str], None], wire: str
) -> None:
    app.state.faults.add("never-ends")
    async with wire_client(wire) as one:
        accepted = await one.submit_accepted()
        finish(app, accepted.get("id") or accepted["request_id"])
        clock.now += 3500
        assert one.status(await one.ask(accepted)).lower() in ("processing", "in_progress")
        if wire != "segmind":
            assert (await one.cancel(accepted)).status_code in (200, 202)
            assert one.status(await one.ask(accepted)).lower() in ("canceled", "completed")


async def test_never_ends_ends_at_the_deadline_of_the_request(
    wire_client: Any, clock: Any, finish: Callable[[Sandbox, str], None], app: Sandbox
) -> None:
    async with wire_client("replicate") as one:
        one.client.headers["cancel-after"] = "90s"
        accepted = await one.submit_accepted("never-ends")
        finish(app, accepted["id"])
        clock.now += 90
        assert one.status(await one.ask(accepted)) == "canceled"


@pytest.mark.parametrize(("kind", "status"), [("cancel", "canceled"), ("abort", "aborted")])
async def test_provider_cancels_of_replicate_is_billed_or_not(
    wire_client: Any, app: Sandbox, kind: str, status: str
) -> None:
    async with wire_client("replicate") as one:
        body = (await one.ask(await one.submit_accepted(f"provider-cancels;kind={kind}"))).json()
        ledger = (await one.client.get("/sandbox/ledger")).json()
    assert (body["status"], body["output"], body["error"]) == (status, None, None)
    assert body["completed_at"] is not None
    assert ledger["paid"] == (1 if kind == "cancel" else 0)


async def test_provider_cancels_of_a_run_ends_after_its_time(
    wire_client: Any, slow_app: Sandbox, clock: Any, finish: Callable[[Sandbox, str], None]
) -> None:
    async with wire_client("replicate", slow_app) as one:
        accepted = await one.submit_accepted("provider-cancels")
        finish(slow_app, accepted["id"])
        seen = []
        for _ in range(3):
            seen.append(one.status(await one.ask(accepted)))
            clock.now += 0.4
    assert seen == ["starting", "processing", "canceled"]


async def test_provider_cancels_is_answered_in_the_form_of_fal_and_segmind(wire_client: Any, app: Sandbox) -> None:
    app.state.faults.add("provider-cancels")
    async with wire_client("fal") as one:
        accepted = await one.submit_accepted()
        assert (await one.ask(accepted)).json()["error_type"] == "client_cancelled"
        assert (await one.result(accepted)).status_code == 499
    async with wire_client("segmind") as one:
        reply = await one.ask(await one.submit_accepted())
        assert (reply.status_code, reply.json()["status"]) == (422, "FAILED")


# Cancels.


@pytest.mark.parametrize("wire", ["replicate", "fal"])
async def test_odd_cancel_a_success_overtakes_a_cancel(
    slow_app: Sandbox, wire_client: Any, clock: Any, finish: Callable[[Sandbox, str], None], wire: str
) -> None:
    slow_app.state.faults.add("odd-cancel")
    async with wire_client(wire, slow_app) as one:
        accepted = await one.submit_accepted()
        finish(slow_app, accepted.get("id") or accepted["request_id"])
        clock.now += 0.4
        reply = await one.cancel(accepted)
        assert (reply.status_code, one.status(reply)) in ((200, "processing"), (202, "CANCELLATION_REQUESTED"))
        clock.now += 5
        assert one.status(await one.ask(accepted)).lower() in ("succeeded", "completed")
        assert (await one.client.get(await one.output(accepted))).status_code == 200


async def test_odd_cancel_a_cancel_is_answered_like_the_second_one(slow_app: Sandbox, wire_client: Any) -> None:
    slow_app.state.faults.add("odd-cancel;kind=twice")
    async with wire_client("fal", slow_app) as one:
        reply = await one.cancel(await one.submit_accepted())
        assert (reply.status_code, reply.json()) == (400, {"status": "ALREADY_COMPLETED"})
    async with wire_client("replicate", slow_app) as one:
        assert one.status(await one.cancel(await one.submit_accepted())) == "canceled"


@pytest.mark.parametrize("wire", ["replicate", "fal"])
async def test_odd_cancel_a_cancel_finds_nothing(slow_app: Sandbox, wire_client: Any, wire: str) -> None:
    async with wire_client(wire, slow_app) as one:
        accepted = await one.submit_accepted("odd-cancel;kind=missing")
        assert (await one.cancel(accepted)).status_code == 404
        assert one.status(await one.ask(accepted)) in ("starting", "IN_QUEUE")


# Outputs.


@pytest.mark.parametrize("wire", ASKED)
@pytest.mark.parametrize(("kind", "output"), [("null", None), ("empty", []), ("shape", {"unexpected": 7})])
async def test_bad_output_has_no_usable_output(wire_client: Any, wire: str, kind: str, output: object) -> None:
    async with wire_client(wire) as one:
        body = (await one.result(await one.submit_accepted(f"bad-output;kind={kind}"))).json()
    assert (body if wire == "fal" else body["output"]) == output


@pytest.mark.parametrize("wire", ASKED)
async def test_bad_output_leads_to_a_foreign_host(wire_client: Any, app: Sandbox, wire: str) -> None:
    app.state.faults.add("bad-output;kind=host")
    async with wire_client(wire) as one:
        assert (await one.output(await one.submit_accepted())).startswith("https://files.example.net/outputs/")


async def test_bad_output_of_segminds_v1_is_an_empty_picture(wire_client: Any) -> None:
    async with wire_client("segmind-v1") as one:
        reply = await one.submit("bad-output")
    assert (reply.status_code, reply.content) == (200, b"")


@pytest.mark.parametrize("status", [403, 404, 410])
@pytest.mark.parametrize("wire", ASKED)
async def test_output_gone_an_output_is_gone_for_a_while(wire_client: Any, wire: str, status: int) -> None:
    async with wire_client(wire) as one:
        url = await one.output(await one.submit_accepted(f"output-gone;status={status};times=3"))
        assert [(await one.client.get(url)).status_code for _ in range(4)] == [status, status, status, 200]


@pytest.mark.parametrize("wire", ASKED)
async def test_output_gone_a_later_poll_has_a_fresh_url(wire_client: Any, app: Sandbox, wire: str) -> None:
    app.state.faults.add("output-gone;fresh=yes")
    async with wire_client(wire) as one:
        accepted = await one.submit_accepted()
        stale = await one.output(accepted)
        assert stale == await one.output(accepted)
        assert [(await one.client.get(stale)).status_code for _ in range(5)] == [404] * 5
        fresh = await one.output(accepted)
        assert fresh != stale
        assert (await one.client.get(fresh)).status_code == 200


async def test_damaged_output_is_a_text_under_the_name_of_a_picture(wire_client: Any) -> None:
    async with wire_client("replicate") as one:
        reply = await one.client.get(await one.output(await one.submit_accepted("damaged-output")))
    assert reply.headers["content-type"] == "image/png"
    assert reply.text.startswith("This is not")
    assert int(reply.headers["content-length"]) == len(reply.content)


@pytest.mark.parametrize("wire", ["replicate", "segmind-v1"])
async def test_damaged_output_is_a_picture_that_cannot_be_decoded(wire_client: Any, app: Sandbox, wire: str) -> None:
    app.state.faults.add("damaged-output;kind=broken")
    async with wire_client(wire) as one:
        direct = wire == "segmind-v1"
        reply = await one.submit() if direct else await one.client.get(await one.output(await one.submit_accepted()))
    assert int(reply.headers["content-length"]) == len(reply.content) > 0
    with pytest.raises((OSError, UnidentifiedImageError)), Image.open(io.BytesIO(reply.content)) as picture:
        picture.load()


# Who is met.


async def test_a_rule_for_a_model_meets_that_model_only(wire_client: Any, app: Sandbox) -> None:
    rule = app.state.faults.add("throttled", model="bytedance/sa2va-4b-image", times="forever")
    outputs = app.state.faults.add("output-gone", model="fal-ai/sam2/image")
    async with wire_client("fal") as one:
        assert (await one.client.get(await one.output(await one.submit_accepted()))).status_code == 404
    async with wire_client("replicate") as one:
        assert (await one.submit()).status_code == 429
        app.state.faults.remove(rule)
        assert (await one.client.get(await one.output(await one.submit_accepted()))).status_code == 200
    assert app.state.faults.count(outputs) == 1


async def test_a_rule_for_a_wire_meets_that_wire_only(wire_client: Any, app: Sandbox) -> None:
    app.state.faults.add("throttled", wire="gateway")
    async with wire_client("replicate") as one:
        assert (await one.submit()).status_code == 201
    async with wire_client("gateway") as one:
        assert (await one.submit()).status_code == 429


async def test_a_fault_can_be_put_on_another_deed(wire_client: Any, app: Sandbox) -> None:
    app.state.faults.add("no-credit", on="upload", wire="fal")
    app.state.faults.add("server-error;status=502", on="list", times=1)
    async with wire_client("fal") as one:
        assert (await one.client.post("/storage/upload/initiate", json={})).status_code == 403
    async with wire_client("replicate") as one:
        assert [(await one.client.get("/v1/predictions")).status_code for _ in range(2)] == [502, 200]


async def test_a_header_sticks_to_its_own_prediction(wire_client: Any) -> None:
    async with wire_client("replicate") as one:
        marked, other = await one.submit_accepted("poll-error, status-unknown;times=1"), await one.submit_accepted()
        assert one.status(await one.ask(other)) == "succeeded"
        assert [(await one.ask(marked)).status_code for _ in range(3)] == [503] * 3
        assert [one.status(await one.ask(marked)) for _ in range(2)] == ["warming", "succeeded"]


async def test_a_lost_answer_and_a_later_fault_go_together(wire_client: Any, app: Sandbox) -> None:
    async with wire_client("replicate") as one:
        assert (await one.submit("server-error, key-revoked")).status_code == 500
        assert (await one.ask({"id": app.state.accepted[0]})).status_code == 401


async def test_a_fate_is_not_used_up_by_a_post_that_is_refused(wire_client: Any, app: Sandbox) -> None:
    app.state.faults.add("throttled")
    app.state.faults.add("provider-cancels", times=1)
    async with wire_client("replicate") as one:
        assert (await one.submit()).status_code == 429
        ends = [one.status(await one.ask(await one.submit_accepted())) for _ in range(2)]
    assert ends == ["canceled", "succeeded"]


async def test_a_header_that_means_nothing_is_refused_with_its_text(wire_client: Any, app: Sandbox) -> None:
    async with wire_client("segmind") as one:
        reply = await one.submit("F99")
    assert (reply.status_code, "F99" in reply.json()["detail"]) == (400, True)
    assert app.state.accepted == []


async def test_a_header_with_a_number_of_no_fault_is_refused_with_the_reason(wire_client: Any, app: Sandbox) -> None:
    async with wire_client("fal") as one:
        reply = await one.submit("F1")
    assert reply.status_code == 400
    assert "a port on which nothing listens" in reply.json()["detail"]
    assert app.state.accepted == []


async def test_a_header_takes_a_number_for_a_name(wire_client: Any, app: Sandbox) -> None:
    async with wire_client("fal") as one:
        assert [(await one.submit(fault)).status_code for fault in ("F15;status=402", "no-credit")] == [402, 403]
    assert app.state.accepted == []


async def test_the_rules_of_a_file_hold_until_it_changes(tmp_path: Path, folder: Path, wire_client: Any) -> None:
    rules = tmp_path / "faults.toml"
    rules.write_text("[[rules]]\nfault = 'key-refused'\nwire = 'fal'\n")
    app = build_sandbox(folder, pace=0, faults=rules)
    async with wire_client("fal", app) as one:
        assert (await one.submit()).status_code == 401
        rules.write_text("rules = []")
        assert (await one.submit()).status_code == 200


async def test_many_at_once_share_one_count(wire_client: Any, app: Sandbox) -> None:
    rule = app.state.faults.add("throttled", times=5)
    statuses: list[int] = []
    async with wire_client("segmind") as one:

        async def buy() -> None:
            statuses.append((await one.submit()).status_code)

        with anyio.fail_after(180):
            async with anyio.create_task_group() as tasks:
                for _ in range(12):
                    tasks.start_soon(buy)
    assert sorted(statuses) == [200] * 7 + [429] * 5
    assert (app.state.faults.count(rule), len(app.state.accepted)) == (5, 7)


@pytest.mark.parametrize("fault", ["reset", "close", "truncated-reply", "slow-reply;on=submit"])
async def test_without_a_connection_there_is_none_to_break(wire_client: Any, app: Sandbox, fault: str) -> None:
    async with wire_client("replicate") as one:
        reply = await one.submit(fault)
    assert (reply.status_code, "needs a real connection" in reply.json()["detail"]) == (501, True)
    assert app.state.accepted == []


async def test_hang_hangs_in_process_too(wire_client: Any, app: Sandbox) -> None:
    with anyio.fail_after(180):
        async with wire_client("replicate") as one, anyio.create_task_group() as tasks:
            tasks.start_soon(one.submit, "hang")
            while not app.state.accepted:
                await anyio.lowlevel.checkpoint()
            assert (await one.submit()).status_code == 201
            tasks.cancel_scope.cancel()
