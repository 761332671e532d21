"""How long a provider asks us to wait."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotoscope.providers.dialects.retry_after import MAX_RETRY_AFTER, retry_after
from rotoscope.providers.http.messages import Reply

NOW = {"date": "Sat, 21 Nov 2026 10:00:00 GMT"}
RESET = "x-rate-limit-reset-at-utc"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "86400"}, 60.0),
        ({"retry-after": "9" * 5000}, 60.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:09 GMT", **NOW}, 9.0),
        ({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT", **NOW}, 60.0),
        ({"retry-after": "Sat, 21 Nov 2026 09:00:00 GMT", **NOW}, None),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:09 GMT"}, None),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:09 GMT", "date": "today"}, None),
        ({RESET: "2026-11-21T10:00:12Z", **NOW}, 12.0),
        ({RESET: "2026-11-21 10:00:12", **NOW}, 12.0),
        ({RESET: "1795255212", **NOW}, 12.0),
        ({RESET: "9" * 400, **NOW}, None),
        ({RESET: "later", **NOW}, None),
        ({RESET: "2026-11-21T10:00:12Z"}, None),
        ({}, None),
    ],
)
def test_retry_after_reads_seconds_and_dates_from_headers(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(Reply(429, headers)) == seconds


@pytest.mark.parametrize(
    ("detail", "seconds"),
    [
        ("Request was throttled. Your rate limit resets in ~30s.", 30.0),
        ("Rate limit resets in 2.5 seconds", 2.5),
        ("Your rate limit resets in ~900s.", 60.0),
        ("Your rate limit resets soon.", None),
        ("Request was throttled. Expected available in 42 seconds.", 42.0),
        ("Rate limit reached. Please try again in 500ms.", 0.5),
        ("Too many requests, retry after 2 minutes", 60.0),
    ],
)
def test_retry_after_reads_seconds_from_a_sentence(detail: str, seconds: float) -> None:
    assert retry_after(Reply(429, {}, json.dumps({"detail": detail}).encode())) == seconds


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"detail": "busy", "retry_after": 7}, 7.0),
        ({"retry_after": "2.5"}, 2.5),
        ({"error": {"message": "busy", "retry_after": 12}}, 12.0),
        ({"retry_after": 1e300}, None),
        ({"retry_after": -1}, None),
        ({"retry_after": True}, None),
        ({"retry_after": None, "detail": "resets in 3s"}, 3.0),
    ],
)
def test_retry_after_reads_seconds_from_a_member_of_the_body(body: Any, seconds: float) -> None:
    assert retry_after(Reply(429, {}, json.dumps(body).encode())) == seconds


def test_the_header_counts_before_the_sentence() -> None:
    assert retry_after(Reply(429, {"retry-after": "3"}, b'{"detail": "resets in ~30s"}')) == 3.0


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_a_malformed_retry_after_is_neither_an_error_nor_a_long_wait(
    after: str, reset: str, date: str, detail: str
) -> None:
    headers = {"retry-after": after, RESET: reset, "date": date}
    asked = retry_after(Reply(429, headers, json.dumps({"detail": detail}).encode()))
    assert asked is None or 0 <= asked <= MAX_RETRY_AFTER
