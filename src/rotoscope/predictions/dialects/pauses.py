"""How long a provider asks us to wait before the next request."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from rotoscope.predictions.dialects.words import said
from rotoscope.wire.messages import Reply, http_date

__all__ = ["LONGEST_PAUSE", "pause"]

LONGEST_PAUSE = 60.0
"""Seconds. A provider may name a day; we ask again after a minute at the latest."""

_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_RESETS = re.compile(r"\bresets? in ~?\s*([0-9]+(?:\.[0-9]+)?)\s*s", re.IGNORECASE)


def pause(reply: Reply) -> float | None:
    """The seconds to wait that a reply names, at most `LONGEST_PAUSE`; None when it names none that make sense.

    Understood are `Retry-After` (seconds or an HTTP date), Segmind's `x-rate-limit-reset-at-utc`, and Replicate's
    sentence "Your rate limit resets in ~30s". A moment is measured from the reply's own `date` header, never from
    our clock, which may be wrong; without that header it says nothing.
    """
    headers = reply.headers
    named = (
        _seconds(headers.get("retry-after", "")),
        _until(headers, "retry-after", http_date),
        _until(headers, "x-rate-limit-reset-at-utc", _moment),
        _sentence(reply),
    )
    return next((min(seconds, LONGEST_PAUSE) for seconds in named if seconds is not None), None)


def _seconds(text: str) -> float | None:
    return float(text) if _SECONDS.fullmatch(text.strip()) else None


def _sentence(reply: Reply) -> float | None:
    found = _RESETS.search(said(reply) or "")
    return float(found[1]) if found else None


def _until(headers: Mapping[str, str], name: str, parsed: Callable[[str], datetime | None]) -> float | None:
    now = http_date(headers.get("date", ""))
    then = parsed(headers.get(name, ""))
    if now is None or then is None or then < now:
        return None
    return (then - now).total_seconds()


def _moment(text: str) -> datetime | None:
    try:
        if _SECONDS.fullmatch(text.strip()):
            return datetime.fromtimestamp(float(text), tz=UTC)
        return _in_utc(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError, OSError):
        return None


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
