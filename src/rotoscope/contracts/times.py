"""Moments as text: ISO 8601 in UTC, as every result and every provider writes them. Pure."""

from datetime import UTC, datetime

__all__ = ["timestamp"]


def timestamp(seconds: float, timespec: str = "seconds") -> str:
    """Unix seconds as ISO 8601 in UTC, such as `2026-11-27T23:00:00Z`.

    Args:
        seconds: since 1970-01-01, UTC.
        timespec: how exact, as `datetime.isoformat` names it: "seconds" or "milliseconds".
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
