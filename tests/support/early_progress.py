"""What a call reports before it has a job: only where the server takes more than a second to load or to prepare it."""

from collections.abc import Iterable

__all__ = ["leave_out_early"]

_EARLY = ("is starting", "Preparing the request")


def leave_out_early(messages: Iterable[str]) -> list[str]:
    """The messages of progress since there was a job: a slow machine has others before them."""
    return [message for message in messages if not any(words in message for words in _EARLY)]
