"""How long a provider asks us to wait before the next request, from headers, fields or sentences of a reply."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from rotoscope.providers.dialects.provider_text import reply_message
from rotoscope.providers.http.messages import Json, Reply, http_date

__all__ = ["MAX_RETRY_AFTER", "retry_after"]

MAX_RETRY_AFTER = 60.0
"""Seconds; the longest wait that is believed. A provider may name a day; asking after a minute does no harm."""

_MAX_NUMBER = 1e9  # seconds; a number beyond this, or nan, is no wait

_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?")
# Replicate's sentence, that of Django REST framework, and what gateways write.
_SENTENCE = re.compile(
    r"\b(?:resets? in|available in|(?:try|retry)(?: again)?(?: in| after))\s*~?\s*"
    r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(ms|milliseconds?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)\b",
    re.IGNORECASE,
)
_BODY_KEYS = ("retry_after", "retryAfter", "retry_after_seconds")


def retry_after(reply: Reply) -> float | None:
    """The seconds to wait that a reply names, at most `MAX_RETRY_AFTER`; None when it names none that make sense.

    Understood are `Retry-After` (seconds or an HTTP date), Segmind's `x-rate-limit-reset-at-utc`, `retry_after` in the
    body, and sentences: Replicate's "Your rate limit resets in ~30s", and "Expected available in 42 seconds". A time of
    day is measured from the reply's own `date` header, never from our clock, which may be wrong; without that header
    it is ignored.
    """
    headers = reply.headers
    named = (
        _parse_seconds(headers.get("retry-after", "")),
        _seconds_until(headers, "retry-after", http_date),
        _seconds_until(headers, "x-rate-limit-reset-at-utc", _parse_moment),
        _body_seconds(reply),
        _sentence_seconds(reply),
    )
    return next((min(seconds, MAX_RETRY_AFTER) for seconds in named if seconds is not None), None)


def _parse_seconds(text: str) -> float | None:
    return float(text) if _SECONDS.fullmatch(text.strip()) else None


def _body_seconds(reply: Reply) -> float | None:
    """The seconds in a member of the body, or of its `error`."""
    fields = reply.fields()
    error = fields.get("error")
    places = (fields, error if isinstance(error, dict) else {})
    values = (place.get(name) for place in places for name in _BODY_KEYS)
    return next((seconds for value in values if (seconds := _json_seconds(value)) is not None), None)


def _json_seconds(value: Json) -> float | None:
    if isinstance(value, str):
        return _parse_seconds(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= _MAX_NUMBER else None


def _sentence_seconds(reply: Reply) -> float | None:
    found = _SENTENCE.search(reply_message(reply) or "")
    if found is None:
        return None
    unit = found[2].lower()
    return float(found[1]) * (0.001 if unit.startswith(("ms", "milli")) else 60.0 if unit.startswith("m") else 1.0)


def _seconds_until(headers: Mapping[str, str], name: str, parse: Callable[[str], datetime | None]) -> float | None:
    now = http_date(headers.get("date", ""))
    then = parse(headers.get(name, ""))
    if now is None or then is None or then < now:
        return None
    return (then - now).total_seconds()


def _parse_moment(text: str) -> datetime | None:
    try:
        if _SECONDS.fullmatch(text.strip()):
            return datetime.fromtimestamp(float(text), tz=UTC)
        return _in_utc(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError, OSError):
        return None


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
