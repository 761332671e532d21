"""The lists of runs: what they show of an end, and when a row is the reply itself."""

import json
from typing import Any

import pytest

from rotoscope.errors import ProviderError
from rotoscope.providers.dialects import DIALECTS, Dialect
from rotoscope.providers.http.messages import Reply
from rotoscope.providers.states import Failed, Succeeded, Ticket, Waiting

BASES = {"api": "https://api.example.com", "platform": "https://platform.example.com"}
WHOLE = {
    "id": "p1",
    "model": "m",
    "status": "succeeded",
    "output": "https://replicate.delivery/o.png",
    "logs": "100%",
    "metrics": {"predict_time": 2.5},
    "urls": {},
    "error": None,
}


def replicate() -> Dialect:
    return DIALECTS["replicate"](BASES)


def fal() -> Dialect:
    return DIALECTS["fal"](BASES)


def page(*rows: Any, **more: Any) -> Reply:
    return Reply(200, {}, json.dumps({"results": rows, "items": rows, **more}).encode())


def test_replicates_list_starts_at_a_time_and_is_one_for_all_models() -> None:
    call = replicate().list_runs("a/b", 1_800_000_000.5)
    assert call is not None
    assert (call.method, call.url) == (
        "GET", "https://api.example.com/v1/predictions?created_after=2027-01-15T08%3A00%3A00.500Z",
    )  # fmt: skip
    assert replicate().list_runs("c/d", 1_800_000_000.5) == call


def test_a_whole_row_of_replicates_list_reads_like_the_reply_to_a_poll() -> None:
    (row,) = replicate().read_runs(page(WHOLE), "m").rows
    state = Waiting(Ticket("p1", "m"))
    assert row.status_reply is not None
    found = replicate().read(row.status_reply, state)
    assert found == replicate().read(Reply(200, {}, json.dumps(WHOLE).encode()), state)
    assert isinstance(found, Succeeded)


@pytest.mark.parametrize("missing", ["output", "logs", "metrics", "urls"])
def test_a_row_without_all_members_shows_the_end_and_is_no_reply(missing: str) -> None:
    cut = {name: value for name, value in WHOLE.items() if name != missing}
    (row,) = replicate().read_runs(page(cut), "m").rows
    assert (row.has_ended, row.status_reply) == (True, None)


@pytest.mark.parametrize("output", [None, "", [], {}])
def test_a_success_without_an_output_in_a_list_is_polled(output: object) -> None:
    (row,) = replicate().read_runs(page({**WHOLE, "output": output}), "m").rows
    assert (row.has_ended, row.status_reply) == (True, None)


@pytest.mark.parametrize("status", ["failed", "canceled", "aborted"])
def test_a_run_in_a_list_that_did_not_succeed_is_polled(status: str) -> None:
    (row,) = replicate().read_runs(page({**WHOLE, "status": status}), "m").rows
    assert (row.has_ended, row.status_reply) == (True, None)


@pytest.mark.parametrize("status", ["starting", "processing", "a word that nobody knows", None, 7, ["succeeded"], {}])
def test_an_unknown_status_is_a_running_prediction(status: object) -> None:
    (row,) = replicate().read_runs(page({**WHOLE, "status": status}), "m").rows
    assert (row.has_ended, row.status_reply) == (False, None)


def test_a_page_is_followed_only_on_our_own_base() -> None:
    own = replicate().read_runs(page(next="https://api.example.com/v1/predictions?cursor=2"), "m")
    other = replicate().read_runs(page(next="https://evil.example.org/v1/predictions?cursor=2"), "m")
    assert own.next_page is not None
    assert other.next_page is None


@pytest.mark.parametrize("dialect", [replicate(), fal()])
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"results": 7, "items": {}}', b'{"results": [1, null]}'])
def test_a_reply_without_a_list_shows_no_runs(dialect: Dialect, body: bytes) -> None:
    listed = dialect.read_runs(Reply(200, {}, body), "m")
    assert (listed.rows, listed.next_page) == ((), None)


@pytest.mark.parametrize("dialect", [replicate(), fal()])
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_a_refused_list_is_an_error_and_proves_nothing_about_runs(dialect: Dialect, status: int) -> None:
    with pytest.raises(ProviderError):
        dialect.read_runs(Reply(status, {}, json.dumps({"results": [WHOLE], "items": []}).encode()), "m")


def test_fals_list_is_one_per_endpoint_and_shows_ends_only() -> None:
    first, second = fal().list_runs("fal-ai/a", 1.0), fal().list_runs("fal-ai/b", 1.0)
    assert first is not None
    assert second is not None
    assert first.url != second.url
    rows = [
        {"request_id": "r1", "status_code": 200, "ended_at": "2026-11-21T10:00:00Z", "json_output": {"image": {}}},
        {"request_id": "r2", "status_code": 422, "ended_at": None},
        {"request_id": "r3", "status_code": None, "ended_at": None},
        {"request_id": 7, "status_code": 200},
    ]
    listed = fal().read_runs(page(*rows, next_cursor="c2"), "fal-ai/a")
    assert [(row.id, row.has_ended, row.status_reply) for row in listed.rows] == [
        ("r1", True, None), ("r2", True, None), ("r3", False, None),
    ]  # fmt: skip
    assert listed.next_page is not None
    assert "cursor=c2" in listed.next_page.url
    assert fal().read_runs(page(next_cursor=None), "fal-ai/a").next_page is None


def test_there_is_no_list_without_a_base_for_it_or_at_segmind() -> None:
    assert DIALECTS["fal"]({"api": "https://queue.example.com"}).list_runs("fal-ai/a", 1.0) is None
    segmind = DIALECTS["segmind"](BASES | {"history": "https://history.example.com"})
    assert segmind.list_runs("sam", 1.0) is None
    assert not segmind.read_runs(page(WHOLE), "sam").rows


def test_a_row_with_deleted_data_is_polled_and_not_read_as_a_failure() -> None:
    (row,) = replicate().read_runs(page({**WHOLE, "output": None, "data_removed": True}), "m").rows
    assert (row.has_ended, row.status_reply) == (True, None)
    answer = Reply(200, {}, json.dumps({**WHOLE, "output": None, "data_removed": True}).encode())
    assert isinstance(replicate().read(answer, Waiting(Ticket("p1", "m"))), Failed)
