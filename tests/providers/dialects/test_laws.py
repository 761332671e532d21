"""The laws that every dialect keeps, shipped or installed, whatever its wire looks like."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from conversations import Conversation
from hypothesis import given, settings
from hypothesis import strategies as st

from rotoscope.errors import (
    Busy,
    InvalidInput,
    OutOfCredit,
    ProviderDown,
    ProviderError,
    Refused,
    ReplyLost,
    RotoscopeError,
)
from rotoscope.providers.dialects import DIALECTS, UploadFile, UploadPlan, find_dialect, read_dialect_entry_points
from rotoscope.providers.http.messages import Reply
from rotoscope.providers.states import (
    Call,
    Failed,
    Open,
    Ready,
    Ticket,
    Waiting,
    Working,
    is_final,
    ticket_from_json,
    ticket_to_json,
)

BASE = "https://provider.example"
BASES = {"api": BASE, "storage": f"{BASE}/storage-host", "assets": f"{BASE}/assets-host"}
INSTALLED = sorted({offer.name for offer in read_dialect_entry_points()} - set(DIALECTS))
FORMS = {
    "replicate": ("version", "official"),
    "fal": ("queue",),
    "segmind": ("v1", "v2"),
    **dict.fromkeys(INSTALLED, ("",)),
}
Answer = TypeVar("Answer")
TICKET = Ticket("abc123", "owner/model/part")
CALLS = [
    (name, Call(name, "owner/model/part", {"prompt": "a dog"}, form=form, deadline_seconds=60))
    for name, forms in FORMS.items()
    for form in forms
]
BROKEN = Ready(TICKET, failure=Failed(TICKET, "prediction_failed", "The model ran and failed.", "odd", charged=False))
OPEN: list[Open] = [Waiting(TICKET), Working(TICKET, 0.5), Ready(TICKET), BROKEN]
EVERY_CALL = pytest.mark.parametrize(("name", "call"), CALLS, ids=lambda value: getattr(value, "form", value))
EVERY_DIALECT = pytest.mark.parametrize("name", FORMS)
EVERY_OPEN_STATE = pytest.mark.parametrize("state", OPEN, ids=lambda state: type(state).__name__)

# Bodies that look like a provider's at first: known names and words, in wrong places and of wrong types.
WORDS = [
    "starting",
    "processing",
    "succeeded",
    "failed",
    "canceled",
    "IN_QUEUE",
    "COMPLETED",
    "QUEUED",
    "FAILED",
    "abc",
]
NAMES = ["id", "request_id", "status", "error", "error_type", "detail", "output", "urls", "logs", "metrics", "image"]
NAMES += [
    "queue_position",
    "data_removed",
    "status_url",
    "file_urls",
    "file_url",
    "upload_url",
    "message",
    "msg",
    "get",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner),
    max_leaves=8,
)
OBJECTS = st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, VALUES | st.sampled_from(WORDS)))
BODIES = st.binary(max_size=40) | (VALUES | OBJECTS).map(lambda value: json.dumps(value).encode())
HEADER_NAMES = ["content-type", "retry-after", "date", "x-rate-limit-reset-at-utc", "x-request-id", "x-cost"]
HEADERS = st.dictionaries(
    st.sampled_from([*HEADER_NAMES, "x-sandbox-confidence", "x-fal-error-type", "x-fal-request-timeout-type"]),
    st.text(max_size=12)
    | st.sampled_from(["application/json", "image/png", "text/html", "Sat, 21 Nov 2026 10:00:00 GMT"]),
)
STATUSES = st.integers(100, 599) | st.sampled_from(
    [200, 201, 202, 400, 402, 403, 404, 406, 408, 409, 422, 429, 500, 504]
)
# Many examples over all tests together; none is timed, because a busy machine is no defect.
QUICKLY = settings(max_examples=60, deadline=None)
JUNK = st.builds(Reply, STATUSES, HEADERS, BODIES)


@EVERY_CALL
def test_submit_is_a_post_that_carries_the_input(name: str, call: Call) -> None:
    built = find_dialect(name)(BASES).submit(call)
    assert built.method == "POST"
    assert isinstance(built.json, dict)
    assert call.input in (built.json, *built.json.values())


@EVERY_CALL
def test_a_submit_never_asks_the_provider_to_hold_the_reply(name: str, call: Call) -> None:
    """The id of a held reply comes up to a minute later, and may be lost all that time."""
    built = find_dialect(name)(BASES).submit(call)
    assert "prefer" not in {header.lower() for header in built.headers}


@EVERY_DIALECT
@EVERY_OPEN_STATE
def test_ask_is_always_a_get_without_a_body(name: str, state: Open) -> None:
    built = find_dialect(name)(BASES).ask(state)
    assert built.method == "GET"
    assert (built.json, built.content, built.source, built.form, built.data_uris) == (None,) * 5


@EVERY_DIALECT
def test_only_submit_goes_to_a_path_that_creates_a_prediction(name: str) -> None:
    dialect = find_dialect(name)(BASES)
    paying = {dialect.submit(call).url for other, call in CALLS if other == name}
    cancel = dialect.cancel(TICKET)
    free = [dialect.ask(state).url for state in OPEN] + ([] if cancel is None else [cancel.url])
    assert paying.isdisjoint(free)
    assert cancel is None or name in INSTALLED or cancel.url.endswith("/cancel")


@EVERY_DIALECT
def test_no_key_is_in_any_request(name: str) -> None:
    dialect = find_dialect(name)(BASES)
    sent_file = UploadFile(Path("a.png"), "a.png", "image/png", 3)
    built = [dialect.submit(call) for other, call in CALLS if other == name]
    built += [dialect.ask(state) for state in OPEN]
    built += [call for call in (dialect.cancel(TICKET), dialect.upload(sent_file)) if call]
    for call in built:
        assert call.with_key
        headers = {header.lower() for header in call.headers}
        assert headers.isdisjoint({"authorization", "x-api-key", "cookie"})
        known = {"cancel-after", "x-fal-request-timeout", "x-fal-request-start-timeout"}
        assert name in INSTALLED or headers <= known


@EVERY_DIALECT
def test_every_request_with_the_key_goes_to_our_own_base(name: str) -> None:
    dialect = find_dialect(name)(BASES)
    stranger = dict.fromkeys(("status_url", "response_url", "cancel_url"), "https://stranger.example/x")
    ticket = Ticket("abc123", "owner/model/part", stranger)
    built = [dialect.ask(Waiting(ticket)), dialect.ask(Ready(ticket)), dialect.cancel(ticket)]
    assert all(call.url.startswith(f"{BASE}/") for call in built if call)


def test_a_ticket_survives_json(conversation: Conversation) -> None:
    for exchange in conversation.exchanges():
        if isinstance(exchange.about, Call):
            continue
        ticket = exchange.about.ticket
        revived = ticket_from_json(json.loads(json.dumps(ticket_to_json(ticket))))
        assert revived == ticket
        assert conversation.dialect.ask(type(exchange.about)(revived)) == exchange.asked


def test_a_conversation_ends_in_a_final_state_and_never_before(conversation: Conversation) -> None:
    """The states of the exchanges but the last are open; reading the last gives a state with nothing left to ask."""
    *_, last = conversation.exchanges()
    end = conversation.dialect.read(last.answers[-1][0], last.about)
    assert is_final(end)


@EVERY_DIALECT
@pytest.mark.parametrize(
    "id_", ["", "../../accounts", "a b", "..", "a?b=c", "a/b", 7, None, ["x"], {"a": 1}, "x" * 300]
)
def test_an_id_that_cannot_be_asked_about_is_a_lost_reply(name: str, id_: object) -> None:
    call = Call(name, "owner/model", {}, form="v2")
    body = {"id": id_, "request_id": id_, "status": "starting"}
    with pytest.raises(ReplyLost):
        find_dialect(name)(BASES).read(Reply(201, {}, json.dumps(body).encode()), call)


@EVERY_CALL
@pytest.mark.parametrize("status", [302, 408, 409, 500, 502, 503, 504])
def test_a_reply_that_proves_nothing_is_a_lost_reply(name: str, call: Call, status: int) -> None:
    with pytest.raises(ReplyLost):
        find_dialect(name)(BASES).read(Reply(status, {"content-type": "text/html"}, b"<html>"), call)


@EVERY_DIALECT
@EVERY_OPEN_STATE
@pytest.mark.parametrize("word", ["succeeded", "COMPLETED", "failed", "FAILED", "canceled", "processing"])
def test_a_reply_that_names_another_prediction_says_nothing_about_ours(name: str, state: Open, word: str) -> None:
    output = {"img": "https://a.example/x.png"}
    body = {
        "id": "zzz999",
        "request_id": "zzz999",
        "status": word,
        "model_status": word,
        "output": output,
        "error": "x",
    }
    if name == "fal" and isinstance(state, Ready):
        return  # fal's result is the model's own output, whose members may have any name
    for status in (200, 422):
        with pytest.raises(ProviderDown):
            find_dialect(name)(BASES).read(Reply(status, {}, json.dumps(body).encode()), state)


def outcome(read: Callable[[], Answer]) -> Answer | RotoscopeError:
    """The result of a read, or the RotoscopeError that it raises; any other exception passes through."""
    try:
        return read()
    except RotoscopeError as error:
        return error


@EVERY_CALL
@given(reply=JUNK)
@QUICKLY
def test_any_reply_to_a_submit_is_a_prediction_or_a_documented_error(name: str, call: Call, reply: Reply) -> None:
    dialect = find_dialect(name)(BASES)
    match outcome(lambda: dialect.read(reply, call)):
        case InvalidInput() | Refused() | OutOfCredit() | Busy() | ReplyLost() as error:
            assert error.provider_message is None or len(error.provider_message) <= 2_000
        case Waiting() | Working() | Ready() as state:
            assert dialect.ask(state).method == "GET"
        case other:
            assert not isinstance(other, RotoscopeError), other
            assert is_final(other), other


@EVERY_DIALECT
@EVERY_OPEN_STATE
@given(reply=JUNK)
@QUICKLY
def test_any_reply_to_an_ask_is_a_prediction_or_a_documented_error(name: str, state: Open, reply: Reply) -> None:
    dialect = find_dialect(name)(BASES)
    match outcome(lambda: dialect.read(reply, state)):
        case ProviderDown() | Busy() | Refused() as error:
            assert not isinstance(error, ReplyLost)
        case after:
            assert not isinstance(after, RotoscopeError), after
            assert after.ticket == state.ticket


@EVERY_DIALECT
@given(reply=JUNK)
@QUICKLY
def test_any_reply_to_an_upload_is_a_plan_or_a_provider_error(name: str, reply: Reply) -> None:
    sent_file = UploadFile(Path("a.png"), "a.png", "image/png", 3)
    dialect = find_dialect(name)(BASES)
    match outcome(lambda: dialect.read_upload(reply, sent_file)):
        case UploadPlan(url=url):
            assert url.startswith("http")
        case other:
            assert isinstance(other, ProviderError)


@EVERY_DIALECT
def test_a_reply_too_deep_to_parse_is_like_one_that_is_no_json(name: str) -> None:
    deep = Reply(200, {}, b"[" * 200_000)
    with pytest.raises(ReplyLost):
        find_dialect(name)(BASES).read(deep, Call(name, "owner/model", {}))
