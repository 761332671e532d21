"""Runs that failed, and refusals: recognised by the provider's text, with the next step that fits."""

import json

import pytest

from rotoscope.errors import InvalidInput, OutOfCredit, ProviderDown, Refused, ReplyLost, RotoscopeError
from rotoscope.providers.dialects import DIALECTS, Dialect
from rotoscope.providers.dialects.failures import NEXT_STEPS
from rotoscope.providers.http.messages import Json, Reply
from rotoscope.providers.states import (
    Call,
    Canceled,
    Failed,
    Open,
    Prediction,
    Ready,
    Succeeded,
    Ticket,
    Waiting,
    Working,
)

BASE = "https://provider.example"
BASES = {"api": BASE, "platform": f"{BASE}/platform"}
TICKET = Ticket("abc123", "owner/model")
GOES_ON = Working(TICKET)
FLAGGED = "The input or output was flagged as sensitive. Please try again with different inputs. (E005) (uIJ6l3ruRD)"
WORDS = [
    (FLAGGED, "content_policy"),
    ("NSFW content detected. Try running it again, or try a different prompt.", "content_policy"),
    ("Output blocked by the content filter", "content_policy"),
    ("InputImageSensitiveContentDetected: the request may contain sensitive information", "content_policy"),
    ("OutputVideoSensitiveContentDetected.PolicyViolation", "content_policy"),
    ("Your request was rejected as a result of our safety system", "content_policy"),
    ("Prediction interrupted; please retry (code: PA)", "provider_error"),
    ("Director: unexpected error handling prediction (E9243)", "provider_error"),
    ("E6716", "provider_error"),
    ("The model is overloaded. Please try again later", "provider_error"),
    ("Input validation error: duration must be at most 15", "invalid_input"),
    ("Failed to download image from https://a.example/x.png", "invalid_input"),
    ("404 Client Error: Not Found for url: https://a.example/x.png", "invalid_input"),
    ("cannot identify image file '/tmp/x.bin'", "invalid_input"),
    ("User is locked. Reason: Exhausted balance.", "provider_credit"),
    ("CUDA out of memory", "prediction_failed"),
    ("list index out of range", "prediction_failed"),
    ("Failed to load the image encoder's weights", "prediction_failed"),
    ("1 validation error for Output", "prediction_failed"),
]  # fmt: skip


def dialect(name: str) -> Dialect:
    return DIALECTS[name](BASES)


def reply_with(status: int, body: Json, **headers: str) -> Reply:
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode())


def read(name: str, reply: Reply, about: Call | Open = GOES_ON) -> Prediction:
    return dialect(name).read(reply, about)


def refusal(name: str, reply: Reply) -> RotoscopeError:
    with pytest.raises(RotoscopeError) as caught:
        dialect(name).read(reply, Call(name, "owner/model", {}, form="v2" if name == "segmind" else ""))
    return caught.value


@pytest.mark.parametrize(("words", "code"), WORDS)
def test_a_failed_run_gets_the_code_that_its_error_text_means(words: str, code: str) -> None:
    ends = [
        read("replicate", reply_with(200, {"id": "abc123", "status": "failed", "error": words})),
        read("segmind", reply_with(422, {"request_id": "abc123", "status": "FAILED", "error": words})),
        read("fal", reply_with(200, {"status": "COMPLETED", "error": words})),
    ]
    for end in ends:
        failed = end.failure if isinstance(end, Ready) else end
        assert isinstance(failed, Failed)
        assert (failed.code, failed.provider_message) == (code, words)


def test_every_code_of_a_failed_run_has_a_next_step_of_its_own() -> None:
    assert {code for _, code in WORDS} <= set(NEXT_STEPS)
    assert len(set(NEXT_STEPS.values())) == len(NEXT_STEPS)


@pytest.mark.parametrize("name", ["replicate", "segmind"])
@pytest.mark.parametrize("status", [400, 401, 403, 429, 503])
@pytest.mark.parametrize("code", ["insufficient_user_quota", "pre_consume_token_quota_failed", "insufficient_quota"])
def test_a_gateway_account_without_money_is_out_of_credit_under_any_status(name: str, status: int, code: str) -> None:
    error: Json = {"message": "\u7528\u6237\u989d\u5ea6\u4e0d\u8db3", "type": "new_api_error", "code": code}
    assert isinstance(refusal(name, reply_with(status, {"error": error})), OutOfCredit)


def test_a_gateway_without_a_channel_for_the_model_proves_that_nothing_was_accepted() -> None:
    error: Json = {"message": "No available channel for model x", "type": "new_api_error", "code": "model_not_found"}
    assert isinstance(refusal("replicate", reply_with(503, {"error": error})), InvalidInput)
    assert isinstance(refusal("replicate", reply_with(503, {"error": {"message": "busy"}})), ReplyLost)


def test_a_low_balance_that_only_slows_requests_is_no_empty_account() -> None:
    words = "Your rate limit is reduced while you have less than $5.0 in credit. Your rate limit resets in ~10s."
    error = refusal("replicate", reply_with(429, {"detail": words}))
    assert (error.code, getattr(error, "retry_after", None)) == ("rate_limited", 10.0)


@pytest.mark.parametrize("words", ["User is locked. Reason: Admin lock.", "Your account has been suspended."])
def test_a_locked_account_is_reported_as_one_and_not_as_a_wrong_key(words: str) -> None:
    for name in ("fal", "replicate"):
        error = refusal(name, reply_with(403, {"detail": words}))
        assert isinstance(error, Refused)
        assert "locked" in error.message


def test_an_invalid_version_is_recognised_in_the_title_alone() -> None:
    body: Json = {
        "title": "Invalid version or not permitted",
        "detail": "The specified version does not exist",
        "status": 422,
    }
    assert "version" in refusal("replicate", reply_with(422, body)).message


@pytest.mark.parametrize("name", ["replicate", "fal", "segmind"])
def test_status_405_is_not_reported_as_a_missing_model(name: str) -> None:
    error = refusal(name, Reply(405, {"content-type": "text/html"}, b"<html>"))
    assert "base URL" in error.hint
    assert "no such model" not in error.message


@pytest.mark.parametrize("status", [400, 403, 422])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"detail": "Refused.", "error_type": "content_policy_violation"}, {}),
        ({"detail": "Refused."}, {"x_fal_error_type": "content_policy_violation"}),
        ({"detail": [{"msg": "Refused.", "type": "content_policy_violation"}]}, {}),
        ({"detail": {"msg": "Refused.", "type": "content_policy_violation"}}, {}),
    ],
)
def test_fals_content_policy_type_is_found_in_every_place(status: int, body: Json, headers: dict[str, str]) -> None:
    assert refusal("fal", reply_with(status, body, **headers)).code == "content_policy"
    if status != 403:
        end = read("fal", reply_with(status, body, **headers), Ready(TICKET))
        assert isinstance(end, Failed)
        assert end.code == "content_policy"


def known_failure(**more: Json) -> Ready:
    state = read("fal", reply_with(200, {"status": "COMPLETED", "error": "Unprocessable Entity", **more}))
    assert isinstance(state, Ready)
    return state


def test_a_failed_run_at_fal_is_asked_for_its_result_once_and_ends_with_the_details() -> None:
    state = known_failure(error_type="content_policy_violation")
    assert dialect("fal").ask(state).url.endswith("/requests/abc123")
    detail: Json = [{"loc": ["body", "prompt"], "msg": "The prompt was flagged.", "type": "content_policy_violation"}]
    end = read("fal", reply_with(422, {"detail": detail}), state)
    assert isinstance(end, Failed)
    assert (end.code, end.provider_message, end.charged) == (
        "content_policy",
        "body.prompt: The prompt was flagged.",
        False,
    )


@pytest.mark.parametrize("status", [200, 202, 400, 401, 403, 404, 429, 500, 502, 503])
@pytest.mark.parametrize("body", [{}, {"detail": "Unprocessable Entity"}, {"detail": "Request is still in progress"}])
def test_a_failed_run_at_fal_is_final_whatever_its_result_says(status: int, body: Json) -> None:
    end = read("fal", reply_with(status, body), known_failure(error_type="content_policy_violation"))
    assert isinstance(end, Failed)
    assert end.code == "content_policy"


def test_a_result_of_a_run_that_fal_calls_failed_is_not_thrown_away() -> None:
    end = read("fal", reply_with(200, {"image": {"url": "https://v3.fal.media/x.png"}}), known_failure())
    assert isinstance(end, Succeeded)


@pytest.mark.parametrize("body", [{"error": "no object found"}, {"error": {"message": "no object found"}}])
def test_an_error_text_under_200_is_a_failed_run_with_an_unknown_charge(body: Json) -> None:
    end = read("segmind", reply_with(200, body, content_type="application/json"), Call("segmind", "m", {}, form="v1"))
    assert isinstance(end, Failed)
    assert (end.provider_message, end.charged) == ("no object found", None)


@pytest.mark.parametrize("word", ["success", "completed", "SUCCEEDED", "finished"])
def test_an_output_under_another_word_for_success_is_a_result_and_the_word_alone_is_not(word: str) -> None:
    output = "https://replicate.delivery/x.mp4"
    assert isinstance(read("replicate", reply_with(200, {"id": "abc123", "status": word, "output": output})), Succeeded)
    assert isinstance(read("replicate", reply_with(200, {"id": "abc123", "status": word, "output": None})), Working)
    assert isinstance(read("segmind", reply_with(200, {"status": word, "output": output}), Waiting(TICKET)), Ready)
    assert isinstance(read("segmind", reply_with(200, {"status": word, "output": output}), Ready(TICKET)), Succeeded)


def test_an_output_of_a_running_prediction_is_no_result_yet() -> None:
    body: Json = {"id": "abc123", "status": "processing", "output": "https://replicate.delivery/x.mp4"}
    assert isinstance(read("replicate", reply_with(200, body)), Working)


@pytest.mark.parametrize(
    ("more", "charged"),
    [
        ({"metrics": {"predict_time": 0}}, False),
        ({"metrics": {"predict_time": 0.0}, "started_at": "2026-01-01T00:00:00Z"}, False),
        ({"started_at": None}, False),
        ({"metrics": {"predict_time": 3.5}, "started_at": "2026-01-01T00:00:00Z"}, True),
        ({}, True),
    ],
)
def test_a_run_that_was_stopped_before_its_start_is_not_charged(more: dict[str, Json], charged: bool) -> None:
    end = read("replicate", reply_with(200, {"id": "abc123", "status": "canceled", **more}))
    assert isinstance(end, Canceled)
    assert end.charged is charged


def test_every_page_of_fals_list_is_requested_with_inputs() -> None:
    call = Call("fal", "owner/model", {})
    first = dialect("fal").list_recent(call, 0.0)
    assert first is not None
    assert "expand=payloads" in first.url
    page = dialect("fal").read_recent(reply_with(200, {"items": [], "next_cursor": "c2"}), call)
    assert page.next_page is not None
    assert "expand=payloads" in page.next_page.url


@pytest.mark.parametrize("payload", [{}, {"json_input": None}, {"json_input": "hidden"}])
def test_a_row_of_fals_list_without_its_input_makes_the_page_incomplete(payload: dict[str, Json]) -> None:
    rows: list[Json] = [{"request_id": "r1", **payload}, {"request_id": "r2", "json_input": {}}]
    page = dialect("fal").read_recent(reply_with(200, {"items": rows}), Call("fal", "owner/model", {}))
    assert ([one.ticket.id for one in page.predictions], page.is_complete) == (["r2"], False)


def test_a_reply_about_another_prediction_is_polled_again() -> None:
    with pytest.raises(ProviderDown):
        read("replicate", reply_with(200, {"id": "other", "status": "succeeded", "output": "https://a.example/x.png"}))
