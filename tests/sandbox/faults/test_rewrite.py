"""True answers, changed: in each wire's own shape, and only where there is something to change."""

import json
from typing import Any

import pytest

from rotoscope_sandbox.faults.definitions import parse_fault
from rotoscope_sandbox.faults.error_responses import HttpReply, json_reply
from rotoscope_sandbox.faults.operations import Action, Operation
from rotoscope_sandbox.faults.rewrite import refresh_urls, rewrite_reply

ASK, RESULT, SUBMIT = Action.ASK, Action.RESULT, Action.SUBMIT
URL = "https://sandbox.invalid/outputs/abc/mask.png"
DONE: dict[tuple[str, Action], dict[str, Any]] = {
    ("replicate", ASK): {"id": "abc", "status": "succeeded", "output": {"img": URL, "response": "Sure"},
                         "error": None, "completed_at": "2026-01-01T00:00:00Z", "metrics": {"predict_time": 1}},
    ("fal", ASK): {"status": "COMPLETED", "request_id": "abc", "metrics": {"inference_time": 1}, "logs": None},
    ("fal", RESULT): {"image": {"url": URL, "width": 7}},
    ("segmind", ASK): {"status": "COMPLETED", "metrics": {}},
    ("segmind", RESULT): {"status": "COMPLETED", "output": {"image": URL}, "metrics": {"cost": 0.002}},
}  # fmt: skip


def changed(
    text: str, wire: str, action: Action, body: object, *, status: int = 200, was_shown: bool = False
) -> HttpReply | None:
    operation = Operation(action, wire, prediction="abc")
    return rewrite_reply(parse_fault(text), operation, json_reply(body, status), was_shown=was_shown)


def body_of(reply: HttpReply | None) -> Any:
    assert reply is not None
    return json.loads(reply.body)


@pytest.mark.parametrize(("wire", "action"), [key for key in DONE if key != ("fal", RESULT)])
def test_an_unknown_status_is_an_open_one(wire: str, action: Action) -> None:
    reply = changed("status-unknown", wire, action, DONE[wire, action])
    body = body_of(reply)
    assert body["status"] == "warming"
    assert not body.get("output")
    assert not body.get("metrics")
    assert reply is not None
    assert reply.status == (202 if wire == "fal" else 200)


def test_a_status_goes_back_once_it_was_shown_and_not_before() -> None:
    assert changed("status-goes-back", "replicate", ASK, DONE["replicate", ASK]) is None
    body = body_of(changed("status-goes-back", "replicate", ASK, DONE["replicate", ASK], was_shown=True))
    assert (body["status"], body["output"], body["completed_at"]) == ("processing", None, None)
    body = body_of(changed("status-goes-back;after=running", "segmind", ASK, {"status": "PROCESSING"}, was_shown=True))
    assert body["status"] == "QUEUED"


def test_fals_result_goes_back_to_being_in_progress() -> None:
    reply = changed("status-goes-back", "fal", RESULT, DONE["fal", RESULT], was_shown=True)
    assert body_of(reply) == {"detail": "Request is still in progress"}
    assert reply is not None
    assert reply.status == 400


@pytest.mark.parametrize(("kind", "output"), [("null", None), ("empty", []), ("shape", {"unexpected": 7})])
@pytest.mark.parametrize("where", [("replicate", ASK), ("segmind", RESULT), ("fal", RESULT)])
def test_an_output_that_is_none(where: tuple[str, Action], kind: str, output: object) -> None:
    body = body_of(changed(f"bad-output;kind={kind}", *where, DONE[where]))
    assert (body if where[0] == "fal" else body["output"]) == output


def test_urls_can_be_missing_or_lead_elsewhere() -> None:
    body = body_of(changed("bad-output;kind=hollow", "replicate", ASK, DONE["replicate", ASK]))
    assert body["output"] == {"img": None, "response": "Sure"}
    body = body_of(changed("bad-output;kind=host;host=evil.example", "fal", RESULT, DONE["fal", RESULT]))
    assert body["image"] == {"url": "https://evil.example/outputs/abc/mask.png", "width": 7}


@pytest.mark.parametrize(("wire", "action"), [("replicate", ASK), ("segmind", RESULT)])
def test_an_output_that_is_not_there_yet_is_left_alone(wire: str, action: Action) -> None:
    assert changed("bad-output", wire, action, {"status": "processing", "output": None}) is None
    assert changed("bad-output", "fal", ASK, DONE["fal", ASK]) is None
    assert changed("bad-output", "fal", RESULT, {"detail": "Request is still in progress"}, status=400) is None


def test_segminds_v1_has_bare_bytes_to_lose() -> None:
    direct = Operation(SUBMIT, "segmind", is_direct=True)
    picture = HttpReply(200, {"content-type": "image/jpeg"}, b"\xff\xd8")
    empty = rewrite_reply(parse_fault("bad-output"), direct, picture)
    assert empty is not None
    assert (empty.headers["content-type"], empty.body) == ("image/jpeg", b"")
    odd = rewrite_reply(parse_fault("bad-output;kind=shape"), direct, picture)
    assert body_of(odd) == {"unexpected": 7}
    assert rewrite_reply(parse_fault("bad-output;kind=host"), direct, picture) is None
    assert body_of(rewrite_reply(parse_fault("bad-output"), direct, json_reply({"image": "aGk="}, 200))) == {
        "image": None
    }


@pytest.mark.parametrize(
    ("text", "id_"), [("null", None), ("number", 7), ("list", []), ("empty", "")]
)  # fmt: skip
def test_an_id_of_a_wrong_type_stands_in_its_place(text: str, id_: object) -> None:
    body = {"id": "abc", "status": "starting", "urls": {"get": "https://x/abc"}}
    assert body_of(changed(f"no-id;id={text}", "replicate", SUBMIT, body, status=201)) == {
        "id": id_,
        "status": "starting",
    }


def test_no_id_leaves_no_other_way_to_know_it_unless_asked_for() -> None:
    body = {"request_id": "abc", "status": "IN_QUEUE", "status_url": "https://x/abc", "gateway_request_id": "abc"}
    assert body_of(changed("no-id", "fal", SUBMIT, body)) == {"status": "IN_QUEUE"}
    assert body_of(changed("no-id;urls=yes", "fal", SUBMIT, body)) == {
        "status": "IN_QUEUE",
        "status_url": "https://x/abc",
    }


def test_what_was_refused_has_no_id_to_lose_and_nothing_to_garble() -> None:
    refused = {"detail": "no"}
    assert changed("no-id", "fal", SUBMIT, refused, status=422) is None
    assert changed("unreadable-reply", "fal", SUBMIT, refused, status=422) is None


def test_fresh_urls_differ_and_other_texts_do_not() -> None:
    body = body_of(refresh_urls(json_reply(DONE["replicate", ASK], 200)))
    assert body["output"] == {"img": f"{URL}?fresh=1", "response": "Sure"}
