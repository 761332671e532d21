"""The ladder: how long a call stays open, by what the client can do and how long the tool takes. Pure.

the client takes tasks       a short wait for what is quick, then a task
any other                    inline, as long as the client bears it, then a job handle; with progress where it sent a
                             token, else silently
"""

from rotoscope.server.clients.profiles import ClientProfile

__all__ = ["inline_budget", "poll_budget"]

_QUICK_SECONDS = 10.0  # what is expected to take less may be over within the short wait
_SHORT_WAIT_SECONDS = 2.5


def inline_budget(
    client: ClientProfile, expected: float | None, override: float | None = None, *, tasks: bool
) -> float:
    """How long one call may stay open for the result itself, in seconds.

    Args:
        client: its row of `clients.toml`.
        expected: how long the tool usually takes, in seconds; None where nobody knows.
        override: the operator's ROTOSCOPE_INLINE_SECONDS, which beats every row; 0 means never inline.
        tasks: whether the call becomes a task once the time is up.
    """
    budget = client.inline_seconds if override is None else override
    if not tasks:
        return budget
    return min(_SHORT_WAIT_SECONDS, budget) if expected is not None and expected < _QUICK_SECONDS else 0.0


def poll_budget(client: ClientProfile, override: float | None = None) -> float:
    """How long `get_job` may stay open, in seconds. It costs nothing, so one that is cut off does no harm."""
    if override is not None:
        return override
    return client.inline_seconds if client.wait_seconds is None else client.wait_seconds
