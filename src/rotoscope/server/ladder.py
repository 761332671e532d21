"""The ladder: how a call is answered, by what the client can do and how long the tool takes. Pure.

the client declares tasks    a short wait for what is quick, then a task
it sent a progress token     inline with progress, as long as the client bears it, then a job handle
neither                      the same, silently
"""

from dataclasses import dataclass
from typing import Literal

from rotoscope.server.patience import Client

__all__ = ["Declared", "Rung", "rung"]

_QUICK_SECONDS = 10.0  # what is expected to take less may be over within the short wait
_SHORT_WAIT_SECONDS = 2.5


@dataclass(frozen=True, slots=True)
class Declared:
    """What a client said of itself with a call: the tasks extension, and a progress token."""

    tasks: bool = False
    progress: bool = False


@dataclass(frozen=True, slots=True)
class Rung:
    """How one call is answered.

    Attributes:
        kind: `task`: with a task once the time is up; `told`: inline with progress; `silent`: inline without.
        seconds: how long the call may stay open for the result itself.
    """

    kind: Literal["task", "told", "silent"]
    seconds: float


def rung(declared: Declared, client: Client, expected_seconds: float | None, override: float | None = None) -> Rung:
    """The rung of the ladder for one call.

    Args:
        declared: what the client said with the call.
        client: its row of `clients.toml`.
        expected_seconds: how long the tool usually takes; None where nobody knows.
        override: the operator's ROTOSCOPE_INLINE_SECONDS, which beats every row; 0 means never inline.
    """
    budget = client.inline_seconds if override is None else override
    if declared.tasks:
        quick = expected_seconds is not None and expected_seconds < _QUICK_SECONDS
        return Rung("task", min(_SHORT_WAIT_SECONDS, budget) if quick else 0.0)
    return Rung("told" if declared.progress else "silent", budget)
